"""Shows how far judges are that take long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from judge.cli.console import Progress
from judge.cli.ticking import follow, stop

if TYPE_CHECKING:
    from judge.judges.base import Judge


@contextmanager
def watched(judge: Judge, battles: int) -> Iterator[None]:
    """While the block judges so many battles."""
    with Progress("battles", battles) as progress:
        follow([judge], progress)
        try:
            yield
        except BaseException:
            stop(judge)
            raise
