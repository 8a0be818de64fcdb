"""Several judges blended into one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from judge.blending.kinds import Blend, blend_from_settings
from judge.blending.pools import Ranking
from judge.errors import ArenaJudgeError, InputError
from judge.judges.base import Judge, Judgments

if TYPE_CHECKING:
    from judge.judges.recipes import Recipe


class BlendedJudge(Judge):
    """Several judges, and how their probabilities become one's.

    Args:
        members: in the order that the blend wants.
        blend: what is done with their probabilities.
        name: how it is called in tables.

    Raises:
        ArenaJudgeError: the blend is made for another number of judges.
    """

    def __init__(self, members: Sequence[Judge], blend: Blend, name: str | None = None) -> None:
        if len(members) != blend.members:
            raise ArenaJudgeError(
                f"the blend is made for {blend.members} judges, and {len(members)} are named"
            )
        self.members = tuple(members)
        self.blend = blend
        self.name = name or f"blend of {len(members)}"

    @classmethod
    def compose(cls, recipe: Recipe) -> BlendedJudge:
        """The judge that `arena-judge blend` has made: `judges` in its recipe lists the members,
        `blend` says how they are blended, `asking` and `running` how they are asked or run.

        Raises:
            InputError: its numbers cannot be read, or a member is not there.
        """
        blend = blend_from_settings(recipe.settings.get("blend", {}), file=recipe.file)
        members = recipe.told().members()
        with ExitStack() as stack:
            for member in members:
                stack.callback(member.close)
            try:
                judge = cls(members, blend, recipe.name(f"blend of {len(members)}"))
            except ArenaJudgeError as error:
                raise InputError(str(error), file=recipe.file) from None
            stack.pop_all()
        return judge

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """The blend. Where the best member speaks alone, the others are asked only about what it
        left unjudged. Ballots are those of all members that fill any in."""
        ranked = isinstance(self.blend.pool, Ranking)
        found = (self._in_turn if ranked else self._at_once)(battles, ballots)
        proba = self.blend.apply(np.stack([one.proba for one in found]))
        silent = np.flatnonzero(np.isnan(proba[:, 0])).tolist()
        tables = [one.ballots for one in found if one.ballots is not None]
        return Judgments(
            proba,
            {place: self._reason(found, place) for place in silent},
            pd.concat(tables, ignore_index=True) if tables else None,
        )

    def _at_once(self, battles: pd.DataFrame, ballots: bool) -> list[Judgments]:
        with ThreadPoolExecutor(len(self.members)) as pool:
            asked = [pool.submit(one.judge, battles, ballots=ballots) for one in self.members]
            try:
                return [future.result() for future in asked]
            except BaseException:  # the others would be waited for to their end
                self.close()
                raise

    def _in_turn(self, battles: pd.DataFrame, ballots: bool) -> list[Judgments]:
        nothing = Judgments(np.full((len(battles), 3), np.nan))
        found = [nothing] * len(self.members)
        left = np.arange(len(battles))
        for number in _order(self.blend):
            if not len(left):
                break
            rest = battles.iloc[left].reset_index(drop=True)
            said = self.members[number].judge(rest, ballots=ballots)
            proba = nothing.proba.copy()
            proba[left] = said.proba
            reasons = {int(left[place]): reason for place, reason in said.reasons.items()}
            found[number] = Judgments(proba, reasons, said.ballots)
            left = left[np.isnan(said.proba).any(axis=1)]
        return found

    def _reason(self, found: list[Judgments], place: int) -> str:
        said = [
            f"{member.name}: {one.reasons.get(place, 'no reason given')}"
            for member, one in zip(self.members, found, strict=True)
        ]
        return "; ".join(said)


def _order(blend: Blend) -> tuple[int, ...]:
    assert isinstance(blend.pool, Ranking)
    return blend.pool.order
