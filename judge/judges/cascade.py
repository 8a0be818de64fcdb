"""A cascade: a cheap judge answers what it is sure of, a dearer one the rest.

    kind: cascade
    judges: [statistical, endpoint:gpt-4.1-mini]   # the cheapest first
    sure: 0.7      # or one number for each judge but the last

A judge is sure of a battle when its most probable outcome has at least that probability. What the
dearer judge cannot say anything of stays with the cheaper one's answer, if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.cascading import ROUNDING
from judge.errors import ArenaJudgeError, InputError
from judge.judges.base import Judge, Judgments
from judge.judges.recipes import Recipe

Floats = npt.NDArray[np.float64]


class CascadeJudge(Judge):
    """Judges that are asked one after the other until one is sure.

    Args:
        judges: two or more, the cheapest first.
        sure: for each but the last, the probability that its most probable outcome must have; one
            that is above 1 sends every battle on.
        name: how it is called in tables.

    Attributes:
        asked: how many battles each judge was asked about so far.
        kept: how many stayed with a judge that was not sure, because the next had no answer.

    Raises:
        ArenaJudgeError: numbers that do not fit.
    """

    def __init__(self, judges: Sequence[Judge], sure: Sequence[float], name: str = "") -> None:
        if len(judges) < 2 or len(sure) != len(judges) - 1:
            raise ArenaJudgeError(
                f"a cascade of {len(judges)} judges wants {max(1, len(judges) - 1)} numbers that "
                f"say when one is sure, not {len(sure)}"
            )
        if not all(limit >= 0 for limit in sure):
            raise ArenaJudgeError("how sure a judge must be is a probability")
        self.members = tuple(judges)
        self.sure = tuple(float(limit) for limit in sure)
        self.name = name or " > ".join(judge.name for judge in judges)
        self.asked = [0] * len(judges)
        self.kept = 0
        self._counting = Lock()

    @classmethod
    def compose(cls, recipe: Recipe) -> CascadeJudge:
        """The cascade that a recipe describes.

        Raises:
            InputError: its judges cannot be had, or it does not say when one is sure.
        """
        judges = recipe.told().members()
        try:
            said = recipe.settings.get("sure")
            limits = said if isinstance(said, list) else [said] * (len(judges) - 1)
            numbers = [_number(limit) for limit in limits if _is_number(limit)]
            if len(numbers) < len(limits):
                raise InputError(
                    "does not say when a judge is sure", file=recipe.file, mend="add sure: 0.7"
                )
            try:
                return cls(judges, numbers, recipe.name(""))
            except ArenaJudgeError as error:
                raise InputError(str(error), file=recipe.file) from None
        except BaseException:
            for judge in judges:
                judge.close()
            raise

    @property
    def prior(self) -> Floats | None:
        """(3,) what the last judge that says so says of a battle without evidence."""
        priors = (getattr(judge, "prior", None) for judge in reversed(self.members))
        return next((prior for prior in priors if prior is not None), None)

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Each battle as the first judge says that is sure of it."""
        proba = np.full((len(battles), 3), np.nan)
        reasons: dict[int, str] = {}
        tables: list[pd.DataFrame] = []
        open_ = np.arange(len(battles))
        for stage, member in enumerate(self.members):
            if len(open_) == 0:
                break
            said = member.judge(battles.iloc[open_].reset_index(drop=True), ballots=ballots)
            judged = ~np.isnan(said.proba).any(axis=1)
            before = ~np.isnan(proba[open_]).any(axis=1)
            with self._counting:  # batches may be judged at once
                self.asked[stage] += len(open_)
                self.kept += int((before & ~judged).sum())
            proba[open_[judged]] = said.proba[judged]
            for place, reason in said.reasons.items():
                if not before[place]:
                    reasons[int(open_[place])] = reason
            for place in open_[judged].tolist():
                reasons.pop(place, None)
            if said.ballots is not None:
                tables.append(said.ballots)
            if stage < len(self.sure):
                top = np.where(judged, said.proba.max(axis=1, initial=0.0), -1.0)
                open_ = open_[~judged | (top < self.sure[stage] - ROUNDING)]
        return Judgments(proba, reasons, pd.concat(tables, ignore_index=True) if tables else None)


def _number(limit: float) -> float:
    try:
        return float(limit)
    except OverflowError:  # YAML's whole numbers have no end
        return np.inf if limit > 0 else -np.inf


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
