"""Choosing a calibrator: the judge is left alone unless one is better."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from judge.calibration import (
    METHODS,
    Calibration,
    Calibrator,
    calibrate,
    calibrator_from_settings,
    study,
)
from judge.calibration.isotonic import fit_isotonic
from judge.calibration.measuring import Part, held_out, nll
from judge.calibration.scaling import Scaling, fit_scaling
from judge.errors import ArenaJudgeError, InputError
from judge.metrics import log_loss

Floats = npt.NDArray[np.float64]

SWAP = [1, 0, 2]


def _labels(proba: Floats, generator: np.random.Generator) -> Floats:
    places = (generator.random((len(proba), 1)) > proba.cumsum(axis=1)).sum(axis=1)
    return np.eye(3)[np.minimum(places, 2)]


def _set(seed: int, count: int = 600, heat: float = 1.0) -> tuple[Floats, Floats, Floats]:
    """Labels, what a judge said whose temperature is off by `heat`, and prompts."""
    generator = np.random.default_rng(seed)
    true = generator.dirichlet([2.0, 2.0, 1.5], count)
    labels = _labels(true, generator)
    said = Scaling("temperature", heat, -heat, heat).apply(true)
    return labels, said, generator.integers(0, count // 2, count)


@pytest.mark.slow
def test_a_calibrated_judge_is_left_alone_most_of_the_time() -> None:
    left = sum(calibrate(*_set(seed)).calibrator.method == "identity" for seed in range(12))
    assert left >= 9


@pytest.mark.parametrize("heat", [0.4, 3.0])
def test_a_judge_that_is_off_is_put_right(heat: float) -> None:
    labels, said, groups = _set(1, heat=heat)
    found = calibrate(labels, said, groups)
    assert found.calibrator.method == "temperature"
    assert found.temperature == pytest.approx(heat, rel=0.15)
    assert log_loss(labels, found.proba) < log_loss(labels, said) - 0.02
    table = {c.method: c for c in found.candidates}
    assert tuple(table) == METHODS
    assert table["identity"].gap.value == 0.0
    assert table["temperature"].gap.high < 0.0
    assert table["temperature"].log_loss == pytest.approx(
        table["identity"].log_loss + table["temperature"].gap.value
    )


def test_no_battle_is_judged_by_what_was_learned_from_its_prompt() -> None:
    """Each prompt's labels are turned about in turn: what is said of its own battles must stay."""
    labels, said, _ = _set(3, count=40, heat=3.0)
    groups = np.arange(40) % 8
    before = calibrate(labels, said, groups, method="temperature+bias")
    for prompt in (0, 5):
        own = groups == prompt
        turned = np.where(own[:, None], labels[:, [2, 0, 1]], labels)
        after = calibrate(turned, said, groups, method="temperature+bias")
        np.testing.assert_array_equal(after.proba[own], before.proba[own])
        assert not np.array_equal(after.proba[~own], before.proba[~own])


def test_what_prompts_are_called_does_not_matter_and_the_seed_does() -> None:
    labels, said, groups = _set(4, count=60, heat=3.0)
    one = calibrate(labels, said, groups, method="temperature")
    named = calibrate(labels, said, [f"p{900 - group}" for group in groups], method="temperature")
    np.testing.assert_array_equal(one.proba, named.proba)
    other = calibrate(labels, said, groups, method="temperature", seed=5)
    assert not np.array_equal(one.proba, other.proba)


def test_unlabelled_and_unjudged_battles() -> None:
    labels, said, groups = _set(5, count=80, heat=3.0)
    labels[:10] = np.nan
    said[5:20] = np.nan
    found = calibrate(labels, said, groups, method="temperature")
    assert found.battles == 60
    assert np.isnan(found.proba).any(axis=1).tolist() == [5 <= place < 20 for place in range(80)]
    np.testing.assert_array_equal(found.proba[:5], found.calibrator.apply(said[:5]))


def test_soft_labels_weigh_as_their_votes() -> None:
    labels, said, _ = _set(6, count=150, heat=2.0)
    groups = np.arange(150)
    soft = np.repeat((labels + labels[::-1]) / 2, 2, axis=0)
    hard = np.stack([labels, labels[::-1]], axis=1).reshape(-1, 3)
    twice, pairs = np.repeat(said, 2, axis=0), np.repeat(groups, 2)
    one, other = calibrate(soft, twice, pairs), calibrate(hard, twice, pairs)
    np.testing.assert_allclose(one.proba, other.proba, atol=1e-7)
    for a, b in zip(one.candidates, other.candidates, strict=True):
        assert a.log_loss == pytest.approx(b.log_loss, abs=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_settings_keep_every_digit_through_yaml(method: str) -> None:
    labels, said, _ = _set(7, count=120, heat=2.0)
    fit = fit_isotonic(labels, said) if method == "isotonic" else fit_scaling(method, labels, said)
    found = cast("Calibrator", fit)
    text = yaml.safe_dump(found.settings())
    again = calibrator_from_settings(yaml.safe_load(text))
    assert again == found
    np.testing.assert_array_equal(again.apply(said), found.apply(said))
    np.testing.assert_array_equal(found.apply(said[:, SWAP]), found.apply(said)[:, SWAP])


@pytest.mark.parametrize("ties", [0.0, 1.0])
def test_labels_of_few_kinds(ties: float) -> None:
    """All ties, or none at all: nothing comes out as impossible."""
    generator = np.random.default_rng(8)
    said = generator.dirichlet([1.0, 1.0, 1.0], 90)
    labels = np.eye(3)[generator.integers(0, 2, 90)]
    labels[generator.random(90) < ties] = [0.0, 0.0, 1.0]
    found = calibrate(labels, said, method="isotonic")
    assert (found.proba > 0).all()
    np.testing.assert_allclose(found.proba.sum(axis=1), 1.0, atol=1e-12)
    assert all(np.isfinite(c.log_loss) for c in found.candidates)


def _fails(said: str, *arguments: object, **options: object) -> None:
    with pytest.raises(ArenaJudgeError, match=said):
        calibrate(*arguments, **options)  # type: ignore[arg-type]


def test_what_cannot_be_learned_from_is_said() -> None:
    labels, said, _ = _set(9, count=20)
    _fails("1 prompt is too few to calibrate on", labels, said, np.zeros(20))
    _fails("2 prompts are too few", labels, said, np.arange(20) % 2)
    _fails("nothing can be learned", labels, np.full((20, 3), np.nan))
    _fails("nothing can be learned", np.full((20, 3), np.nan), said)
    _fails("not \\(N, 3\\) both", labels, said[:, :2])
    _fails("sum to 1", labels, said * 2)
    _fails("no method is called 'magic'", labels, said, method="magic")
    assert calibrate(labels[:3], said[:3]).battles == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "is no list"),
        ({}, "has the method None"),
        ({"method": "magic"}, "has the method 'magic'"),
        ({"method": "vector", "heat": 2}, "has 'heat', which is unknown"),
        ({"method": "vector", "tie": "hot"}, "cannot be read"),
        ({"method": "vector", "tie": -1}, "tie is -1.0"),
        ({"method": "isotonic"}, "cannot be read"),
        ({"method": "isotonic", "sides": 3, "tie": 4}, "cannot be read"),
        ({"method": ["a"]}, "has the method"),
        (
            {
                "method": "isotonic",
                **{k: {"at": [0, 1], "value": [1, 0]} for k in ("sides", "tie")},
            },
            "must rise",
        ),
    ],
)
def test_a_recipe_that_says_nonsense_is_one_line(settings: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        calibrator_from_settings(settings, file="mine/judge.yaml")
    assert str(caught.value).startswith("mine/judge.yaml: ")


# --- before and after -----------------------------------------------------------------------------


def test_the_two_parts_and_what_is_measured_on_them() -> None:
    labels, said, groups = _set(10, count=500, heat=3.0)
    held = held_out(groups, 0.2, 0)
    found = study(labels, said, groups, held)
    assert found.holdout is not None
    assert len(found.cal.labels) + len(found.holdout.labels) == 500
    assert found.calibration.battles == len(found.cal.labels)
    # The holdout is judged by what is written, the other part by what it did not teach.
    np.testing.assert_array_equal(
        found.holdout.after, found.calibration.calibrator.apply(said[held])
    )
    assert not np.array_equal(found.cal.after, found.calibration.calibrator.apply(said[~held]))
    for part, name in ((found.cal, "cal"), (found.holdout, "holdout")):
        figures = part.figures(name)
        for metric in ("nll", "logloss", "ece"):
            before, after = (figures[f"{metric}_{name}_{when}"] for when in ("before", "after"))
            assert figures[f"{metric}_{name}_improvement"] == before - after
        assert figures[f"logloss_{name}_improvement"] == pytest.approx(-part.gap.value)
        assert figures[f"logloss_{name}_before"] == log_loss(part.labels, part.before)
    # What is held out taught nothing.
    other = study(np.where(held[:, None], labels[:, SWAP], labels), said, groups, held)
    assert other.calibration.calibrator == found.calibration.calibrator


def test_without_a_holdout_there_is_one_part() -> None:
    labels, said, groups = _set(11, count=60)
    assert study(labels, said, groups).holdout is None
    assert study(labels, said, groups, held_out(groups, 0.0, 0)).holdout is None
    held = np.arange(60) < 20
    labels[held] = np.nan
    with pytest.raises(ArenaJudgeError, match="none of the battles held out"):
        study(labels, said, np.arange(60), held)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_whole_prompts_are_held_out_about_as_many_as_were_asked_for(share: float) -> None:
    groups = np.random.default_rng(0).integers(0, 120, 1000)
    held = held_out(groups, share, 3)
    assert held.mean() == pytest.approx(share, abs=0.02)
    assert not set(groups[held]) & set(groups[~held])
    assert not np.array_equal(held, held_out(groups, share, 4))


def test_nll_takes_the_most_voted_outcome_for_the_label_and_does_not_clip() -> None:
    proba = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [1.0, 0.0, 0.0]])
    labels = np.array([[0.6, 0.4, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    tiny = np.finfo(np.float64).tiny
    wanted = [-np.log(0.5), -(np.log(0.2) + np.log(0.6)) / 2, -np.log(tiny)]
    assert nll(labels, proba) == pytest.approx(np.mean(wanted))
    assert log_loss(labels[2:], proba[2:]) == pytest.approx(36.04, abs=0.01)


def test_a_part_knows_how_sure_its_improvement_is() -> None:
    labels, said, groups = _set(12, count=400, heat=3.0)
    part = Part(labels, said, Scaling("temperature", 1 / 3, -1 / 3, 1 / 3).apply(said), groups)
    assert part.gap.low < part.gap.value < part.gap.high < 0


def test_results_are_frozen() -> None:
    found = cast("object", calibrate(*_set(13, count=40)))
    assert isinstance(found, Calibration)
    with pytest.raises(AttributeError):
        found.battles = 3  # type: ignore[misc]
