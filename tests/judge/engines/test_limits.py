"""Limits adapt, rates hold, waits are as asked."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.engines.limits import AdaptiveLimit, Budget, Rate, asked_wait, backoff, retry_after


def rounds(limit: AdaptiveLimit, now: float, count: int, refused: float, seconds: float) -> float:
    """So many rounds of as many calls as the limit allows, a share of them refused."""
    for _ in range(count):
        for call in range(calls := limit.now):
            done = now + seconds
            if call < round(refused * calls):
                limit.refused(now, done)
            else:
                limit.answered(now, done)
        now += 2 * seconds
    return now


@pytest.mark.parametrize("most", [1, 8, 64, 512])
def test_success_raises_the_limit_to_the_most(most: int) -> None:
    limit = AdaptiveLimit(most)
    rounds(limit, 0, 20, 0.0, 0.1)
    assert limit.now == most


def test_refusals_of_all_halve_it_again_and_again_down_to_one() -> None:
    limit = AdaptiveLimit(256)
    now = rounds(limit, 0, 20, 0.0, 0.1)
    before = limit.now
    now = rounds(limit, now, 1, 1.0, 0.1)
    assert limit.now <= before / 2 + 4
    rounds(limit, now, 20, 1.0, 0.1)
    assert limit.now == 1


def test_a_burst_of_refusals_counts_once() -> None:
    limit = AdaptiveLimit(256)
    now = rounds(limit, 0, 20, 0.0, 0.1)
    for _ in range(256):  # all sent before the first of them came back
        limit.refused(now, now + 0.1)
    assert limit.now >= 128


def test_a_few_refusals_at_random_leave_much_of_it() -> None:
    limit = AdaptiveLimit(256)
    now = rounds(limit, 0, 20, 0.0, 0.1)
    rounds(limit, now, 100, 0.1, 0.1)
    assert 32 <= limit.now < 256


def test_it_comes_back_when_the_server_does() -> None:
    limit = AdaptiveLimit(64)
    now = rounds(limit, 0, 20, 1.0, 0.1)
    assert limit.now == 1
    rounds(limit, now, 500, 0.0, 0.1)
    assert limit.now == 64


def test_slow_answers_hold_it_down() -> None:
    quick, slow = AdaptiveLimit(512), AdaptiveLimit(512)
    for limit, later in ((quick, 0.1), (slow, 5.0)):
        now = rounds(limit, 0, 1, 0.0, 0.1)
        rounds(limit, now, 12, 0.0, later)
    assert quick.now == 512
    assert slow.now < 256


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10), st.floats(0, 10))), st.integers(1, 300))
def test_it_stays_between_one_and_the_most(
    outcomes: list[tuple[bool, float, float]], most: int
) -> None:
    limit = AdaptiveLimit(most)
    now = 0.0
    for good, pause, seconds in outcomes:
        now += pause
        (limit.answered if good else limit.refused)(now, now + seconds)
        assert 1 <= limit.now <= most


@given(st.floats(1, 1e5), st.lists(st.floats(0.1, 1e3), min_size=1, max_size=50))
def test_a_rate_is_kept_over_any_time(a_minute: float, amounts: list[float]) -> None:
    rate = Rate(a_minute)
    now = taken = 0.0
    for amount in amounts:
        now += rate.wait(amount, now)
        assert rate.wait(amount, now) <= 1e-6 * (1 + now)
        rate.take(amount)
        # The bucket, what came in since, and this one, which may be more than the bucket.
        assert taken <= max(1.0, a_minute / 60) + now * a_minute / 60 + 1e-6 * (1 + taken)
        taken += amount


def test_what_was_not_used_is_given_back() -> None:
    rate = Rate(60)
    assert rate.wait(1, 0) == 0
    rate.take(1)
    assert rate.wait(1, 0) == pytest.approx(1)
    rate.take(-1)
    assert rate.wait(1, 0) == 0


def test_no_rate_is_no_wait() -> None:
    rate = Rate(math.inf)
    for now in range(5):
        assert rate.wait(1e9, now) == 0
        rate.take(1e9)


@given(st.integers(0, 10_000), st.integers())
def test_a_backoff_grows_up_to_the_longest(attempt: int, seed: int) -> None:
    wait = backoff(attempt, random.Random(seed), 0.5, 30)
    assert 0 <= wait <= min(30, 0.5 * 2 ** min(attempt, 30))
    assert wait == backoff(attempt, random.Random(seed), 0.5, 30)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("Sat, 21 Nov 2026 10:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0),
        ("soon", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
def test_how_long_a_server_asks_to_wait(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, datetime(2026, 11, 21, 10, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "-5"}, 0.0),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": "3"}, 3.0),
        ({}, None),
    ],
)
def test_the_wait_that_headers_ask_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == seconds


@given(
    most=st.floats(0, 10),
    calls=st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 1)), max_size=50),
)
def test_a_budget_is_not_overdrawn_by_estimates_that_hold(
    most: float, calls: list[tuple[float, float]]
) -> None:
    budget, spent, under_way = Budget(most), 0.0, []
    for promised, part in calls:
        share = budget.share(promised)
        if share is not None:
            budget.hold(share)
            under_way.append((share, promised, promised * part))
        elif under_way:
            held, estimated, cost = under_way.pop(0)
            budget.hold(-held)
            budget.pay(cost, estimated)
            spent += cost
        assert spent + sum(held for held, _, _ in under_way) <= most + 1e-9


def test_a_budget_learns_that_estimates_are_too_low() -> None:
    budget = Budget(10.0)
    assert budget.share(1.0) == 1.0
    budget.pay(2.0, 1.0)
    assert budget.share(1.0) == 2.0
    assert budget.share(4.1) is None
    assert Budget(None).share(1e9) == 0.0
    assert Budget(0.0).share(0.01) is None
