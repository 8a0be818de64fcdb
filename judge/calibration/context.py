"""A calibrator that sees the battle: what makes a tie likely is seen in the battle itself (how
alike the responses are, how long, what is asked), and a judge that has learned from battles without
ties knows nothing of it.

With d', s' those of `dirichlet` (see `judge.calibration.scaling`), x the covariates, standardised
by the battles it was learned from and bounded at 4,

    d'' = d' + the sided x . u
    s'' = s' + the symmetric x . w

The form is an ordinal model's of a judge's score and covariates of the text (F. Maia Polo et al.
2025, "Bridging human and LLM judgments", arXiv 2508.12792) in Davidson's terms. Exchanging the
responses changes the sign of d'' and leaves s''. The fit is that of `dirichlet`, and pulls u and w
to nought: what a few battles say of a covariate is not believed, what a thousand say is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.calibration.covariates import NAMES, SIDED
from judge.calibration.scaling import Scaling, problem_of
from judge.davidson import probabilities
from judge.errors import ArenaJudgeError
from judge.loglinear import Pull, fit_weights

Floats = npt.NDArray[np.float64]

METHOD = "context"
NUMBERS = ("strength", "sides", "tie", "shift")
"""What it has in common with `dirichlet`."""
BOUND = 4.0
"""What a standardised covariate is cut off at."""
SYMMETRIC_PULL, SIDED_PULL = 200.0, 100.0
"""As if so many times 1/2 w**2 nats were known to be lost."""

_BASE = "dirichlet"
_LIMIT = 2.0  # of a weight: with it, no probability comes out as 0
_LARGEST = 1e9  # of a mean or a spread; covariates are logarithms and shares
_ALIKE = 1e-9  # spreads below that are rounding


@dataclass(frozen=True)
class Covariate:
    """A column, how it is standardised and what it is worth.

    Attributes:
        name: one of `judge.calibration.covariates.NAMES`.
        mean: 0 for a sided one, which is as often one way round as the other.
        spread: the standard deviation.
        weight: what one such deviation adds, in nats: to s, or to d if it is sided.

    Raises:
        ArenaJudgeError: no such covariate, or a number that cannot be.
    """

    name: str
    mean: float
    spread: float
    weight: float

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ArenaJudgeError(f"calibrator: no covariate is called {self.name!r}")
        if not (abs(self.mean) <= _LARGEST and 0.0 < self.spread <= _LARGEST):
            raise ArenaJudgeError(
                f"calibrator: {self.name} has the mean {self.mean} and the spread {self.spread}"
            )
        if self.sided and self.mean != 0.0:
            raise ArenaJudgeError(f"calibrator: {self.name} has the mean {self.mean}, not 0")
        if not abs(self.weight) <= _LIMIT:
            raise ArenaJudgeError(
                f"calibrator: {self.name} has the weight {self.weight}, "
                f"not from {-_LIMIT:g} to {_LIMIT:g}"
            )

    @property
    def sided(self) -> bool:
        """Whether exchanging the responses changes its sign."""
        return self.name in SIDED


@dataclass(frozen=True)
class Context:
    """A calibrator of the form above.

    Attributes:
        scaling: its part that sees probabilities alone.
        covariates: those that it looks at.

    Raises:
        ArenaJudgeError: a covariate stands there twice.
    """

    scaling: Scaling
    covariates: tuple[Covariate, ...]

    def __post_init__(self) -> None:
        names = [one.name for one in self.covariates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ArenaJudgeError(f"calibrator: {twice[0]} stands there twice")

    @property
    def method(self) -> str:
        return METHOD

    @property
    def average(self) -> Floats:
        """(27,) the covariates' means, 0 where it does not look."""
        found = np.zeros(len(NAMES))
        found[self._columns] = [one.mean for one in self.covariates]
        return found

    @property
    def strongest(self) -> tuple[Covariate, ...]:
        """The covariates, that of the largest weight first."""
        return tuple(sorted(self.covariates, key=lambda one: -abs(one.weight)))

    @property
    def _columns(self) -> list[int]:
        return [NAMES.index(one.name) for one in self.covariates]

    def apply(self, proba: Floats, covariates: Floats | None = None) -> Floats:
        """(N, 3) better probabilities; NaN rows stay.

        Args:
            proba: (N, 3).
            covariates: (N, 27) of the battles (see `judge.calibration.covariates`).

        Raises:
            ArenaJudgeError: covariates are missing, or those of other battles.
        """
        p = np.asarray(proba, dtype=np.float64)
        x = checked_covariates(covariates, len(p))
        mean, spread, weight = (
            np.array([getattr(one, name) for one in self.covariates], dtype=np.float64)
            for name in ("mean", "spread", "weight")
        )
        # In one layout, so that rows are summed alike however many there are.
        seen = np.ascontiguousarray(x[:, self._columns])
        said = np.clip((seen - mean) / spread, -BOUND, BOUND) * weight
        sided = np.array([one.sided for one in self.covariates], dtype=np.bool_)
        strength, tie = self.scaling.strengths(p)
        return probabilities(
            strength + (said * sided).sum(axis=1), tie + (said * ~sided).sum(axis=1)
        )

    def settings(self) -> dict[str, object]:
        """For a judge.yaml; `calibrator_from_settings` reads it back to the last digit."""
        numbers = {name: getattr(self.scaling, name) for name in NUMBERS}
        columns = {
            one.name: {"mean": one.mean, "spread": one.spread, "weight": one.weight}
            for one in self.covariates
        }
        return {"method": METHOD, **numbers, "covariates": columns}


def checked_covariates(covariates: npt.ArrayLike | None, count: int) -> Floats:
    """(N, 27) the same as an array.

    Raises:
        ArenaJudgeError: there are none, not as many as battles, or not all are numbers.
    """
    if covariates is None:
        raise ArenaJudgeError(f"the method {METHOD} looks at battles, and was not given them")
    x = np.asarray(covariates, dtype=np.float64)
    if x.shape != (count, len(NAMES)):
        raise ArenaJudgeError(f"covariates are {x.shape}, not {(count, len(NAMES))}")
    if not np.isfinite(x).all():
        raise ArenaJudgeError("covariates are not all numbers")
    return x


def fit_context(labels: Floats, proba: Floats, covariates: Floats) -> Context:
    """The calibrator with the least log loss, and pull, on labelled battles.

    Args:
        labels: (N, 3) shares of A, B and tie.
        proba: (N, 3), no NaN.
        covariates: (N, 27), no NaN.
    """
    sided = np.isin(NAMES, SIDED)
    mean = np.where(sided, 0.0, covariates.mean(axis=0))
    spread = np.sqrt(np.square(covariates - mean).mean(axis=0))
    spread = np.where(spread > _ALIKE, spread, 1.0)
    standard = np.clip((covariates - mean) / spread, -BOUND, BOUND)
    base = problem_of(_BASE, proba)
    own = len(base.pull.centre)
    held = np.where(sided, SIDED_PULL, SYMMETRIC_PULL)
    curve = np.diag(np.concatenate([np.zeros(own), held]))
    curve[:own, :own] = base.pull.curve
    limits = np.full(len(NAMES), _LIMIT)
    pull = Pull(
        np.concatenate([base.pull.centre, np.zeros(len(NAMES))]),
        curve,
        np.concatenate([base.pull.low, -limits]),
        np.concatenate([base.pull.high, limits]),
    )
    strength = np.concatenate([base.strength, standard * sided], axis=1)
    tie = np.concatenate([base.tie, standard * ~sided], axis=1)
    weights = fit_weights(strength, tie, labels, pull)
    columns = (values.tolist() for values in (mean, spread, weights[own:]))
    found = tuple(Covariate(*one) for one in zip(NAMES, *columns, strict=True))
    return Context(base.scaling(weights[:own]), found)
