"""Labelled battles read once, with what judges say of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge.errors import InputError
from judge.judges.base import Judge, Judgments
from judge.labelled import prompt_mark, read_labelled


class Sides(Judge):
    """Says A by the length of A's share; cannot say of equal ones."""

    name = "sides"

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        sizes = np.array(
            [
                [sum(map(len, turns)) for turns in battles[column]]
                for column in ("response_a", "response_b")
            ],
            dtype=np.float64,
        ).T
        proba = np.column_stack([sizes / sizes.sum(axis=1, keepdims=True), np.zeros(len(sizes))])
        proba[sizes[:, 0] == sizes[:, 1]] = np.nan
        return Judgments(proba)


def battles(path: Path, prompts: list[str], *, labels: bool = True) -> str:
    rows = []
    for n, prompt in enumerate(prompts):
        row = {
            "id": f"b{n}",
            "prompt": json.dumps([prompt]),
            "response_a": json.dumps(["x" * (1 + n % 4)]),
            "response_b": json.dumps(["y" * (1 + n % 3)]),
        }
        rows.append(row | ({"winner": ["a", "b", "tie", None][n % 4]} if labels else {}))
    file = path / "battles.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    return str(file)


@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_and_workers_change_nothing(tmp_path: Path, chunk_rows: int, workers: int) -> None:
    file = battles(tmp_path, ["p", "q", "p", "r", "q", "s", "p"])
    done: list[int] = []
    found = read_labelled(
        file,
        {"sides": Sides(), "again": Sides()},
        facts=lambda table: pd.DataFrame({"n": [len(ids) for ids in table["id"]]}),
        chunk_rows=chunk_rows,
        workers=workers,
        tick=done.append,
    )
    assert found.ids == [f"b{n}" for n in range(7)]
    assert found.prompts.tolist() == [0, 1, 0, 2, 1, 3, 0]
    assert found.labels[2].tolist() == [0, 0, 1]
    assert np.isnan(found.labels[3]).all()
    np.testing.assert_array_equal(found.proba["sides"], found.proba["again"])
    assert np.isnan(found.proba["sides"][0]).all()
    assert found.proba["sides"][3].tolist() == [0.8, 0.2, 0.0]
    assert found.facts is not None
    assert found.facts["n"].tolist() == [2] * 7
    assert sum(done) == 7


def test_without_labels_there_is_one_line_unless_they_come_later(tmp_path: Path) -> None:
    file = battles(tmp_path, ["p", "q"], labels=False)
    with pytest.raises(InputError, match=r"battles\.csv: has no labels.*add winner_model_a"):
        read_labelled(file)
    found = read_labelled(file, unlabelled=True)
    assert np.isnan(found.labels).all()
    assert found.facts is None
    assert found.proba == {}


def test_a_prompt_is_known_by_its_turns() -> None:
    marks = {prompt_mark(turns) for turns in [("a", "b"), ("ab",), ("a",), ("b", "a"), ("\ud83d",)]}
    assert len(marks) == 5
    assert all(0 <= mark < 1 << 63 for mark in marks)
    assert prompt_mark(("a", "b")) == prompt_mark(("a", "b"))
