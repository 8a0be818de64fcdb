"""A battle made to fit a context, and what was left out of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from judge.encoding import BattleText, Measured


@dataclass(frozen=True)
class Cut:
    """What was left out: tokens of the prompt, of A and of B, and rounds left out whole.

    The tokens of rounds that were left out are among those counted.
    """

    prompt: int = 0
    response_a: int = 0
    response_b: int = 0
    rounds: int = 0

    def __bool__(self) -> bool:
        return any(self.as_dict().values())

    def __str__(self) -> str:
        """As it stands on a ballot: `prompt 12, rounds 1`; nothing where nothing was cut."""
        return ", ".join(f"{name} {count}" for name, count in self.as_dict().items() if count)

    def as_dict(self) -> dict[str, int]:
        return {
            "prompt": self.prompt,
            "response_a": self.response_a,
            "response_b": self.response_b,
            "rounds": self.rounds,
        }

    def swapped(self) -> Cut:
        return replace(self, response_a=self.response_b, response_b=self.response_a)


@dataclass(frozen=True)
class Fitted:
    """A battle, or a part of one, that fits.

    Attributes:
        texts: the turns to show.
        cut: what is missing from them.
        weight: what the part's votes count for when a battle's parts are pooled; sums to 1.
        rounds: which rounds of the conversation these are, from 0.
        part, parts: which part this is, from 0, and of how many.
    """

    texts: BattleText
    cut: Cut = field(default_factory=Cut)
    weight: float = 1.0
    rounds: tuple[int, ...] = ()
    part: int = 0
    parts: int = 1

    def swapped(self) -> Fitted:
        return replace(self, texts=self.texts.swapped(), cut=self.cut.swapped())


class Round(NamedTuple):
    """A turn of the prompt and both answers to it, measured."""

    prompt: Measured
    response_a: Measured
    response_b: Measured

    @property
    def lengths(self) -> tuple[int, int, int]:
        return self.prompt.count, self.response_a.count, self.response_b.count

    @property
    def length(self) -> int:
        return sum(self.lengths)
