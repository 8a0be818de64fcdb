"""What judges are made of in the end: those that do the judging, whatever is done to their word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from judge.judges.base import Judge


def leaves(judges: Iterable[Judge]) -> list[Judge]:
    """The judges that are made of no others, of these and within these, in their order."""
    found: list[Judge] = []
    for judge in judges:
        found += leaves(judge.members) if judge.members else [judge]
    return found
