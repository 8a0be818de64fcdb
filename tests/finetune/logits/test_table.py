"""Tables of logits: written, read, and laid beside battles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune.logits.arrays import read_npy, write_npy
from finetune.logits.table import (
    aligned,
    log_softmax,
    logits_of,
    mean_over_orders,
    probabilities,
    read_logits,
    write_logits,
)
from judge.battles import read_battles, swap
from judge.errors import InputError
from tests.finetune.files import battle, write


@pytest.fixture
def battles(tmp_path: Path) -> pd.DataFrame:
    return read_battles(write(tmp_path / "b.jsonl", [battle(n, "a") for n in range(5)]))


def _values(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 3))


def test_a_table_comes_back_to_the_last_bit(tmp_path: Path, battles: pd.DataFrame) -> None:
    values = _values(5)
    values[3] = np.nan
    made = logits_of(battles, values, teacher="T", folds=[0, 1, 2, 0, -1], about={"in_fold": False})
    write_logits(tmp_path / "t.parquet", made)
    found = read_logits(tmp_path / "t.parquet")
    np.testing.assert_array_equal(found.values, values)
    assert (found.ids, found.teacher) == (made.ids, "T")
    assert found.folds.tolist() == [0, 1, 2, 0, -1]
    assert (found.about["in_fold"], found.about["version"]) == (False, 1)
    np.testing.assert_array_equal(aligned(found, battles), values)
    write_logits(tmp_path / "again.parquet", made)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "t.parquet").read_bytes()


def test_battles_in_another_order_swapped_or_missing(battles: pd.DataFrame) -> None:
    values = _values(5)
    made = logits_of(battles, values, teacher="T")
    np.testing.assert_array_equal(aligned(made, battles.iloc[::-1]), values[::-1])
    np.testing.assert_array_equal(aligned(made, swap(battles)), values[:, [1, 0, 2]])
    some = made.take([0, 2])
    found = aligned(some, battles)
    np.testing.assert_array_equal(found[[0, 2]], values[[0, 2]])
    assert np.isnan(found[[1, 3, 4]]).all()


def test_orders_are_averaged_in_log_space(battles: pd.DataFrame) -> None:
    one, other = _values(5, 1), _values(5, 2) + 7.0  # constants of a row say nothing
    first = logits_of(battles, one, teacher="T", order="AB")
    both = replace(
        first,
        ids=first.ids * 2,
        folds=np.tile(first.folds, 2),
        orders=("AB",) * 5 + ("BA",) * 5,
        values=np.concatenate([one, other]),
        marks=np.tile(first.marks, 2),  # type: ignore[arg-type]
        turned=np.tile(first.turned, 2),  # type: ignore[arg-type]
    )
    mean = mean_over_orders(both)
    assert mean.orders == ("mean",) * 5
    expected = (log_softmax(one) + log_softmax(other)) / 2
    np.testing.assert_allclose(probabilities(mean.values), probabilities(expected), rtol=1e-12)
    np.testing.assert_allclose(aligned(both, battles), mean.values)


def test_tables_of_other_battles(tmp_path: Path, battles: pd.DataFrame) -> None:
    made = logits_of(battles, _values(5), teacher="T")
    with pytest.raises(InputError, match=r"row 5, column id: 'n4' is no battle of b\.jsonl"):
        aligned(made, battles.iloc[:4], "b.jsonl")
    assert len(aligned(made, battles.iloc[:4], strict=False)) == 4
    other = battles.assign(response_a=[("something else",)] * 5)
    with pytest.raises(InputError, match=r"b\.jsonl, row 1, column id: 'n0' was another battle"):
        aligned(made, other, "b.jsonl")
    by_id = replace(made, marks=None, turned=None)
    with pytest.raises(InputError, match="row 3, column id: 'n2' stands in row 3 too"):
        aligned(by_id, battles.iloc[[2, 2]], "b.jsonl", strict=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logit_b": [0.0, float("inf")]}, "row 2, column logit_b: is inf"),
        ({"logit_b": [0.0, float("nan")]}, "row 2, column logit_b: is nan"),
        ({"logit_tie": [None, 0.0]}, "row 1, column logit_tie: is nan"),
        ({"logit_a": ["x", "y"]}, "column logit_a: holds what is no number"),
        ({"id": ["n0", "n0"]}, "row 2, column id: 'n0' stands in row 1 too"),
        ({"id": ["n0", None]}, "row 2, column id: is no text"),
        ({"teacher": ["T", "S"]}, "row 2, column teacher: is 'S', and 'T' before"),
        ({"order": ["AB", "XY"]}, "row 2, column order: is 'XY'"),
        ({"fold": [0, 100_000]}, "column fold: is not of the type int16"),
        ({"logit_a": None}, "column logit_a: has no such column"),
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    columns: dict[str, Any] = {
        "id": ["n0", "n1"],
        "fold": [0, 1],
        "teacher": ["T", "T"],
        "order": ["mean", "mean"],
        "logit_a": [0.0, 1.0],
        "logit_b": [0.0, 1.0],
        "logit_tie": [0.0, 1.0],
    } | change
    table = {name: cells for name, cells in columns.items() if cells is not None}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=message) as found:
        read_logits(tmp_path / "t.parquet")
    assert str(found.value).startswith(str(tmp_path / "t.parquet"))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        read_logits(tmp_path / "no.parquet")
    (tmp_path / "t.parquet").write_text("id,fold")
    with pytest.raises(InputError, match="no Parquet file"):
        read_logits(tmp_path / "t.parquet")


def test_arrays(tmp_path: Path, battles: pd.DataFrame) -> None:
    values = _values(5)
    values[1] = np.nan
    write_npy(tmp_path / "llama.npy", values)
    found = read_npy(tmp_path / "llama.npy", battles)
    assert found.teacher == "llama"
    np.testing.assert_array_equal(aligned(found, battles), values)
    np.save(tmp_path / "f.npy", values[:4])
    with pytest.raises(InputError, match=r"f\.npy: has the shape \(4, 3\), and 5 battles need"):
        read_npy(tmp_path / "f.npy", battles)
    values[2, 1] = np.inf
    np.save(tmp_path / "f.npy", values)
    with pytest.raises(InputError, match="row 3, column logit_b: is inf"):
        read_npy(tmp_path / "f.npy", battles)
    np.save(tmp_path / "f.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="no array of numbers"):
        read_npy(tmp_path / "f.npy", battles)
