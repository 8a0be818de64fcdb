"""Sets of outcomes: they hold the label as often as asked, and say so where they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.conformal import (
    Conformity,
    abstains,
    fit_conformity,
    load_conformity,
    measure,
    named,
    parse_sets,
)
from judge.errors import ArenaJudgeError, InputError

SWAPPED = [1, 0, 2]


def drawn(
    generator: np.random.Generator, prompts: int, most: int = 1, confidence: float = 2.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, an over-confident judge's probabilities, and the prompts: battles about one prompt
    are alike."""
    sizes = generator.integers(1, most + 1, size=prompts)
    groups = np.repeat(np.arange(prompts), sizes)
    logits = np.repeat(generator.normal(size=(prompts, 3)), sizes, axis=0)
    logits += 0.3 * generator.normal(size=logits.shape)
    true = np.exp(logits)
    true /= true.sum(axis=1, keepdims=True)
    said = np.exp(confidence * logits)
    said /= said.sum(axis=1, keepdims=True)
    choice = (generator.random(len(true))[:, None] > np.cumsum(true, axis=1)).sum(axis=1)
    return np.eye(3)[np.minimum(choice, 2)], said, groups


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [0.2, 1.0, 4.0])
def test_sets_at_90_percent_hold_the_label_90_times_in_a_hundred(confidence: float) -> None:
    generator = np.random.default_rng(5)
    covered = []
    for _ in range(1000):
        labels, proba, _ = drawn(generator, 800, confidence=confidence)
        sets = fit_conformity(labels[:400], proba[:400]).sets(proba[400:], 0.9)
        covered.append((labels[400:] * sets).sum(axis=1).mean())
    assert 0.89 < np.mean(covered) < 0.91


@pytest.mark.slow
def test_battles_about_one_prompt_do_not_make_a_judge_surer() -> None:
    """With each battle counted by itself prompts with many battles would decide."""
    generator = np.random.default_rng(6)
    covered = []
    for _ in range(400):
        labels, proba, groups = drawn(generator, 300, most=12)
        old = groups < 200
        learned = fit_conformity(labels[old], proba[old], groups[old])
        found = measure(labels[~old], learned.sets(proba[~old], 0.9), groups[~old])
        covered.append(found.covered)
        assert found.low < found.covered < found.high
    assert 0.89 < np.mean(covered) < 0.915


def test_the_quantile_is_the_textbook_one() -> None:
    proba = np.column_stack([np.arange(1, 10) / 10, 1 - np.arange(1, 10) / 10, np.zeros(9)])
    labels = np.tile([1.0, 0.0, 0.0], (9, 1))
    learned = fit_conformity(labels, proba)
    # ceil((9 + 1) * 0.8) = the 8th of nine scores 0.1 … 0.9
    assert learned.threshold(0.8) == pytest.approx(0.8)
    assert learned.threshold(0.9) == pytest.approx(0.9)
    assert learned.threshold(0.91) == np.inf
    assert learned.sets(np.array([[0.98, 0.01, 0.01]]), 0.91).all()


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_swapping_the_responses_swaps_the_set(seed: int, coverage: float) -> None:
    generator = np.random.default_rng(seed)
    labels, proba, groups = drawn(generator, 60, most=3)
    there = fit_conformity(labels, proba, groups)
    back = fit_conformity(labels[:, SWAPPED], proba[:, SWAPPED], groups)
    sets = there.sets(proba, coverage)
    np.testing.assert_array_equal(back.sets(proba[:, SWAPPED], coverage), sets[:, SWAPPED])
    assert sets.any(axis=1).all()
    wider = there.sets(proba, min(0.99, coverage + 0.04))
    assert (wider >= sets).all()


@given(st.integers(0, 10_000))
def test_what_is_in_a_set_is_at_least_as_probable_as_what_is_not(seed: int) -> None:
    labels, proba, groups = drawn(np.random.default_rng(seed), 40)
    sets = fit_conformity(labels, proba, groups).sets(proba, 0.7)
    least = np.where(sets, proba, np.inf).min(axis=1)
    most = np.where(sets, -np.inf, proba).max(axis=1)
    assert (least >= most).all()


def test_the_unjudged_are_decided_by_nobody() -> None:
    labels, proba, groups = drawn(np.random.default_rng(1), 50)
    learned = fit_conformity(labels, proba, groups)
    rows = np.array([[np.nan] * 3, [0.98, 0.01, 0.01]])
    assert learned.sets(rows, 0.5).tolist() == [[True] * 3, [True, False, False]]


def test_votes_of_several_people_count_by_their_shares() -> None:
    proba = np.array([[0.7, 0.2, 0.1]] * 3)
    labels = np.array([[0.5, 0.5, 0.0]] * 3)
    learned = fit_conformity(labels, proba)
    np.testing.assert_allclose(learned.scores, [0.3] * 3 + [0.8] * 3)
    np.testing.assert_allclose(learned.weights, 0.5)
    found = measure(labels, learned.sets(proba, 0.3), [0, 1, 2])
    assert found.covered == 0.5
    assert (found.size, found.answered, found.right) == (1.0, 1.0, 0.5)


def test_what_names_are_given_is_read_again() -> None:
    every = np.array([bits for bits in np.ndindex(2, 2, 2) if any(bits)], dtype=bool)
    names = named(every)
    assert names == ["tie", "B", "B|tie", "A", "A|tie", "A|B", "A|B|tie"]
    np.testing.assert_array_equal(parse_sets(names), every)
    assert abstains(every).tolist() == [False, False, True, False, True, True, True]
    assert parse_sets([None, ""]).all()
    with pytest.raises(ArenaJudgeError, match="'C' is no set"):
        parse_sets(["C"])


def test_it_is_kept_in_a_folder(tmp_path: Path) -> None:
    labels, proba, groups = drawn(np.random.default_rng(2), 50, most=4)
    learned = fit_conformity(labels, proba, groups)
    assert load_conformity(tmp_path) is None
    learned.save(tmp_path)
    again = load_conformity(tmp_path)
    assert isinstance(again, Conformity)
    np.testing.assert_array_equal(again.sets(proba, 0.8), learned.sets(proba, 0.8))
    file = tmp_path / "conformal.npz"
    for damaged in (file.read_bytes()[:40], b"", b"PK\x03\x04 nothing"):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"conformal\.npz: cannot be read"):
            load_conformity(tmp_path)
    np.savez(file, scores=np.array([0.5, 0.1]), weights=np.ones(2), prompts=2)
    with pytest.raises(InputError, match="does not hold"):
        load_conformity(tmp_path)


def test_what_cannot_be_learned_from_is_said() -> None:
    labels, proba, _ = drawn(np.random.default_rng(3), 5)
    with pytest.raises(ArenaJudgeError, match="both labelled and judged"):
        fit_conformity(np.full((5, 3), np.nan), proba)
    with pytest.raises(ArenaJudgeError, match="groups of shape"):
        fit_conformity(labels, proba, np.arange(4))
    with pytest.raises(ArenaJudgeError, match="shape"):
        fit_conformity(labels, proba[:, :2])
    with pytest.raises(ArenaJudgeError, match="coverage lies between"):
        fit_conformity(labels, proba).threshold(1.0)
    with pytest.raises(ArenaJudgeError, match="no battle"):
        measure(np.empty((0, 3)), np.empty((0, 3), dtype=bool), [])
