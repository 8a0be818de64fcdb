"""Calibrators that look at battles: symmetry, what they find, what they leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from judge.battles import swap
from judge.calibration import METHODS, WITH_CONTEXT, calibrate, calibrator_from_settings, study
from judge.calibration.context import Context, Covariate, fit_context
from judge.calibration.covariates import NAMES, SIDED, SYMMETRIC, covariates_of
from judge.calibration.scaling import Scaling
from judge.davidson import probabilities
from judge.errors import ArenaJudgeError, InputError
from judge.features.extraction import extract
from judge.metrics import log_loss

Floats = npt.NDArray[np.float64]

SWAP = [1, 0, 2]
SIGNS = np.where(np.isin(NAMES, SIDED), -1.0, 1.0)
TEXT = st.text(st.sampled_from("aB1.?é字 \n`#*"), max_size=40)
TURNS = st.lists(TEXT, min_size=1, max_size=3).map(tuple)


def _table(rows: list[Any]) -> pd.DataFrame:
    names = ["id", "prompt", "response_a", "response_b"]
    return pd.DataFrame([(f"b{n}", *row) for n, row in enumerate(rows)], columns=names)


def _set(
    seed: int, count: int = 600, told_by: str | None = None, weight: float = 1.2
) -> tuple[Floats, Floats, Floats]:
    """Labels, what a judge said that knows hardly of ties, and covariates, of which one may tell
    what becomes of the battle."""
    generator = np.random.default_rng(seed)
    covariates = generator.normal(size=(count, len(NAMES)))
    d, t = generator.normal(0.0, 1.0, count), np.full(count, 0.2)
    said = probabilities(d, np.full(count, -5.0))
    if told_by is not None:
        seen = weight * covariates[:, NAMES.index(told_by)]
        d, t = (d + seen, t) if told_by in SIDED else (d, t + seen)
    true = probabilities(d, t)
    places = (generator.random((count, 1)) > true.cumsum(axis=1)).sum(axis=1)
    return np.eye(3)[np.minimum(places, 2)], said, covariates


def _fitted() -> Context:
    return fit_context(*_set(0, told_by="word_cosine"))


# --- what is seen ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(TURNS, TURNS, TURNS), min_size=1, max_size=4))
def test_exchanging_the_responses_changes_the_signs_of_the_sided_alone(rows: list[Any]) -> None:
    battles = _table(rows)
    found = covariates_of(battles)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(covariates_of(swap(battles)), found * SIGNS)


def test_battles_are_seen_alike_however_they_are_batched() -> None:
    words = ["so", "many", "different", "words", "in", "here"]
    rows = [
        ((f"ask {n}",), (" ".join(words[: n % 6]),), (" ".join(words[: n % 4] * (n % 3)),))
        for n in range(300)
    ]
    rows[7] = (("long",), ("x" * 700_000,), ("y " * 300_000,))
    battles = _table(rows)
    found = covariates_of(battles)
    parts = [covariates_of(battles.iloc[n : n + 37]) for n in range(0, 300, 37)]
    np.testing.assert_array_equal(np.concatenate(parts), found)
    assert covariates_of(battles.iloc[:0]).shape == (0, len(NAMES))
    said = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], 300)
    calibrator = _fitted()
    whole = calibrator.apply(said, found)
    each = [calibrator.apply(said[n : n + 1], found[n : n + 1]) for n in range(300)]
    np.testing.assert_array_equal(np.concatenate(each), whole)


def test_what_is_seen_is_the_setting_of_the_statistical_judge() -> None:
    texts = [[("How many?",), ("Write code",)], [("12",), ("",)], [("twelve, or 12",), ("no",)]]
    found = extract(*texts)
    battles = _table(list(zip(*texts, strict=True)))
    seen = covariates_of(battles)
    assert seen[:, 0] == pytest.approx([(2 - 13) / 15, -1.0])
    assert set(SYMMETRIC) <= set(found.context_names)
    for name in SYMMETRIC:
        own = found.context[:, found.context_names.index(name)]
        np.testing.assert_array_equal(seen[:, NAMES.index(name)], own)


# --- the form -------------------------------------------------------------------------------------


@given(st.integers(0, 1000))
def test_exchanging_before_or_after_is_the_same(seed: int) -> None:
    generator = np.random.default_rng(seed)
    calibrator = Context(
        Scaling("dirichlet", *generator.uniform([0, -2, 0, -3], [3, 1, 3, 3])),
        tuple(
            Covariate(name, 0.0 if name in SIDED else m, s, w)
            for name, m, s, w in zip(
                NAMES,
                generator.normal(size=len(NAMES)),
                generator.uniform(0.1, 3.0, len(NAMES)),
                generator.uniform(-2.0, 2.0, len(NAMES)),
                strict=True,
            )
        ),
    )
    said = generator.dirichlet([0.1, 0.1, 0.1], 20)
    seen = generator.normal(size=(20, len(NAMES))) * 10.0 ** generator.integers(-3, 9)
    found = calibrator.apply(said, seen)
    np.testing.assert_array_equal(calibrator.apply(said[:, SWAP], seen * SIGNS), found[:, SWAP])
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    assert (found > 0).all()


def test_fitting_either_way_round_is_the_same() -> None:
    labels, said, seen = _set(1, told_by="length_gap")
    one, other = (
        fit_context(labels, said, seen),
        fit_context(labels[:, SWAP], said[:, SWAP], seen * SIGNS),
    )
    np.testing.assert_allclose(one.apply(said, seen), other.apply(said, seen), atol=1e-9)


def test_without_covariates_that_matter_it_is_near_to_the_scaling_alone() -> None:
    labels, said, seen = _set(2)
    alike = fit_context(labels, said, np.where(np.isin(NAMES, SIDED), 0.0, np.full_like(seen, 0.1)))
    assert max(abs(one.weight) for one in alike.covariates) < 1e-12
    np.testing.assert_allclose(
        alike.apply(said, seen), probabilities(*alike.scaling.strengths(said)), atol=1e-9
    )


def test_settings_keep_every_digit_through_yaml() -> None:
    found = _fitted()
    text = yaml.safe_dump(found.settings(), sort_keys=False)
    assert "word_cosine:\n    mean: " in text
    again = calibrator_from_settings(yaml.safe_load(text))
    assert again == found
    _, said, seen = _set(3)
    np.testing.assert_array_equal(again.apply(said, seen), found.apply(said, seen))


def _settings(**changes: object) -> dict[str, Any]:
    column = {"mean": 0.5, "spread": 0.2, "weight": 0.1}
    return {
        "method": "context",
        "strength": 1.0,
        "sides": -1.0,
        "tie": 1.0,
        "shift": 0.0,
        "covariates": {"word_cosine": column},
    } | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"covariates": {"magic": {}}}, "has the covariate 'magic', which is unknown"),
        ({"covariates": {3: {}}}, "has the covariate '3', which is unknown"),
        ({"covariates": {"turns": {"mean": 0, "spread": 1}}}, "cannot be read"),
        ({"covariates": {"turns": 3}}, "cannot be read"),
        ({"covariates": 3}, "cannot be read"),
        ({"covariates": ["turns"]}, "cannot be read"),
        ({"covariates": {"turns": {"mean": 0, "spread": 0, "weight": 1}}}, "and the spread 0"),
        ({"covariates": {"turns": {"mean": 0, "spread": 1, "weight": 9}}}, "has the weight 9"),
        (
            {"covariates": {"turns": {"mean": ".nan", "spread": 1, "weight": 0}}},
            "cannot be read|has the mean nan",
        ),
        (
            {"covariates": {"length_difference": {"mean": 1, "spread": 1, "weight": 0}}},
            "has the mean 1.0, not 0",
        ),
        ({"heat": 3}, "has 'heat', which is unknown"),
        ({"strength": -1}, "strength is -1"),
        ({"strength": None}, "cannot be read"),
    ],
)
def test_a_recipe_that_says_nonsense_is_one_line(changes: dict[str, object], said: str) -> None:
    assert isinstance(calibrator_from_settings(_settings()), Context)
    with pytest.raises(InputError, match=said) as caught:
        calibrator_from_settings(_settings(**changes), file="mine/judge.yaml")
    assert str(caught.value).startswith("mine/judge.yaml: ")
    missing = _settings()
    del missing["covariates"]
    with pytest.raises(InputError, match="cannot be read"):
        calibrator_from_settings(missing, file=Path("mine/judge.yaml"))


# --- choosing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("told_by", ["pair_cosine", "length_difference"])
def test_what_can_be_seen_in_battles_is_found(told_by: str) -> None:
    labels, said, seen = _set(4, 900, told_by)
    found = calibrate(labels, said, context=seen)
    assert isinstance(found.calibrator, Context)
    assert found.calibrator.strongest[0].name == told_by
    assert found.calibrator.strongest[0].weight > 0.3
    assert tuple(c.method for c in found.candidates) == WITH_CONTEXT
    losses = {c.method: c.log_loss for c in found.candidates}
    assert losses["context"] < min(losses[name] for name in METHODS) - 0.05
    assert log_loss(labels, found.proba) < losses["dirichlet"] - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("count", [50, 500])
def test_noise_is_left_alone_and_does_no_harm(count: int) -> None:
    """As much noise as there are covariates: it is not chosen, and hardly costs."""
    for seed in (5, 6):
        labels, said, seen = _set(seed, count)
        found = calibrate(labels, said, context=seen)
        assert found.calibrator.method != "context"
        losses = {c.method: c.log_loss for c in found.candidates}
        assert losses["context"] < losses["dirichlet"] + 0.02
        assert log_loss(labels, found.proba) < log_loss(labels, said)


def test_without_covariates_there_is_no_such_method() -> None:
    labels, said, seen = _set(7, 60)
    assert "context" not in {c.method for c in calibrate(labels, said).candidates}
    with pytest.raises(ArenaJudgeError, match="looks at battles, and was not given them"):
        calibrate(labels, said, method="context")
    with pytest.raises(ArenaJudgeError, match="covariates are \\(60, 3\\), not \\(60, 27\\)"):
        calibrate(labels, said, context=seen[:, :3])
    with pytest.raises(ArenaJudgeError, match="covariates are \\(59, 27\\)"):
        calibrate(labels, said, context=seen[1:])
    seen[3, 4] = np.nan
    with pytest.raises(ArenaJudgeError, match="covariates are not all numbers"):
        calibrate(labels, said, context=seen)
    with pytest.raises(ArenaJudgeError, match="looks at battles, and was not given them"):
        _fitted().apply(said)


def test_unlabelled_and_unjudged_battles() -> None:
    labels, said, seen = _set(8, 80, "turns")
    labels[:10] = np.nan
    said[5:20] = np.nan
    found = calibrate(labels, said, context=seen, method="context")
    assert found.battles == 60
    assert np.isnan(found.proba).any(axis=1).tolist() == [5 <= place < 20 for place in range(80)]
    np.testing.assert_array_equal(found.proba[:5], found.calibrator.apply(said[:5], seen[:5]))


def test_what_is_held_out_is_judged_by_what_it_did_not_teach() -> None:
    labels, said, seen = _set(9, 300, "word_cosine")
    held = np.arange(300) < 60
    found = study(labels, said, np.arange(300), held, context=seen, method="context")
    assert found.holdout is not None
    calibrator = found.calibration.calibrator
    np.testing.assert_array_equal(found.holdout.after, calibrator.apply(said[held], seen[held]))
    assert found.holdout.gap.value < 0
    elsewhere = np.where(held[:, None], 3.0, seen)
    other = study(labels, said, np.arange(300), held, context=elsewhere, method="context")
    assert other.calibration.calibrator == calibrator
