"""A comparison in words: who is better, who cannot be told apart, and what it would take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from judge.comparing.verdicts import notes, verdicts
from judge.comparison import Comparison, compare

Floats = npt.NDArray[np.float64]


def _draw(seed: int, size: int, spread: float = 0.7) -> tuple[Floats, Floats]:
    """Labels drawn from the probabilities beside them."""
    generator = np.random.default_rng(seed)
    proba = generator.dirichlet([spread] * 3, size)
    chosen = (generator.random((size, 1)) > proba.cumsum(axis=1)[:, :2]).sum(axis=1)
    return np.eye(3)[chosen], proba


def _blurred(proba: Floats, share: float) -> Floats:
    return (1 - share) * proba + share / 3


def _compared(shares: dict[str, float], size: int = 400) -> Comparison:
    labels, proba = _draw(1, size)
    return compare(labels, {n: _blurred(proba, s) for n, s in shares.items()}, rounds=300)


def test_one_judge_is_measured_by_the_prior_alone() -> None:
    assert verdicts(_compared({"good": 0.0})) == []
    labels, _ = _draw(1, 50)
    random = np.random.default_rng(9).dirichlet([99, 99, 99], 50)
    found = verdicts(compare(labels, {"useless": random}, rounds=300))
    assert found == ["useless cannot be told from the class prior."]


def test_the_better_of_two() -> None:
    assert verdicts(_compared({"worse": 0.9, "good": 0.0})) == [
        "good is better than the other (Holm-corrected p < 0.05)."
    ]


def test_groups_that_cannot_be_told_apart_are_named_with_what_it_would_take() -> None:
    labels, proba = _draw(1, 300)
    noise = np.exp(0.1 * np.random.default_rng(2).normal(size=proba.shape))
    noisy = proba * noise / (proba * noise).sum(axis=1, keepdims=True)
    poor, poorer = _blurred(proba, 0.9), _blurred(noisy, 0.9)
    judges = {"a": proba, "b": noisy, "c": poor, "d": poorer}
    found = verdicts(compare(labels, judges, rounds=300))
    assert found[0].startswith("a has the least log loss; it is better than d and c beyond doubt")
    assert found[1] == "a and b cannot be told apart on this data."
    assert found[2] == "Nor can d and c be told apart."
    assert found[3].startswith("More battles like these that would tell them from a, were the")
    assert "(80 % power): b about " in found[3] or "(80 % power): b over" in found[3]
    assert len(found) == 4


def test_what_is_worse_than_a_constant_is_said() -> None:
    labels, proba = _draw(2, 300)
    judges = {"good": proba, "wrong": proba[:, [1, 2, 0]], "awful": proba[:, [2, 0, 1]]}
    found = verdicts(compare(labels, judges, rounds=300))
    assert any(
        line.endswith("are worse than the class prior beyond doubt.") and "wrong" in line
        for line in found
    )


def test_judges_that_say_the_same_are_not_told_apart_by_any_number_of_battles() -> None:
    found = verdicts(_compared({"one": 0.3, "two": 0.3, "three": 0.3}))
    assert found[0] == "one has the least log loss, but is better than no other beyond doubt."
    assert found[1] == "one, two and three cannot be told apart on this data."
    assert found[2] == "two and three have the very log loss of one."
    assert len(found) == 3


def test_numbers_beyond_all_measure_are_not_spelled_out() -> None:
    labels, proba = _draw(3, 100)
    close = proba.copy()
    close[0] = _blurred(proba[:1], 1e-9)[0]
    found = verdicts(compare(labels, {"one": proba, "two": close}, rounds=300))
    text = found[-1]
    assert "times as many as here" in text or "about" in text
    assert "e+" not in text
    assert "inf" not in text


def test_notes_say_what_the_figures_are_over() -> None:
    labels, proba = _draw(4, 40)
    labels[:3] = np.nan
    part = proba.copy()
    part[10:] = np.nan
    judges = {"part": part, "none": np.full((40, 3), np.nan), "whole": proba}
    text = notes(compare(labels, judges, groups=np.arange(40) // 2, rounds=300))
    assert text[0] == (
        "37 labelled battles, 19 prompts; 95 % intervals from 300 bootstrap rounds over prompts, "
        "seed 0."
    )
    assert "fitted on these very labels" in text[1]
    said = "\n".join(text)
    assert "19 prompts are few; the intervals are rough." in said
    assert "3 battles without a label left out." in said
    assert "part left 30 battles unjudged." in said
    assert "none judged none of them, and is not compared." in said
    assert "over the 7 battles that all have judged; without part they would be over 37." in said


def test_one_prompt_is_said_to_say_nothing() -> None:
    labels, proba = _draw(5, 10)
    alone = notes(compare(labels, {"one": proba}, groups=np.zeros(10), rounds=300))
    assert "One prompt says nothing about others, so there are no intervals." in alone
    few = proba.copy()
    few[1:] = np.nan
    common = notes(compare(labels, {"few": few, "all": proba}, rounds=300))
    assert "all about one prompt, which says nothing about others" in common[-1]


def test_how_p_values_are_corrected_is_said_where_they_are() -> None:
    three = "\n".join(notes(_compared({"a": 0.0, "b": 0.1, "c": 0.2}, 60)))
    assert "Holm's, over 3 judges against the prior and over all 3 pairs" in three
    assert "Holm" not in "\n".join(notes(_compared({"a": 0.0}, 60)))
