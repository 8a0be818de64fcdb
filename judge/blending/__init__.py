"""Several judges' probabilities made one.

`pools` are the ways to do it, `afterwards` what may be done to the result, `learning` how each is
learned, `choosing` which is taken.
"""

from __future__ import annotations

from judge.blending.choosing import METHODS, OPTIONS, Blending, blend
from judge.blending.kinds import Blend, blend_from_settings

__all__ = ["METHODS", "OPTIONS", "Blend", "Blending", "blend", "blend_from_settings"]
