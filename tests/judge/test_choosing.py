"""Cross-fitting by prompt, paired differences, and the rule that keeps the simplest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm

from judge.choosing import cross_fit, deals, enough_prompts, mean_loss, paired_gap, simplest
from judge.errors import ArenaJudgeError
from judge.metrics import log_loss_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


def test_the_standard_error_is_that_of_clusters() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 40, 300)
    loss, other = generator.random(300) + groups / 40, generator.random(300)
    fit = sm.OLS(loss - other, np.ones(300)).fit()
    codes = np.unique(groups, return_inverse=True)[1]
    robust = fit.get_robustcov_results("cluster", groups=codes, df_correction=True, use_t=True)
    gap = paired_gap(loss, other, groups)
    assert gap.value == pytest.approx(fit.params[0])
    # statsmodels also multiplies by (N - 1) / (N - 1), which is 1 for a mean.
    assert gap.error == pytest.approx(robust.bse[0])
    low, high = robust.conf_int(0.05)[0]
    assert (gap.low, gap.high) == (pytest.approx(low), pytest.approx(high))


def test_a_single_prompt_tells_no_error() -> None:
    gap = paired_gap(np.array([1.0, 2.0]), np.array([0.5, 0.5]), [7, 7])
    assert gap.value == 1.0
    assert np.isnan([gap.error, gap.low, gap.high]).all()


def _memory(seen: list[tuple[set[int], set[int]]]) -> Callable[[Ints], Callable[[Ints], Floats]]:
    """A learner that notes what it was shown and asked."""

    def learn(rows: Ints) -> Callable[[Ints], Floats]:
        def judge(others: Ints) -> Floats:
            seen.append((set(rows.tolist()), set(others.tolist())))
            return np.tile([0.2, 0.3, 0.5], (len(others), 1))

        return judge

    return learn


def test_folds_keep_prompts_together_and_every_battle_is_judged_once_a_deal() -> None:
    groups = np.random.default_rng(1).integers(0, 30, 100)
    seen: list[tuple[set[int], set[int]]] = []
    said = cross_fit({"one": _memory(seen)}, groups, 5, 0, times=3)
    assert said["one"].shape == (3, 100, 3)
    assert not np.isnan(said["one"]).any()
    assert len(seen) == 15
    for learned, asked in seen:
        assert not set(groups[list(learned)]) & set(groups[list(asked)])
    assert len({frozenset(asked) for _, asked in seen}) == 15  # another deal, other folds


def test_few_prompts_are_dealt_often_and_many_once() -> None:
    assert deals(np.arange(13)) == 10
    assert deals(np.arange(500)) == 4
    assert deals(np.arange(50_000)) == 1


def test_the_loss_is_the_mean_over_deals() -> None:
    labels = np.eye(3)
    said = np.stack([np.full((3, 3), 1 / 3), np.full((3, 3), 0.1) + 0.7 * np.eye(3)])
    wanted = (log_loss_rows(labels, said[0]) + log_loss_rows(labels, said[1])) / 2
    np.testing.assert_allclose(mean_loss(labels, said), wanted)


def _losses(gains: dict[str, float], noise: float, seed: int = 0) -> dict[str, Floats]:
    generator = np.random.default_rng(seed)
    base = generator.random(400)
    return {name: base - gain + noise * generator.normal(size=400) for name, gain in gains.items()}


@pytest.mark.parametrize(
    ("gains", "noise", "least", "wanted"),
    [
        ({"plain": 0.0, "rich": 0.3}, 0.1, 0.0, "rich"),  # beaten beyond doubt
        ({"plain": 0.0, "rich": 0.01}, 1.0, 0.0, "plain"),  # not told apart
        ({"plain": 0.0, "rich": 0.0005}, 0.0, 0.001, "plain"),  # beaten, and not worth it
        ({"plain": 0.0, "rich": 0.0015}, 0.0, 0.001, "rich"),
        ({"plain": 0.0, "middle": 0.30, "rich": 0.301}, 0.2, 0.0, "middle"),
        ({"plain": 0.2, "rich": 0.0}, 0.1, 0.0, "plain"),
        ({"plain": 0.0, "rich": 0.0}, 0.0, 0.0, "plain"),
    ],
)
def test_the_simplest_is_kept_unless_it_is_beaten(
    gains: dict[str, float], noise: float, least: float, wanted: str
) -> None:
    found = simplest(_losses(gains, noise), np.arange(400), list(gains), least)
    assert found == wanted


def test_prompts_decide_how_sure_a_gain_is() -> None:
    """Four hundred battles about four prompts tell as much as four."""
    generator = np.random.default_rng(2)
    prompts = np.arange(400) % 4
    plain = generator.random(400)
    gain = np.array([0.5, -0.3, 0.4, -0.2])[prompts]
    losses = {"plain": plain, "rich": plain - gain}
    assert simplest(losses, np.arange(400), ["plain", "rich"]) == "rich"
    assert simplest(losses, prompts, ["plain", "rich"]) == "plain"


def test_too_few_prompts() -> None:
    with pytest.raises(ArenaJudgeError, match="1 prompt is too few to fly on; 3 are the least"):
        enough_prompts(np.zeros(9, dtype=np.intp), "fly")
    enough_prompts(np.arange(3), "fly")
