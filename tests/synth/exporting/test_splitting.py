"""The test split: whole prompts, the share asked for, alike in what battles were drawn as."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.exporting.splitting import held_out


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=80),
    st.floats(0, 0.5),
    st.integers(0, 5),
)
def test_groups_stay_together_and_the_share_is_kept(
    groups: list[int], share: float, seed: int
) -> None:
    codes = np.array(groups)
    strata = [group % 3 for group in groups]
    test = held_out(codes, strata, share, seed)
    for group in set(groups):
        assert len(set(test[codes == group].tolist())) == 1
    largest = int(np.bincount(codes).max())
    # No further off than half of the group that would have been too much, or was not there.
    assert abs(int(test.sum()) - share * len(groups)) <= largest


def test_strata_have_their_shares() -> None:
    rng = np.random.default_rng(0)
    strata = rng.choice(["code", "talk", "law"], 3000, p=[0.6, 0.3, 0.1]).tolist()
    test = held_out(np.arange(3000), strata, 0.1, 0)
    assert int(test.sum()) == 300
    for name in ("code", "talk", "law"):
        rows = np.array([stratum == name for stratum in strata])
        assert test[rows].mean() == pytest.approx(0.1, abs=0.01)


def test_the_draw_depends_on_the_seed_and_not_on_numbers() -> None:
    groups = np.arange(200) // 2
    strata = [0] * 200
    one = held_out(groups, strata, 0.2, 1)
    assert np.array_equal(one, held_out(1000 - groups, strata, 0.2, 1))
    assert not np.array_equal(one, held_out(groups, strata, 0.2, 2))


def test_nothing_is_held_out_where_nothing_is_asked_for() -> None:
    assert not held_out(np.zeros(9, dtype=np.int64), [0] * 9, 0.0, 0).any()
    # One prompt cannot be in both.
    assert not held_out(np.zeros(9, dtype=np.int64), [0] * 9, 0.05, 0).any()
