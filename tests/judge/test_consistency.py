"""Several judges' word as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from judge.ballots import ballot_table
from judge.consistency import Consistency, pooled, report_consistency

NAN = float("nan")
ONE = Consistency(60, 2, 30, 0.9, 0.1, 0.04, 0.16, 0.6)


def test_one_judge_s_word_stays_what_it_is() -> None:
    found = pooled([ONE])
    assert (found.low, found.high) == pytest.approx((ONE.low, ONE.high))
    assert replace(found, low=0.0, high=0.0) == replace(ONE, low=0.0, high=0.0)


def test_whoever_was_asked_more_counts_more() -> None:
    other = Consistency(20, 1, 10, 0.5, -0.3, -0.36, -0.24, 0.4)
    found = pooled([ONE, other])
    assert (found.ballots, found.unreadable, found.pairs) == (80, 3, 40)
    assert found.order_consistency == pytest.approx(0.8)
    assert found.position_bias == pytest.approx(0.0)
    assert found.first == pytest.approx(0.55)
    half = np.hypot(0.75 * 0.06, 0.25 * 0.06)
    assert (found.low, found.high) == pytest.approx((-half, half))


def test_a_judge_without_pairs_has_no_say_in_them() -> None:
    without = Consistency(20, 0, 0, NAN, NAN, NAN, NAN, NAN)
    found = pooled([ONE, without])
    assert (found.order_consistency, found.position_bias, found.first) == (0.9, 0.1, 0.6)
    assert (found.low, found.high) == pytest.approx((ONE.low, ONE.high))
    alone = pooled([without])
    assert np.isnan([alone.order_consistency, alone.position_bias, alone.low, alone.first]).all()


def test_what_was_never_answered_is_not_unreadable() -> None:
    vote = np.tile([1.0, 0.0, 0.0, 0.0], (5, 1))
    reasons = ["", "no reply: the server is away", "not asked: the budget was spent", "cut short"]
    found = report_consistency(
        ballot_table(list("1234"), "m", [vote, None, None, None], reason=reasons)
    )
    assert (found.ballots, found.unanswered, found.unreadable) == (4, 2, 1)
    assert found.unreadable_rate == 0.5
    assert found.lines()[0] == "1 of 2 ballots unreadable (50.0%); 2 more without a reply"
    assert pooled([found, found]).unanswered == 4


def test_nothing_is_said_that_is_not_known() -> None:
    sides = [np.tile([share, 1.0 - share, 0.0, 0.0], (5, 1)) for share in (1.0, 0.0)]
    one = report_consistency(ballot_table(["1", "1"], "m", sides, order=["AB", "BA"]))
    assert "nan" not in " ".join(one.lines())
    two = report_consistency(
        ballot_table(list("1122"), "m", [*sides, sides[0], sides[0]], order=["AB", "BA"] * 2)
    )
    assert two.high > 1.0  # the interval is what it is
    assert "+1.000]" in two.lines()[1]  # a bias is from -1 to 1
