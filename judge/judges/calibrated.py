"""A judge whose probabilities go through a calibrator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.calibration.covariates import covariates_of
from judge.calibration.kinds import Calibrator, calibrator_from_settings
from judge.judges.base import Judge, Judgments

if TYPE_CHECKING:
    from judge.judges.recipes import Recipe

Floats = npt.NDArray[np.float64]


class CalibratedJudge(Judge):
    """Another judge, calibrated.

    Args:
        inner: the judge.
        calibrator: what is done to its probabilities.
        name: how it is called in tables.
    """

    def __init__(self, inner: Judge, calibrator: Calibrator, name: str | None = None) -> None:
        self.inner = inner
        self.calibrator = calibrator
        self.name = name or f"{inner.name}, calibrated"
        self.members = (inner,)

    @classmethod
    def compose(cls, recipe: Recipe) -> CalibratedJudge:
        """The judge that `arena-judge calibrate` has made: `judge` in its recipe names the other,
        `calibrator` says what is done, `asking` and `running` how it is asked or run.

        Raises:
            InputError: its numbers cannot be read, or that judge is not there.
        """
        calibrator = calibrator_from_settings(
            recipe.settings.get("calibrator", {}), file=recipe.file
        )
        inner = recipe.told().member()
        return cls(inner, calibrator, recipe.name(f"{inner.name}, calibrated"))

    @property
    def prior(self) -> Floats | None:
        """(3,) what is said of an average battle without evidence, if the other judge says it."""
        prior: Floats | None = getattr(self.inner, "prior", None)
        if prior is None:
            return None
        average = self.calibrator.average
        seen = None if average is None else average[None]
        found: Floats = self.calibrator.apply(np.asarray(prior)[None], seen)[0]
        return found

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """The other judge's probabilities, calibrated; its reasons and ballots are passed on."""
        said = self.inner.judge(battles, ballots=ballots)
        seen = None if self.calibrator.average is None else covariates_of(battles)
        return replace(said, proba=self.calibrator.apply(said.proba, seen))
