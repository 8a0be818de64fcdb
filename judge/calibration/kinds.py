"""What a calibrator is, and how a judge.yaml says one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

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

    def apply(self, proba: Floats) -> Floats:
        """(N, 3) better probabilities; NaN rows stay."""

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
    known = isinstance(method, str) and method in (*PARAMETERS, ISOTONIC)
    allowed = {"sides", "tie"} if method == ISOTONIC else {"strength", "sides", "tie", "shift"}
    if not known:
        mend = f"it is one of {', '.join((*PARAMETERS, ISOTONIC))}"
        raise InputError(f"calibrator has the method {method!r}", file=file, mend=mend)
    unknown = sorted(str(name) for name in values if name not in allowed)
    if unknown:
        mend = f"it may have {', '.join(sorted(allowed))}"
        raise InputError(f"calibrator has {unknown[0]!r}, which is unknown", file=file, mend=mend)
    try:
        if method == ISOTONIC:
            return Isotonic(_curve(values["sides"]), _curve(values["tie"]))
        return Scaling(str(method), **{name: float(value) for name, value in values.items()})
    except ArenaJudgeError as error:
        raise InputError(str(error), file=file) from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"calibrator cannot be read ({error!r})", file=file) from None


def _curve(points: Mapping[str, list[float]]) -> Curve:
    return Curve(tuple(map(float, points["at"])), tuple(map(float, points["value"])))
