"""Calibrators: maps from probabilities to better ones, learned from labels.

`scaling` and `isotonic` are the maps, `choosing` fits them and chooses one, `measuring` says what
it did to the probabilities.
"""

from __future__ import annotations

from judge.calibration.choosing import METHODS, Calibration, calibrate
from judge.calibration.kinds import Calibrator, calibrator_from_settings
from judge.calibration.measuring import Part, Study, study

__all__ = [
    "METHODS",
    "Calibration",
    "Calibrator",
    "Part",
    "Study",
    "calibrate",
    "calibrator_from_settings",
    "study",
]
