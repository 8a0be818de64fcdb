"""What is found in a reply: votes, where they stand, and what they are on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from judge.ballots import CRITERIA, VERDICT
from judge.errors import ArenaJudgeError

_KEYS = {re.sub(r"[^a-z]", "", name): name for name in (*CRITERIA, VERDICT)}
CONCLUSION = (
    r"(?:final\W?)?(?:vote|answer|verdict|choice|winner|decision|judge?ment|preference|conclusion)"
    r"|better(?:\W?response)?"
)
"""A pattern for what a reply calls its vote where it names no criterion."""


class Unreadable(ArenaJudgeError):
    """A reply that no ballot can be read from.

    Args:
        reason: why, in a few words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote in a reply.

    Attributes:
        label: one of `judge.ballots.VOTES`.
        start, end: where the word that says it stands in the reply; alike where that is not known.
    """

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Item:
    """Something said on a criterion: a vote, or what is none and stands where one belongs.

    Attributes:
        name: the criterion, or the verdict.
        vote: None for what is off the scale.
        value: what was said.
        start, end: of the line, or of the whole JSON block.
        block: whether it is JSON.
    """

    name: str
    vote: Vote | None
    value: str
    start: int
    end: int
    block: bool


def criterion_of(key: str) -> str:
    """The criterion that a key means, or the verdict, whatever its case and marks; empty for
    none."""
    return _KEYS.get(re.sub(r"[^a-z]", "", key.lower()), "")
