"""What a calibrator is, and how a judge.yaml says one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from judge.calibration.context import METHOD as CONTEXT
from judge.calibration.context import NUMBERS, Context, Covariate
from judge.calibration.covariates import NAMES
from judge.calibration.isotonic import METHOD as ISOTONIC
from judge.calibration.isotonic import Curve, Isotonic
from judge.calibration.scaling import PARAMETERS, Scaling
from judge.errors import ArenaJudgeError, InputError

Floats = npt.NDArray[np.float64]


class Calibrator(Protocol):
    """A map from probabilities to better ones; exchanging A and B before or after is the same."""

    @property
    def method(self) -> str:
        """How it was learned."""

    @property
    def average(self) -> Floats | None:
        """(27,) the covariates of a battle like the average of those it learned from; None for a
        calibrator that looks at probabilities alone."""

    def apply(self, proba: Floats, covariates: Floats | None = None) -> Floats:
        """(N, 3) better probabilities; NaN rows stay.

        Args:
            proba: (N, 3).
            covariates: (N, 27) of the battles (see `judge.calibration.covariates`); only what has
                an `average` looks at them.

        Raises:
            ArenaJudgeError: it looks at battles, and was not given these.
        """

    def settings(self) -> dict[str, object]:
        """For a judge.yaml."""


def calibrator_from_settings(settings: object, *, file: str | Path | None = None) -> Calibrator:
    """The calibrator that a judge.yaml has under `calibrator`.

    Raises:
        InputError: a name or number that cannot be.
    """
    if not isinstance(settings, Mapping):
        raise InputError("calibrator is no list of names and numbers", file=file)
    values = dict(settings)
    method = values.pop("method", None)
    methods = (*PARAMETERS, ISOTONIC, CONTEXT)
    if not (isinstance(method, str) and method in methods):
        mend = f"it is one of {', '.join(methods)}"
        raise InputError(f"calibrator has the method {method!r}", file=file, mend=mend)
    allowed = {ISOTONIC: {"sides", "tie"}, CONTEXT: {*NUMBERS, "covariates"}}.get(
        method, set(NUMBERS)
    )
    unknown = sorted(str(name) for name in values if name not in allowed)
    if unknown:
        mend = f"it may have {', '.join(sorted(allowed))}"
        raise InputError(f"calibrator has {unknown[0]!r}, which is unknown", file=file, mend=mend)
    try:
        if method == ISOTONIC:
            return Isotonic(_curve(values["sides"]), _curve(values["tie"]))
        if method == CONTEXT:
            return _context(values, file)
        return Scaling(str(method), **{name: float(value) for name, value in values.items()})
    except ArenaJudgeError as error:
        raise InputError(str(error), file=file) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"calibrator cannot be read ({error!r})", file=file) from None


def _context(values: Mapping[str, Any], file: str | Path | None) -> Context:
    columns = values["covariates"]
    unknown = sorted(str(name) for name in columns if name not in NAMES)
    if unknown:
        what = f"calibrator has the covariate {unknown[0]!r}, which is unknown"
        mend = "it may be another version's: calibrate again"
        raise InputError(what, file=file, mend=mend)
    numbers = {name: float(values[name]) for name in NUMBERS}
    return Context(
        Scaling("dirichlet", **numbers),
        tuple(
            Covariate(name, **{what: float(one[what]) for what in ("mean", "spread", "weight")})
            for name, one in columns.items()
        ),
    )


def _curve(points: Mapping[str, list[float]]) -> Curve:
    return Curve(tuple(map(float, points["at"])), tuple(map(float, points["value"])))
