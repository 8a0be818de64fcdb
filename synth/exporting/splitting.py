"""A test split: by prompt, so that no prompt is in both, and alike in what is drawn from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt


def held_out(
    groups: npt.NDArray[np.int64], strata: Sequence[Hashable], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """(N,) the rows of the test split: about `share` of them, and of those of each stratum.

    Rows of a group are on one side. Groups are drawn in random order within the stratum of their
    first row, as long as the stratum's share does not pass what it should be; what is owed to
    strata that are too small for a row of their own is carried over to the next.

    Args:
        groups: (N,) which rows stay together, from 0.
        strata: N, what each row is drawn as.
        share: from 0 to 1.
        seed: of the draw. Which group a row is in matters, and not what it is called.
    """
    known, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    order = np.argsort(first, kind="stable")  # by appearance, whatever the numbers are
    members: dict[Hashable, list[int]] = {}
    for place in order.tolist():
        members.setdefault(strata[int(first[place])], []).append(place)
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    owed = 0.0
    for places in sorted(members.values(), key=lambda places: -int(sizes[places].sum())):
        owed += share * float(sizes[places].sum())
        for place in rng.permutation(np.array(places, dtype=np.int64)).tolist():
            # The nearest that can be had: a group that is more than half within what is owed.
            if owed > 0 and sizes[place] <= 2 * owed:
                chosen.append(place)
                owed -= float(sizes[place])
    return np.isin(groups, known[np.array(chosen, dtype=np.int64)])
