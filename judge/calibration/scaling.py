"""Calibrators that are linear in the logarithms of the probabilities, with the symmetry built in.

With z the logarithms of P(A), P(B), P(tie), m = (z_A + z_B) / 2, and d, s as in `judge.loglinear`,

    d' = strength d
    s' = tie z_tie + sides m + shift

is all that softmax(W z + b) can be when exchanging A and B exchanges what comes out (W then has
three numbers on and three off its diagonal, of which the softmax sees strength, tie and sides):

    identity          strength = tie = 1, sides = -1, shift = 0
    temperature       strength = tie = -sides = 1 / T                    (C. Guo et al. 2017)
    bias              the identity with a shift: another rate of ties    (M. Saerens et al. 2002)
    temperature+bias  both                                    (A. Alexandari et al. 2020, "BCTS")
    vector            strength = -sides, tie, shift: a weight a class, the same for A and B
    dirichlet         all four: matrix scaling                           (M. Kull et al. 2019)

The fit minimises the log loss plus a pull toward the identity that is worth about a battle, and for
`dirichlet` 5 (strength + sides)**2 / 2: that is 10 times the square of what W must have off its
diagonal to say the same, over 2 (their ODIR). So ties that no label has become rare, and not
impossible, and a judge that is always right is not raised to certainty.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from judge.davidson import probabilities
from judge.errors import ArenaJudgeError
from judge.loglinear import Pull, fit_weights, logs

Floats = npt.NDArray[np.float64]

PARAMETERS = {
    "identity": 0,
    "temperature": 1,
    "bias": 1,
    "temperature+bias": 2,
    "vector": 3,
    "dirichlet": 4,
}
"""The methods, the simplest first, and how many numbers each learns."""

# Within these no probability comes out as 0, whatever comes in.
COLDEST, HOTTEST = 0.05, 1000.0
_MOST = 1.0 / COLDEST
_OFF = 10.0
_SHIFT = 20.0
_LIMITS = {
    "strength": (0.0, _MOST),
    "tie": (0.0, _MOST),
    "sides": (-_MOST - _OFF, _OFF),
    "shift": (-_SHIFT, _SHIFT),
}
_SCALE_PULL, _SHIFT_PULL, _OFF_PULL = 1.0, 0.1, 5.0


@dataclass(frozen=True)
class Scaling:
    """A calibrator of the form above.

    Attributes:
        method: how it was fitted, one of `PARAMETERS`.
        strength, sides, tie, shift: its numbers.

    Raises:
        ArenaJudgeError: no such method, or a number that cannot be.
    """

    method: str = "identity"
    strength: float = 1.0
    sides: float = -1.0
    tie: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in PARAMETERS:
            raise ArenaJudgeError(f"calibrator: no method is called {self.method!r}")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not (np.isfinite(value) and low <= value <= high):
                raise ArenaJudgeError(
                    f"calibrator: {name} is {value}, not from {low:g} to {high:g}"
                )

    @property
    def average(self) -> None:
        """It looks at no battle."""

    @property
    def temperature(self) -> float | None:
        """What d is divided by; None where nothing of d is left."""
        return 1.0 / self.strength if self.strength > 0 else None

    def apply(self, proba: Floats, covariates: Floats | None = None) -> Floats:
        """(N, 3) better probabilities; NaN rows stay, and the identity changes nothing at all."""
        if self.method == "identity":
            return np.array(proba, dtype=np.float64)
        return probabilities(*self.strengths(proba))

    def strengths(self, proba: Floats) -> tuple[Floats, Floats]:
        """(N,) d' and s' of (N, 3) probabilities."""
        z = logs(np.asarray(proba, dtype=np.float64))
        middle = (z[..., 0] + z[..., 1]) / 2.0
        tie = self.tie * z[..., 2] + self.sides * middle + self.shift
        return self.strength * (z[..., 0] - z[..., 1]), tie

    def settings(self) -> dict[str, object]:
        """For a judge.yaml; `calibrator_from_settings` reads it back to the last digit."""
        return {"method": self.method} if self.method == "identity" else asdict(self)


IDENTITY = Scaling()


def fit_scaling(method: str, labels: Floats, proba: Floats) -> Scaling:
    """The calibrator of this method with the least log loss, and pull, on labelled battles.

    Args:
        method: one of `PARAMETERS`.
        labels: (N, 3) shares of A, B and tie.
        proba: (N, 3), no NaN.
    """
    if method == "identity":
        return IDENTITY
    problem = problem_of(method, proba)
    return problem.scaling(fit_weights(problem.strength, problem.tie, labels, problem.pull))


@dataclass(frozen=True)
class Problem:
    """What is fitted: d' = strength @ w, s' = tie @ w.

    Attributes:
        method: one of `PARAMETERS`, not the identity.
        strength, tie: (N, K).
        pull: toward the identity.
    """

    method: str
    strength: Floats
    tie: Floats
    pull: Pull

    def scaling(self, weights: Floats) -> Scaling:
        """The calibrator that (K,) weights make."""
        w = np.concatenate([weights, [0.0, weights[0], 0.0][len(weights) - 1 :]])
        scale, shifted, tie_scale, off = map(float, w)  # tie and what is off-diagonal if not fitted
        return Scaling(self.method, scale, off - scale, tie_scale, shifted)


def problem_of(method: str, proba: Floats) -> Problem:
    """What is fitted to make a calibrator of this method for (N, 3) probabilities, no NaN."""
    z = logs(proba)
    zero, one = np.zeros(len(z)), np.ones(len(z))
    middle, d = (z[:, 0] + z[:, 1]) / 2.0, z[:, 0] - z[:, 1]
    heat, shift = (d, z[:, 2] - middle), (zero, one)
    columns = {
        "temperature": [heat],
        "bias": [heat, shift],
        "temperature+bias": [heat, shift],
        "vector": [(d, -middle), shift, (zero, z[:, 2])],
        "dirichlet": [(d, -middle), shift, (zero, z[:, 2]), (zero, middle)],
    }[method]
    strength, tie = (np.column_stack(part) for part in zip(*columns, strict=True))
    return Problem(method, strength, tie, _pull(method, len(columns)))


def _pull(method: str, count: int) -> Pull:
    """Toward the identity, for the first `count` of strength, shift, tie, off-diagonal."""
    fixed = method == "bias"
    low = np.array([1.0 if fixed else 1.0 / HOTTEST, -_SHIFT, 0.0, -_OFF])
    high = np.array([1.0 if fixed else _MOST, _SHIFT, _MOST, _OFF])
    curve = np.diag([_SCALE_PULL, _SHIFT_PULL, _SCALE_PULL, _OFF_PULL])
    centre = np.array([1.0, 0.0, 1.0, 0.0])
    return Pull(centre[:count], curve[:count, :count], low[:count], high[:count])
