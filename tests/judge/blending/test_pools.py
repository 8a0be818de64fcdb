"""Pools and what may follow them: symmetry, members that left a battle unjudged, the arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from judge.blending import Blend, blend_from_settings
from judge.blending.afterwards import (
    SelfEnsemble,
    TiesMoved,
    fit_self_ensemble,
    fit_ties_moved,
)
from judge.blending.pools import LinearPool, LogPool, Pool, Ranking, equal, equal_logs
from judge.errors import ArenaJudgeError, InputError
from judge.metrics import log_loss

Floats = npt.NDArray[np.float64]

SWAP = [1, 0, 2]


def _said(seed: int, members: int = 3, battles: int = 30) -> Floats:
    """What members said, certain or impossible now and then; a quarter is unjudged, and battle 0
    by all."""
    generator = np.random.default_rng(seed)
    said = generator.dirichlet([generator.choice([0.05, 1.0])] * 3, (members, battles))
    said[generator.random((members, battles)) < 0.1] = [0.0, 0.0, 1.0]
    said[generator.random((members, battles)) < 0.25] = np.nan
    said[:, 0] = np.nan
    return said


@st.composite
def _blends(draw: st.DrawFn) -> Blend:
    weights = np.array(draw(st.lists(st.floats(0.0, 20.0), min_size=3, max_size=3)))
    ties = draw(st.lists(st.floats(0.0, 20.0), min_size=3, max_size=3))
    shares = weights / weights.sum() if weights.sum() > 1e-6 else np.full(3, 1 / 3)
    pools: list[Pool] = [
        LinearPool(tuple(shares.tolist())),
        LogPool(tuple(weights.tolist()), tuple(ties), draw(st.floats(-20.0, 20.0))),
        Ranking(tuple(draw(st.permutations(range(3))))),
    ]
    then = draw(
        st.sampled_from(
            [None, TiesMoved(0.3), SelfEnsemble((0.4, 0.6), (0.0, 0.3, 0.9), 0.5)],
        )
    )
    return Blend("any", draw(st.sampled_from(pools)), then)


@given(_blends(), st.integers(0, 2**32))
def test_exchanging_the_responses_exchanges_what_comes_out(blend: Blend, seed: int) -> None:
    said = _said(seed)
    found = blend.apply(said)
    np.testing.assert_allclose(blend.apply(said[..., SWAP]), found[:, SWAP], atol=1e-12)
    silent = np.isnan(said).any(axis=2).all(axis=0)
    assert np.isnan(found).any(axis=1).tolist() == silent.tolist()
    np.testing.assert_allclose(found[~silent].sum(axis=1), 1.0, atol=1e-12)
    assert (found[~silent] >= 0).all()
    if not isinstance(blend.pool, Ranking):  # which says what a member says
        assert (found[~silent] > 0).all()


@given(_blends(), st.integers(0, 2**32))
def test_settings_keep_every_digit_through_yaml(blend: Blend, seed: int) -> None:
    again = blend_from_settings(yaml.safe_load(yaml.safe_dump(blend.settings())))
    assert again == blend
    np.testing.assert_array_equal(again.apply(_said(seed)), blend.apply(_said(seed)))


def test_means_are_means() -> None:
    said = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], (4, 50))
    np.testing.assert_allclose(equal(4).apply(said), said.mean(axis=0), atol=1e-12)
    geometric = np.exp(np.log(said).mean(axis=0))
    geometric /= geometric.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(equal_logs(4).apply(said), geometric, atol=1e-9)
    np.testing.assert_array_equal(Ranking((2, 0, 1, 3)).apply(said), said[2])


def test_who_left_a_battle_unjudged_leaves_its_weight_to_the_others() -> None:
    said = np.random.default_rng(1).dirichlet([1.0, 1.0, 1.0], (3, 4))
    said[0, 0] = said[1, 1] = said[0, 2] = said[1, 2] = np.nan
    pool = LinearPool((0.5, 0.3, 0.2))
    found = pool.apply(said)
    np.testing.assert_allclose(found[0], 0.6 * said[1, 0] + 0.4 * said[2, 0])
    np.testing.assert_allclose(found[1], (0.5 * said[0, 1] + 0.2 * said[2, 1]) / 0.7)
    np.testing.assert_allclose(found[2], said[2, 2])
    np.testing.assert_allclose(found[3], (np.array(pool.weights)[:, None] * said[:, 3]).sum(axis=0))
    logs = LogPool((0.5, 0.3, 0.2), (0.5, 0.3, 0.2)).apply(said)
    np.testing.assert_allclose(logs[2], said[2, 2], atol=1e-9)


def test_those_without_weight_speak_where_nobody_else_does() -> None:
    said = np.random.default_rng(2).dirichlet([1.0, 1.0, 1.0], (3, 2))
    said[0, 0] = np.nan
    found = LinearPool((1.0, 0.0, 0.0)).apply(said)
    np.testing.assert_allclose(found[0], said[1:, 0].mean(axis=0))
    np.testing.assert_allclose(found[1], said[0, 1])


def test_a_judge_that_says_the_same_makes_a_sum_of_logs_surer() -> None:
    one = np.array([[[0.6, 0.3, 0.1]]])
    pool = LogPool((1.0, 1.0), (1.0, 1.0))
    assert pool.apply(np.concatenate([one, one]))[0, 0] > 0.7


# --- afterwards -----------------------------------------------------------------------------------


def test_over_confident_predictions_are_pulled_to_their_frequency_and_others_left() -> None:
    generator = np.random.default_rng(3)
    sure = np.tile([0.9, 0.05, 0.05], (400, 1))
    modest = np.tile([0.4, 0.35, 0.25], (400, 1))
    right = generator.random(400) < 0.6
    labels = np.zeros((800, 3))
    labels[np.arange(400), np.where(right, 0, 1)] = 1.0
    labels[np.arange(400, 800), generator.integers(0, 2, 400)] = 1.0
    proba = np.concatenate([sure, modest])
    found = fit_self_ensemble(labels, proba)
    assert found.share == 1.0
    said = found.apply(proba)
    assert said[0, 0] == pytest.approx(right.mean(), abs=0.03)
    np.testing.assert_array_equal(said[400:], modest)  # right half the time: not too sure
    assert log_loss(labels, said) < log_loss(labels, proba)


def test_pulling_down_keeps_the_order_of_the_three() -> None:
    proba = np.random.default_rng(4).dirichlet([1.0, 1.0, 1.0], 300)
    said = SelfEnsemble((0.5, 0.7), (0.2, 0.6, 0.95), 1.0).apply(proba)
    np.testing.assert_array_equal(np.argsort(said, axis=1), np.argsort(proba, axis=1))
    assert (said.max(axis=1) <= proba.max(axis=1)).all()


def test_the_ties_mass_goes_to_the_sides_in_proportion() -> None:
    said = TiesMoved(0.5).apply(np.array([[0.4, 0.2, 0.4], [0.0, 0.0, 1.0], [np.nan] * 3]))
    np.testing.assert_allclose(said[0], [0.4 + 0.2 * 2 / 3, 0.2 + 0.2 / 3, 0.2])
    np.testing.assert_array_equal(said[1], [0.0, 0.0, 1.0])
    assert np.isnan(said[2]).all()


def test_moving_ties_takes_the_share_that_helps_most() -> None:
    generator = np.random.default_rng(5)
    labels = np.eye(3)[generator.integers(0, 2, 200)]  # no ties at all
    assert fit_ties_moved(labels, np.tile([0.3, 0.3, 0.4], (200, 1))).share == 0.4
    ties = np.tile([0.0, 0.0, 1.0], (200, 1))
    assert fit_ties_moved(ties, np.tile([0.3, 0.3, 0.4], (200, 1))).share == 0.05


# --- nonsense -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "is no list"),
        ({}, "pool is None"),
        ({"pool": "magic"}, "pool is 'magic'"),
        ({"pool": "linear"}, "has weights and nothing else"),
        ({"pool": "linear", "weights": [0.5, 0.4]}, "weights sum to 0.9"),
        ({"pool": "linear", "weights": [1.5, -0.5]}, "weights are no numbers from 0 to 1"),
        ({"pool": "linear", "weights": []}, "weights are no numbers"),
        ({"pool": "linear", "weights": ["x"]}, "cannot be read"),
        ({"pool": "log", "strength": [1.0], "tie": [1.0, 1.0], "shift": 0.0}, "one number a judge"),
        ({"pool": "log", "strength": [1.0], "tie": [1.0], "shift": 99.0}, "shift is small"),
        ({"pool": "ranking", "order": [0, 2]}, "each judge once"),
        ({"pool": "ranking", "order": [0, 1], "then": 3}, "cannot be read"),
        ({"pool": "ranking", "order": [0], "then": {"option": "magic"}}, "option is 'magic'"),
        (
            {"pool": "ranking", "order": [0], "then": {"option": "move-ties", "share": 1.0}},
            "share is 1.0",
        ),
        (
            {
                "pool": "ranking",
                "order": [0],
                "then": {"option": "self-ensemble", "edges": [0.5], "pull": [0.1], "share": 0.5},
            },
            "make no sense",
        ),
    ],
)
def test_a_recipe_that_says_nonsense_is_one_line(settings: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        blend_from_settings(settings, file="mine/judge.yaml")
    assert str(caught.value).startswith("mine/judge.yaml: ")


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ArenaJudgeError, match="from 0 to 20"):
        LogPool((21.0,), (1.0,))
    with pytest.raises(ArenaJudgeError, match="not from 0 to 1"):
        SelfEnsemble((), (0.1,), 2.0)
