"""Which response is shown as A, by chance and by content alone.

Collections may say whose answer is A by how they were made: the one that won, the one of the newer
model. What is learned from that is wrong everywhere else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from judge.comparing.marks import Marks
from judge.features.text import mix

_ODD = 0x9E37_79B9_7F4A_7C15
_ALL = (1 << 64) - 1


def turns(marks: Marks, seed: int) -> npt.NDArray[np.bool_]:
    """(N,) battles whose responses are to be exchanged.

    The way round that a battle ends up hangs on its texts and the seed, not on the way round it
    stood, the row or the file.
    """
    key = np.uint64((seed + 1) * _ODD & _ALL)
    heads = (mix(mix(marks.battles ^ key)) >> np.uint64(63)).astype(np.bool_)
    # Responses that are the same to marks have no way round; they are turned or not all the same.
    return np.where(marks.turned == 0, heads, (marks.turned > 0) != heads)
