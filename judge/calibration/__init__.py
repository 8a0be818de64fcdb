"""Calibrators: maps from probabilities to better ones, learned from labels.

`scaling`, `isotonic` and `context` are the maps, the last of which looks at the `covariates` of the
battles; `choosing` fits them and chooses one, `measuring` says what it did to the probabilities.
"""

from __future__ import annotations

from judge.calibration.choosing import METHODS, WITH_CONTEXT, Calibration, calibrate
from judge.calibration.covariates import covariates_of
from judge.calibration.kinds import Calibrator, calibrator_from_settings
from judge.calibration.measuring import Part, Study, study

__all__ = [
    "METHODS",
    "WITH_CONTEXT",
    "Calibration",
    "Calibrator",
    "Part",
    "Study",
    "calibrate",
    "calibrator_from_settings",
    "covariates_of",
    "study",
]
