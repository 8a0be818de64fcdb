"""Predictions laid beside the battles that they are for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.comparing.matching import align
from judge.errors import InputError

Floats = npt.NDArray[np.float64]


def _proba(size: int) -> Floats:
    return np.random.default_rng(size).dirichlet([2.0] * 3, size)


def _predictions(ids: list[str], proba: Floats) -> pd.DataFrame:
    columns = ["winner_model_a", "winner_model_b", "winner_tie"]
    return pd.DataFrame({"id": ids}).join(pd.DataFrame(proba, columns=columns))


@given(st.permutations(range(8)), st.integers(1, 8))
def test_predictions_find_their_battles_by_id(order: list[int], kept: int) -> None:
    proba = _proba(8)
    ids = [f"battle {n}" for n in range(8)]
    rows = order[:kept]
    table = _predictions(
        [*(ids[n] for n in rows), "unheard of"], np.vstack([proba[rows], [1, 0, 0]])
    )
    aligned = align(ids, table)
    assert (aligned.missing, aligned.unknown) == (8 - kept, 1)
    expected = np.where(np.isin(np.arange(8), rows)[:, None], proba, np.nan)
    np.testing.assert_array_equal(aligned.proba, expected)


def test_alike_ids_in_the_same_order_go_by_position() -> None:
    proba = _proba(3)
    aligned = align(["1", "1", "2"], _predictions(["1", "1", "2"], proba))
    np.testing.assert_array_equal(aligned.proba, proba)
    assert (aligned.missing, aligned.unknown) == (0, 0)


@pytest.mark.parametrize(
    ("ids", "given", "said"),
    [
        (["1", "1", "2"], ["1", "2", "1"], "p.csv, column id: id '1' occurs more than once in the"),
        (["1", "2"], ["2", "2"], "more than once in the predictions"),
        (["1", "1"], ["1", "2"], "more than once in the battles"),
        (["1", "2"], ["3", "4"], "none of its ids"),
    ],
)
def test_predictions_that_cannot_be_laid_beside_battles_are_refused(
    ids: list[str], given: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        align(ids, _predictions(given, np.full((len(given), 3), 1 / 3)), file="p.csv")
