"""Battles with their features, and some of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finetune.statistical import tables
from finetune.statistical.heads import strengths_of
from finetune.statistical.strength import learn_strength
from finetune.statistical.tables import prepare
from judge.battles import labels, read_battles
from tests.finetune.statistical.quick import battles, quick

__all__ = ["quick"]


@pytest.mark.parametrize("workers", [1, 3])
def test_some_of_the_battles_are_as_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(tables, "_BATCH", 7)
    table = read_battles(battles(tmp_path / "b.csv", 30))
    said = labels(table)
    assert said is not None
    whole = prepare(table, said, workers=workers)
    weights = learn_strength(whole, said, 0, trees=3)
    rows = np.array([0, 2, 3, 15, 16, 29])
    taken = whole.take(rows)
    alone = prepare(table.iloc[rows].reset_index(drop=True), said[rows])
    assert len(taken) == len(alone) == len(rows)
    assert np.array_equal(taken.labels, alone.labels)
    assert np.array_equal(taken.context, alone.context)
    assert np.array_equal(taken.signs.toarray(), alone.signs.toarray())
    for criterion, values in alone.found.responses.items():
        assert np.array_equal(taken.found.responses[criterion], values)
    assert sum(part.battles for part in taken.grams) == len(rows)
    every, some, own = (strengths_of(t, weights) for t in (whole, taken, alone))
    for part in ("linear", "forest"):
        assert np.allclose(getattr(every, part)[rows], getattr(some, part), atol=1e-12)
        assert np.allclose(getattr(some, part), getattr(own, part), atol=1e-12)
    assert np.abs(some.linear).max() > 0
    assert not whole.take(rows, grams=False).grams


def test_no_battle_may_be_chosen(tmp_path: Path) -> None:
    table = read_battles(battles(tmp_path / "b.csv", 8))
    said = labels(table)
    assert said is not None
    nothing = prepare(table, said).take(np.zeros(0, dtype=np.int64))
    assert len(nothing) == 0
    assert nothing.signs.shape[0] == 0
