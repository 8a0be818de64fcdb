"""The bootstrap: draws that are draws, intervals that cover, nothing that depends on how it is
computed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from threadpoolctl import threadpool_limits

from judge.comparing import bootstrap
from judge.comparing.bootstrap import Means, Tallies, group_codes, ratio_means, students_quantile
from judge.errors import ArenaJudgeError

Floats = npt.NDArray[np.float64]

EXACT = 1e-9


def _values(seed: int, battles: int, prompts: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Prompts, and values that are alike where the prompt is the same."""
    generator = np.random.default_rng(seed)
    codes = group_codes(generator.integers(prompts, size=battles))
    values = generator.normal(size=battles) + generator.normal(size=prompts)[codes]
    return codes, values


def _all(means: Means) -> Floats:
    return np.stack([means.value, means.error, means.low, means.high])


@given(st.integers(0, 2**32), st.integers(5, 60), st.integers(2, 30))
@settings(max_examples=30)
def test_standard_errors_agree_with_statsmodels(seed: int, battles: int, prompts: int) -> None:
    codes, values = _values(seed, battles, prompts)
    tallies = Tallies(codes)
    tallies.add(values, np.ones(battles))
    if tallies.number < 2:
        return
    found = tallies.means(rounds=10, seed=0)
    fitted = sm.OLS(values, np.ones(battles)).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False}
    )
    small = np.sqrt(tallies.number / (tallies.number - 1))
    assert found.value[0] == pytest.approx(values.mean(), abs=EXACT)
    assert found.error[0] == pytest.approx(fitted.bse[0] * small, abs=EXACT)


@pytest.mark.parametrize("groups", [2, 9, 50])
def test_each_round_is_studentised_by_what_it_drew(groups: int) -> None:
    """The sums of products are those that repeating the drawn prompts gives."""
    generator = np.random.default_rng(groups)
    sizes = generator.integers(1, 4, (1, groups)).astype(float)
    sums = generator.normal(size=(1, groups)) + 0.5 * sizes
    centre = sums.sum(axis=1) / sizes.sum()
    place = np.zeros(1, dtype=np.intp)
    pivots = bootstrap._pivots(sums, sizes, place, centre, 40, 3)[0]
    ((_, blocks),) = bootstrap._segments(groups, 40, 3)
    counts = np.concatenate([drawn for _, drawn in blocks])
    assert (counts.sum(axis=1) == groups).all()
    for round_, drawn in enumerate(counts.astype(int)):
        total, size = (np.repeat(part[0], drawn) for part in (sums, sizes))
        mean = total.sum() / size.sum()
        error = np.sqrt(((total - mean * size) ** 2).sum()) / size.sum()
        if error > 1e-9:
            assert pivots[round_] == pytest.approx((mean - centre[0]) / error, abs=1e-6)


@pytest.mark.parametrize("groups", [300, 9000])
def test_every_prompt_is_drawn_as_often_as_chance_has_it(groups: int) -> None:
    rounds = 200
    parts = [
        np.concatenate([counts for _, counts in blocks])
        for _, blocks in bootstrap._segments(groups, rounds, 1)
    ]
    counts = np.concatenate(parts, axis=1)
    assert counts.shape == (rounds, groups)
    assert (counts.sum(axis=1) == groups).all()
    # Multinomial: the mean is 1, the variance 1 - 1/G, and each prompt is missed 1/e of the time.
    assert counts.var() == pytest.approx(1 - 1 / groups, rel=0.02)
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), rel=0.02)
    assert abs(counts.mean(axis=0) - 1).max() < 6 / np.sqrt(rounds)
    if len(parts) > 1:
        totals = np.stack([part.sum(axis=1) for part in parts])
        assert totals.var(axis=1)[0] == pytest.approx(4096 * (1 - 4096 / groups), rel=0.3)


def test_how_it_is_computed_changes_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    sums, sizes = generator.normal(size=(5, 6000)), np.ones((1, 6000))
    of = [0] * 5
    usual = _all(ratio_means(sums, sizes, of, rounds=60, seed=4))
    monkeypatch.setattr(bootstrap, "_BLOCK", 7)
    np.testing.assert_allclose(
        _all(ratio_means(sums, sizes, of, rounds=60, seed=4)), usual, rtol=1e-10
    )
    with threadpool_limits(1):
        alone = _all(ratio_means(sums[2:3], sizes, [0], rounds=60, seed=4))
    np.testing.assert_allclose(alone[:, 0], usual[:, 2], rtol=1e-10)
    other = _all(ratio_means(sums, sizes, of, rounds=60, seed=5))
    np.testing.assert_array_equal(other[:2], usual[:2])
    assert (other[2:] != usual[2:]).all()


def test_with_many_prompts_the_interval_is_student_s() -> None:
    values = np.random.default_rng(3).normal(size=400)
    tallies = Tallies(np.arange(400))
    tallies.add(values, np.ones(400))
    found = tallies.means(rounds=20_000, seed=0)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    width = expected.high - expected.low
    assert found.low[0] == pytest.approx(expected.low, abs=0.03 * width)
    assert found.high[0] == pytest.approx(expected.high, abs=0.03 * width)
    assert students_quantile(400) == pytest.approx(stats.t.ppf(0.975, 399), abs=EXACT)


def test_a_skewed_loss_has_a_skewed_interval() -> None:
    values = np.random.default_rng(4).exponential(size=60) ** 2
    tallies = Tallies(np.arange(60))
    tallies.add(values, np.ones(60))
    found = tallies.means(rounds=4000, seed=0)
    assert found.high[0] - found.value[0] > 1.2 * (found.value[0] - found.low[0])


def test_a_battle_without_a_part_in_a_mean_changes_nothing_about_it() -> None:
    values = np.random.default_rng(5).normal(size=50)
    some = (np.arange(50) < 30).astype(float)
    tallies = Tallies(np.arange(50))
    first = tallies.add(values * some, some)
    second = tallies.add(values, np.ones(50))
    found = tallies.means(rounds=50, seed=0)
    assert found.value[first] == pytest.approx(values[:30].mean())
    assert found.prompts.tolist() == [30, 50]
    assert found.value[second] == pytest.approx(values.mean())
    assert found.error[first] == pytest.approx(values[:30].std(ddof=1) / np.sqrt(30))


def test_what_does_not_vary_has_no_width() -> None:
    codes = np.arange(40) // 3
    tallies = Tallies(codes)
    tallies.add(np.full(40, 0.1), np.ones(40))
    tallies.add(np.zeros(40), np.ones(40))
    found = tallies.means(rounds=50, seed=0)
    assert found.error.tolist() == [0, 0]
    np.testing.assert_array_equal(found.low, found.value)
    np.testing.assert_array_equal(found.high, found.value)


def test_a_few_prompts_that_decide_do_not_make_it_endless() -> None:
    """Rounds that miss the one bad prompt have next to no spread."""
    values = np.full(50, 0.01) + np.arange(50) * 1e-6
    values[0] = 16.0
    tallies = Tallies(np.arange(50))
    tallies.add(values, np.ones(50))
    found = tallies.means(rounds=500, seed=0)
    most = 3.1 * students_quantile(50) * found.error[0]
    assert found.value[0] - most <= found.low[0] < found.value[0] < found.high[0]
    assert found.high[0] <= found.value[0] + most


@pytest.mark.parametrize("battles", [1, 6])
def test_one_prompt_has_no_interval(battles: int) -> None:
    tallies = Tallies(np.zeros(battles))
    tallies.add(np.arange(battles, dtype=float), np.ones(battles))
    found = tallies.means(rounds=20, seed=0)
    assert found.value[0] == pytest.approx((battles - 1) / 2)
    assert np.isnan([found.low[0], found.high[0], found.error[0]]).all()


def test_a_mean_of_nothing_is_nan() -> None:
    tallies = Tallies(np.arange(4))
    tallies.add(np.zeros(4), np.zeros(4))
    assert np.isnan(_all(tallies.means(rounds=20, seed=0))).all()


@pytest.mark.parametrize(
    ("rounds", "seed", "said"),
    [(0, 0, "one round at least"), (10, -1, "a seed is a number from 0")],
)
def test_rounds_and_seed_must_make_sense(rounds: int, seed: int, said: str) -> None:
    with pytest.raises(ArenaJudgeError, match=said):
        ratio_means(np.ones((1, 3)), np.ones((1, 3)), [0], rounds=rounds, seed=seed)


def _battles(generator: np.random.Generator, prompts: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Prompts with one to three battles, and for each battle its log loss, that of a blurred judge
    less it, and whether the verdict is right; battles about one prompt are alike."""
    codes = np.repeat(np.arange(prompts), generator.integers(1, 4, prompts))
    shared = generator.dirichlet([1.0] * 3, prompts)[codes]
    proba = (shared + generator.dirichlet([1.0] * 3, len(codes))) / 2
    chosen = (generator.random((len(codes), 1)) > proba.cumsum(axis=1)[:, :2]).sum(axis=1)
    rows = np.arange(len(codes))
    loss = -np.log(proba[rows, chosen])
    blurred = -np.log((proba / 2 + 1 / 6)[rows, chosen])
    return codes, np.stack([loss, blurred - loss, (proba.argmax(axis=1) == chosen) * 1.0])


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "least"), [(150, 0.93), (30, 0.915)])
def test_95_percent_intervals_cover_the_truth_in_93_to_97_of_a_hundred_draws(
    prompts: int, least: float
) -> None:
    """With as few as 30 prompts a little less."""
    _, many = _battles(np.random.default_rng(0), 500_000)
    truth = many.mean(axis=1)
    generator = np.random.default_rng(prompts)
    covered = np.zeros(3)
    draws = 1000
    for draw in range(draws):
        codes, values = _battles(generator, prompts)
        tallies = Tallies(codes)
        for row in values:
            tallies.add(row, np.ones(len(codes)))
        found = tallies.means(rounds=300, seed=draw)
        covered += (found.low <= truth) & (truth <= found.high)
    assert ((covered / draws >= least) & (covered / draws <= 0.97)).all(), covered / draws
