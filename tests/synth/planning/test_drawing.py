"""The draw: counts that sum, take no more than there is, and grow with what is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.drawing import POWERS, draw, keys

Ints = npt.NDArray[np.int64]

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=12)
RULES = st.sampled_from(list(POWERS))


def crowd(sizes: list[int], seed: int = 0) -> tuple[Ints, Ints, npt.NDArray[np.uint64]]:
    """Battles of strata of such sizes, in any order: strata, ranks, keys."""
    rng = np.random.default_rng(seed)
    strata = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    chance = keys(rng.integers(2**63, size=len(strata), dtype=np.uint64), seed)
    return strata, np.zeros(len(strata), np.int64), chance


@given(SIZES, RULES, st.integers(1, 800))
def test_counts_sum_to_what_was_asked_for_and_none_is_above_what_there_is(
    sizes: list[int], rule: str, size: int
) -> None:
    strata, ranks, chance = crowd(sizes)
    places = draw(strata, ranks, chance, size, allocation=rule)
    assert len(places) == len(set(places.tolist())) == min(size, sum(sizes))
    taken = np.bincount(strata[places], minlength=len(sizes))
    assert (taken <= sizes).all()


@given(SIZES, RULES, st.floats(0.05, 1), st.integers(0, 9))
def test_every_beginning_is_the_draw_of_that_size(
    sizes: list[int], rule: str, share: float, seed: int
) -> None:
    strata, ranks, chance = crowd(sizes, seed)
    close = chance % np.uint64(3) == 0
    whole = draw(strata, ranks, chance, 10**6, allocation=rule, close=close, share=share)
    for size in (1, 2, len(strata) // 2 + 1, len(strata)):
        part = draw(strata, ranks, chance, size, allocation=rule, close=close, share=share)
        assert part.tolist() == whole[:size].tolist()


@given(SIZES, RULES)
def test_every_beginning_is_allocated_by_the_rule(sizes: list[int], rule: str) -> None:
    """Nobody has more for its weight than who could still be given one (Webster's criterion)."""
    strata, ranks, chance = crowd(sizes)
    weights = np.array(sizes, dtype=float) ** POWERS[rule]
    places = draw(strata, ranks, chance, len(strata), allocation=rule)
    taken = np.zeros(len(sizes))
    for place in places.tolist():
        taken[strata[place]] += 1
        least = ((2 * taken + 1) / weights)[taken < sizes].min(initial=np.inf)
        most = ((2 * taken - 1) / weights)[taken > 0].max()
        assert most <= least * (1 + 1e-12)


@given(SIZES, RULES, st.integers(1, 300))
def test_a_larger_stratum_never_gives_fewer(sizes: list[int], rule: str, size: int) -> None:
    strata, ranks, chance = crowd(sizes)
    places = draw(strata, ranks, chance, size, allocation=rule)
    taken = np.bincount(strata[places], minlength=len(sizes))
    order = np.argsort(sizes, kind="stable")
    drawn, there = taken[order], np.array(sizes)[order]
    larger = there[1:] > there[:-1]
    # Of strata of one size, those named first may have one more.
    assert (drawn[1:] >= drawn[:-1] - ~larger).all()


def test_the_allocations_are_what_they_are_called() -> None:
    strata, ranks, chance = crowd([100, 400, 900])
    expected = {"proportional": [10, 40, 90], "square-root": [23, 47, 70], "equal": [46, 47, 47]}
    for rule, counts in expected.items():
        places = draw(strata, ranks, chance, 140, allocation=rule)
        assert np.bincount(strata[places]).tolist() == counts


def test_what_a_small_stratum_lacks_the_others_give() -> None:
    strata, ranks, chance = crowd([5, 100, 100])
    places = draw(strata, ranks, chance, 105, allocation="equal")
    assert np.bincount(strata[places]).tolist() == [5, 50, 50]


@given(SIZES, RULES, st.floats(0.01, 1), st.integers(0, 9))
def test_the_share_of_close_battles_holds_from_the_beginning_on(
    sizes: list[int], rule: str, share: float, seed: int
) -> None:
    strata, ranks, chance = crowd(sizes, seed)
    close = chance % np.uint64(4) == 0
    places = draw(strata, ranks, chance, 10**6, allocation=rule, close=close, share=share)
    assert sorted(places.tolist()) == list(range(len(strata)))
    so_far = np.cumsum(close[places])
    wanted = np.minimum(share * np.arange(1, len(places) + 1), close.sum())
    assert (so_far >= wanted - 1e-6).all()


def test_a_share_that_is_there_anyway_changes_nothing() -> None:
    strata, ranks, chance = crowd([40, 60])
    close = np.ones(100, dtype=bool)
    plain = draw(strata, ranks, chance, 50)
    assert draw(strata, ranks, chance, 50, close=close, share=0.5).tolist() == plain.tolist()
    none = draw(strata, ranks, chance, 50, close=~close, share=0.5)
    assert none.tolist() == plain.tolist()


def test_further_battles_of_a_prompt_come_last_in_their_stratum() -> None:
    strata, _, chance = crowd([50, 50])
    ranks = (np.arange(100) % 3 == 0).astype(np.int64)
    places = draw(strata, ranks, chance, 100)
    for stratum in (0, 1):
        of = ranks[places[strata[places] == stratum]]
        assert of.tolist() == sorted(of.tolist())


def test_chance_is_the_same_whoever_else_is_there() -> None:
    """The same battles in another order, and some of them alone, come in the same order."""
    strata, ranks, chance = crowd([30, 50])
    places = draw(strata, ranks, chance, 80)
    turn = np.random.default_rng(3).permutation(80)
    turned = draw(strata[turn], ranks, chance[turn], 80)
    assert turn[turned].tolist() == places.tolist()
    first = np.flatnonzero(strata == 0)
    alone = draw(np.zeros(30, np.int64), ranks[first], chance[first], 30)
    assert first[alone].tolist() == [place for place in places.tolist() if strata[place] == 0]


def test_every_battle_of_a_stratum_is_drawn_as_often_as_any_other() -> None:
    strata, ranks, _ = crowd([40])
    marks = np.arange(40, dtype=np.uint64)
    times = np.zeros(40)
    for seed in range(600):
        times[draw(strata, ranks, keys(marks, seed), 10)] += 1
    # 600 draws at 1 in 4: a standard deviation of 10.6 about 150.
    assert (np.abs(times - 150) < 48).all()
    assert times.std() == pytest.approx(10.6, abs=5)


def test_seeds_draw_differently() -> None:
    strata, ranks, _ = crowd([100])
    marks = np.arange(100, dtype=np.uint64)
    drawn = [draw(strata, ranks, keys(marks, seed), 20).tolist() for seed in range(5)]
    assert len({tuple(places) for places in drawn}) == 5
    assert keys(marks, 2**63 - 1).tolist() != keys(marks, 0).tolist()
