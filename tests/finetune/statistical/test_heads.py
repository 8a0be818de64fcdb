"""What is learned after the strengths, also where there is little to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.statistical.crossing import crossed_strengths, grouped_folds, out_of_fold
from finetune.statistical.heads import Parts, finish, fit_heads, strengths_of
from finetune.statistical.making import hedged
from finetune.statistical.strength import learn_strength
from finetune.statistical.tables import Table, prepare
from judge.battles import labels, read_battles
from judge.judges.statistical import StatisticalJudge
from judge.judges.statistical_weights import Weights
from tests.finetune.statistical.quick import battles, quick

__all__ = ["quick"]

Ints = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    read = read_battles(battles(tmp_path_factory.mktemp("heads") / "b.csv", 40))
    said = labels(read)
    assert said is not None
    return prepare(read, said)


@pytest.fixture(scope="module")
def weights(table: Table) -> Weights:
    return learn_strength(table, table.labels, 0, trees=5)


def test_a_strength_that_is_wrong_is_not_turned_round(table: Table, weights: Weights) -> None:
    parts = strengths_of(table, weights)
    rows = np.ones(len(table), dtype=bool)
    right = fit_heads(weights, parts, table, rows)
    assert right.scale > 0
    wrong = fit_heads(weights, Parts(-parts.linear, -parts.forest), table, rows)
    assert wrong.scale == 0
    assert np.allclose(wrong.proba[:, 0], wrong.proba[:, 1])


def test_strengths_that_say_nothing_make_a_sound_judge(
    table: Table, weights: Weights, tmp_path: Path
) -> None:
    nothing = np.zeros((len(table), 5))
    made = finish(weights, Parts(nothing, nothing), table)
    judge = StatisticalJudge(made)
    proba = judge.predict_proba(read_battles(battles(tmp_path / "b.csv", 10)))
    assert np.isfinite(proba).all()
    assert np.isfinite(made.vote_scale).all()
    assert np.allclose(proba.sum(axis=1), 1.0)


def test_a_battle_does_not_bear_on_what_is_said_of_it(table: Table, weights: Weights) -> None:
    """Its label changed, what heads and strengths say of it stays, and of others it changes."""
    groups = np.arange(len(table)) // 2
    parts = strengths_of(table, weights)
    before = out_of_fold(weights, parts, table, groups, 0)
    other = table.labels.copy()
    other[:2] = other[:2][:, [2, 0, 1]]
    turned = Table(other, table.natural, table.found, table.grams, table.signs)
    after = out_of_fold(weights, parts, turned, groups, 0)
    fold = grouped_folds(groups, 10, 0)
    own = fold == fold[0]
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


def test_strengths_are_learned_from_the_other_folds(table: Table, weights: Weights) -> None:
    asked: list[Ints] = []

    def learn(rows: Ints) -> Weights:
        asked.append(rows)
        return weights

    fold = np.arange(len(table)) % 3
    found = crossed_strengths(table, fold, learn)
    assert len(asked) == 3
    for k, rows in enumerate(asked):
        assert set(rows.tolist()) == set(np.flatnonzero(fold != k).tolist())
    whole = strengths_of(table, weights)
    assert np.allclose(found.linear, whole.linear, atol=1e-12)
    assert np.allclose(found.forest, whole.forest, atol=1e-12)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_hedged_labels_rule_nothing_out(classes: list[int]) -> None:
    said = np.eye(3)[classes]
    mixed = hedged(said)
    assert (mixed > 0).all()
    assert np.allclose(mixed.sum(axis=1), 1.0)
    assert np.allclose(mixed.sum(axis=0), said.sum(axis=0), atol=1.0)
    assert (mixed.argmax(axis=1) == said.argmax(axis=1)).all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5))
def test_a_prompt_is_in_one_fold(prompts: list[int], seed: int) -> None:
    groups = np.array([-1, *prompts])
    fold = grouped_folds(groups, 4, seed)
    assert fold[0] == -1
    assert all(len(set(fold[groups == group].tolist())) == 1 for group in set(groups.tolist()))
