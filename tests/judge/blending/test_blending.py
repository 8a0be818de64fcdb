"""Learning a blend: weights that are right, honest folds, and the choice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize

from judge.blending import METHODS, OPTIONS, Blending, blend
from judge.blending.learning import (
    Members,
    advantage_weights,
    best_weights,
    choose_penalty,
    rank,
    stack,
)
from judge.blending.pools import LinearPool, LogPool, Ranking
from judge.davidson import probabilities
from judge.errors import ArenaJudgeError
from judge.metrics import log_loss

Floats = npt.NDArray[np.float64]


def _set(seed: int, noise: tuple[float, ...], count: int = 400) -> tuple[Floats, Floats]:
    """(N, 3) labels, and (M, N, 3) what members said that see the truth through noise."""
    generator = np.random.default_rng(seed)
    d, s = generator.normal(size=count) * 1.5, generator.normal(size=count) * 0.5 - 0.5
    true = probabilities(d, s)
    places = (generator.random((count, 1)) > true.cumsum(axis=1)).sum(axis=1)
    said = [
        probabilities(d + sd * generator.normal(size=count), s + sd * generator.normal(size=count))
        for sd in noise
    ]
    return np.eye(3)[np.minimum(places, 2)], np.stack(said)


def _members(seed: int, noise: tuple[float, ...], count: int = 400) -> Members:
    labels, said = _set(seed, noise, count)
    return Members(labels, said, np.arange(count))


def _named(said: Floats) -> dict[str, Floats]:
    return {f"judge {number}": proba for number, proba in enumerate(said)}


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_best_there_are(seed: int) -> None:
    data = _members(seed, (0.5, 1.0, 2.0))
    hits = (data.said * data.labels).sum(axis=2).T

    def loss(w: Floats) -> float:
        return float(-np.log(hits @ w).sum() - np.log(w).sum())

    constraint = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(
        loss,
        np.full(3, 1 / 3),
        bounds=[(1e-6, 1.0)] * 3,
        constraints=constraint,
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    found = np.array(best_weights(data).weights)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert loss(found) <= best.fun + 1e-6
    np.testing.assert_allclose(found, best.x, atol=1e-3)


def test_weights_of_judges_that_say_the_same_are_the_same() -> None:
    data = _members(1, (0.7,))
    twice = Members(data.labels, np.concatenate([data.said, data.said]), data.codes)
    np.testing.assert_allclose(best_weights(twice).weights, [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(advantage_weights(twice, 0).weights, [0.5, 0.5], atol=1e-12)
    stacked = stack(twice, 10.0)
    assert stacked.strength[0] == pytest.approx(stacked.strength[1], abs=1e-6)


def test_planted_weights_in_log_space_are_found_again() -> None:
    generator = np.random.default_rng(2)
    said = generator.dirichlet([1.0, 1.0, 1.0], (3, 20_000))
    planted = LogPool((0.9, 0.4, 0.0), (0.3, 0.6, 0.2), -0.5)
    true = planted.apply(said)
    places = (generator.random((len(true), 1)) > true.cumsum(axis=1)).sum(axis=1)
    found = stack(Members(np.eye(3)[places], said, np.arange(len(true))), 1.0)
    np.testing.assert_allclose(found.strength, planted.strength, atol=0.06)
    np.testing.assert_allclose(found.tie, planted.tie, atol=0.06)
    assert found.shift == pytest.approx(planted.shift, abs=0.06)


def test_a_judge_that_is_wrong_gets_no_negative_weight() -> None:
    data = _members(3, (0.5, 0.5))
    turned = np.stack([data.said[0], data.said[1][:, [1, 0, 2]]])
    found = stack(Members(data.labels, turned, data.codes), 1.0)
    assert found.strength[1] == 0.0
    assert found.strength[0] > 0.5


def test_the_penalty_holds_weights_together_where_there_is_little_to_learn() -> None:
    few = _members(4, (0.8, 0.8, 0.8), 30)
    assert choose_penalty(few, 0) >= 100.0
    alike = stack(few, 1000.0)
    assert np.ptp(alike.strength) < 0.05
    assert np.ptp(stack(_members(4, (0.3, 3.0), 2000), 1.0).strength) > 0.3


def test_the_best_comes_first_whoever_judged_the_easy_battles() -> None:
    data = _members(5, (0.4, 1.5, 3.0), 600)
    assert rank(data).order == (0, 1, 2)
    hard = data.likelihood.mean(axis=0) < np.quantile(data.likelihood.mean(axis=0), 0.3)
    said = data.said.copy()
    said[0, ~hard] = np.nan  # the best one judged the hard battles only
    costs = [log_loss(data.labels[hard], said[0, hard]), log_loss(data.labels, said[1])]
    assert costs[0] > costs[1]
    assert rank(Members(data.labels, said, data.codes)).order[0] == 0


def test_advantage_favours_the_better_and_throws_none_away() -> None:
    data = _members(6, (0.3, 1.0, 2.0))
    weights = advantage_weights(data, 0).weights
    assert weights[0] > weights[1] > weights[2] > 0
    wild = data.said.copy()
    wild[2] = np.eye(3)[np.arange(400) % 3]  # certain and mostly wrong
    least = advantage_weights(Members(data.labels, wild, data.codes), 0).weights[2]
    assert least >= np.exp(-6) / 3
    # Where all judge everything the order is all the same; where they do not it is seeded.
    assert advantage_weights(data, 1).weights == pytest.approx(weights, abs=1e-12)
    gaps = data.said.copy()
    gaps[0, ::3] = gaps[1, 1::2] = np.nan
    some = Members(data.labels, gaps, data.codes)
    assert advantage_weights(some, 1) == advantage_weights(some, 1)
    assert advantage_weights(some, 1) != advantage_weights(some, 2)


def test_the_formula_of_advantage() -> None:
    """Three battles by hand, in the order that the seed gives."""
    said = np.array([[[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.6, 0.2, 0.2]], [[1 / 3] * 3] * 3])
    labels = np.eye(3)[[0, 0, 1]]
    order = np.random.default_rng(9).permutation(3)
    likelihood = np.log(np.stack([said[0][range(3), [0, 0, 1]], [1 / 3] * 3]))[:, order]
    level, gains = likelihood[:, 0].mean(), []
    for t in range(3):
        gains.append(likelihood[:, t] - level)
        level = 0.99 * level + 0.01 * likelihood[:, t].mean()
    advantage = np.mean(gains, axis=0) - np.mean(gains)
    weights = np.exp(np.clip(advantage / 0.05, -3, 3))
    found = advantage_weights(Members(labels, said, np.arange(3)), 9).weights
    np.testing.assert_allclose(found, weights / weights.sum())


# --- the choice -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three() -> tuple[Floats, Floats, Blending]:
    """A good judge, two poorer ones, and the blend of them."""
    labels, said = _set(7, (1.0, 1.1, 1.2))
    said[1, :30] = np.nan
    return labels, said, blend(labels, _named(said), np.arange(400) // 2)


def test_every_way_is_measured_beside_the_best_and_the_mean(
    three: tuple[Floats, Floats, Blending],
) -> None:
    labels, said, found = three
    names = [entry.name for entry in found.entries]
    assert names[: len(METHODS)] == list(METHODS)
    base = min(found.entries[: len(METHODS)], key=lambda entry: entry.log_loss).name
    assert names[len(METHODS) :] == [f"{base} + {option}" for option in OPTIONS]
    table = {entry.name: entry for entry in found.entries}
    for entry in found.entries:
        for gap, other in ((entry.against_best, "best"), (entry.against_mean, "mean")):
            assert gap.value == pytest.approx(entry.log_loss - table[other].log_loss)
            assert gap.low <= gap.value <= gap.high
    assert [(one.battles, one.unjudged) for one in found.alone] == [(400, 0), (370, 30), (400, 0)]
    assert found.alone[0].log_loss == pytest.approx(log_loss(labels, said[0]))
    assert found.chosen.log_loss <= table["best"].log_loss
    assert log_loss(labels, found.proba) == pytest.approx(found.chosen.log_loss, abs=0.01)
    assert found.blend.members == 3


def test_blending_gains_where_judges_err_apart(three: tuple[Floats, Floats, Blending]) -> None:
    _, _, found = three
    assert found.chosen.against_best.high < 0


def test_a_judge_that_cannot_be_improved_on_stays_alone() -> None:
    labels, said = _set(8, (0.0, 6.0))
    found = blend(labels, _named(said))
    assert found.blend.method == "best"
    assert found.blend.pool == Ranking((0, 1))
    assert found.chosen.log_loss == pytest.approx(found.alone[0].log_loss)
    np.testing.assert_array_equal(found.blend.apply(said), said[0])


def test_no_battle_is_judged_by_what_was_learned_from_its_prompt() -> None:
    labels, said = _set(9, (0.5, 1.0), 24)
    groups = np.arange(24) % 6
    own = groups == 2
    before = blend(labels, _named(said), groups, method="stacking", option="self-ensemble")
    turned = np.where(own[:, None], labels[:, [2, 0, 1]], labels)
    after = blend(turned, _named(said), groups, method="stacking", option="self-ensemble")
    np.testing.assert_array_equal(after.proba[own], before.proba[own])
    assert not np.array_equal(after.proba[~own], before.proba[~own])


def test_a_method_and_an_option_can_be_asked_for() -> None:
    labels, said = _set(10, (0.5, 1.5), 40)
    groups = np.arange(40) % 9
    found = blend(labels, _named(said), groups, method="log-mean", option="move-ties")
    assert found.blend.method == found.chosen.name == "log-mean + move-ties"
    assert found.blend.then is not None
    found = blend(labels, _named(said), groups, method="advantage")
    assert (found.blend.method, found.blend.then) == ("advantage", None)
    found = blend(labels, _named(said), groups, option="self-ensemble")
    assert found.blend.method.endswith(" + self-ensemble")


def test_the_seed_and_nothing_else_decides() -> None:
    labels, said = _set(11, (0.5, 1.5), 60)
    said[0, :20] = np.nan
    groups = np.arange(60) // 3
    one = blend(labels, _named(said), groups, seed=3)
    other = blend(labels, _named(said), [f"p{50 - group}" for group in groups], seed=3)
    assert one.blend == other.blend
    np.testing.assert_array_equal(one.proba, other.proba)


def test_exchanging_the_responses_of_all_battles_exchanges_the_blend() -> None:
    labels, said = _set(12, (0.5, 1.0), 60)
    swap = [1, 0, 2]
    groups = np.arange(60) // 3
    one = blend(labels, _named(said), groups, method="stacking")
    other = blend(labels[:, swap], _named(said[..., swap]), groups, method="stacking")
    np.testing.assert_allclose(other.proba[:, swap], one.proba, atol=1e-6)
    for entry, turned in zip(one.entries, other.entries, strict=True):
        assert turned.log_loss == pytest.approx(entry.log_loss, abs=1e-6)


@pytest.mark.parametrize("ties", [0.0, 1.0])
def test_labels_of_few_kinds_and_votes_of_several(ties: float) -> None:
    """All ties, or none at all, some battles with split votes: nothing becomes impossible."""
    generator = np.random.default_rng(13)
    said = generator.dirichlet([0.3, 0.3, 0.3], (3, 60))
    labels = np.eye(3)[generator.integers(0, 2, 60)]
    labels[generator.random(60) < ties] = [0.0, 0.0, 1.0]
    labels[:10] = (labels[:10] + labels[10:20]) / 2
    found = blend(labels, _named(said), method="stacking")
    assert (found.proba > 0).all()
    np.testing.assert_allclose(found.proba.sum(axis=1), 1.0, atol=1e-12)
    assert all(np.isfinite(entry.log_loss) for entry in found.entries)


def test_unlabelled_and_unjudged_battles() -> None:
    labels, said = _set(14, (0.5, 1.0), 50)
    labels[:5] = np.nan
    said[:, 3:8] = np.nan
    said[1] = np.nan  # judged nothing at all
    found = blend(labels, _named(said), np.arange(50) // 2)
    assert found.battles == 42
    assert found.alone[1].battles == 0
    assert found.alone[1].against_mean is None
    assert np.isnan(found.alone[1].log_loss)
    assert np.isnan(found.proba).any(axis=1).tolist() == [3 <= place < 8 for place in range(50)]
    np.testing.assert_array_equal(found.proba[:3], found.blend.apply(said[:, :3]))


def _fails(message: str, *arguments: object, **options: object) -> None:
    with pytest.raises(ArenaJudgeError, match=message):
        blend(*arguments, **options)  # type: ignore[arg-type]


def test_what_cannot_be_learned_from_is_said() -> None:
    labels, said = _set(15, (0.5, 1.0), 20)
    _fails("1 prompt is too few to blend on", labels, _named(said), np.zeros(20))
    _fails("two judges at least", labels, {"one": said[0]})
    _fails("nothing can be learned", labels, _named(np.full((2, 20, 3), np.nan)))
    _fails("judge 0: 20 battles but probabilities", labels, _named(said[:, :5]))
    _fails("probabilities of judge 0 must lie", labels, _named(said * 2))
    _fails("no method is called 'magic'", labels, _named(said), method="magic")
    _fails("no option is called 'magic'", labels, _named(said), option="magic")
    _fails("labels must have the shape", labels[:, :2], _named(said))


def test_equal_weights_where_nothing_tells_members_apart() -> None:
    data = _members(16, (0.7,), 50)
    thrice = Members(data.labels, np.concatenate([data.said] * 3), data.codes)
    found = best_weights(thrice)
    assert isinstance(found, LinearPool)
    np.testing.assert_allclose(found.weights, [1 / 3] * 3, atol=1e-6)
