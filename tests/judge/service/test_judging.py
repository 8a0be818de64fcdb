"""Whatever shares a batch, each request gets what it would get alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge import load_judge
from judge.errors import ArenaJudgeError, InputError
from judge.judges.base import Judge, Judgments
from judge.judges.recorded import RecordedJudge
from judge.service.judging import Answer, judge_batch
from judge.service.limits import Limits
from judge.service.refusals import Refused
from judge.service.requests import Asked, read_request

Battle = Callable[..., dict[str, Any]]


def asked(*battles: dict[str, Any], **options: object) -> Asked:
    return read_request(json.dumps({"battles": list(battles), **options}).encode(), Limits())


def reply(outcome: Answer | Refused) -> dict[str, Any]:
    assert isinstance(outcome, Answer), outcome
    return dict(json.loads(outcome.body))


def alone(judge: Judge, requests: Sequence[Asked]) -> list[dict[str, Any]]:
    return [reply(judge_batch(judge, [request])[0]) for request in requests]


def test_one_table_serves_all(echo: Any, battle: Battle) -> None:
    requests = [asked(battle(1), battle(2)), asked(battle(3))]
    found = [reply(outcome) for outcome in judge_batch(echo, requests)]
    assert echo.sizes == [3]
    shares = [[one["winner_model_a"] for one in said["judgments"]] for said in found]
    assert shares == [[1e-6, 2e-6], [3e-6]]


def test_ids_that_repeat_are_never_in_one_table(echo: Any, battle: Battle) -> None:
    requests = [
        asked(battle(1, id="x"), battle(2, id="x"), battle(3), ballots=True),
        asked(battle(4, id="x"), battle(5), battle(6, id="y"), ballots=True),
    ]
    for said, request in zip(judge_batch(echo, requests), alone(echo, requests), strict=True):
        assert reply(said) == request
    for table in echo.tables:
        assert table["id"].is_unique


def test_ballots_go_to_the_battle_that_they_are_of(echo: Any, battle: Battle) -> None:
    requests = [asked(battle(10 + n), battle(20 + n), ballots=True) for n in range(3)]
    for n, outcome in enumerate(judge_batch(echo, requests)):
        for number, said in zip((10 + n, 20 + n), reply(outcome)["judgments"], strict=True):
            ballots = said["ballots"]
            assert [ballot["sample"] for ballot in ballots] == [0, 1]
            for ballot in ballots:
                assert ballot["votes"]["clarity"]["A"] == number / 1e6
                assert ballot["votes"]["clarity"]["vote"] == "B"
    assert echo.sizes == [6]


def test_ballots_come_only_to_those_who_want_them(echo: Any, battle: Battle) -> None:
    with_, without = judge_batch(echo, [asked(battle(1), ballots=True), asked(battle(2))])
    assert "ballots" in reply(with_)["judgments"][0]
    assert "ballots" not in reply(without)["judgments"][0]


def test_a_judge_without_ballots_says_so_to_whom_wants_some(echo: Any, battle: Battle) -> None:
    echo.fills_ballots = False
    refused, answered = judge_batch(echo, [asked(battle(1), ballots=True), asked(battle(2))])
    assert isinstance(refused, Refused)
    assert (refused.status, refused.code, refused.field) == (422, "no_ballots", "ballots")
    assert reply(answered)["judgments"][0]["winner_model_a"] == 2e-6


def test_an_unjudged_battle_has_nulls_and_a_reason(echo: Any, battle: Battle) -> None:
    (outcome,) = judge_batch(echo, [asked(battle(1), battle("unjudged"), ballots=True)])
    judged, unjudged = reply(outcome)["judgments"]
    assert judged["reason"] is None
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    assert [unjudged[name] for name in names] == [None, None, None]
    assert unjudged["reason"] == "it was told so"
    assert isinstance(outcome, Answer)
    assert (outcome.battles, outcome.unjudged) == (2, 1)


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (RuntimeError, 500, "judge_failed"),
        (MemoryError, 500, "judge_failed"),
        (ArenaJudgeError, 500, "judge_failed"),
        (InputError, 422, "cannot_be_judged"),
    ],
)
def test_only_the_request_at_fault_is_told(
    echo: Any, battle: Battle, failure: type[Exception], status: int, code: str
) -> None:
    echo.failure = failure
    requests = [asked(battle(1)), asked(battle(2), battle("fail")), asked(battle(3))]
    first, second, third = judge_batch(echo, requests)
    assert isinstance(second, Refused)
    assert (second.status, second.code) == (status, code)
    assert reply(first)["judgments"][0]["winner_model_a"] == 1e-6
    assert reply(third)["judgments"][0]["winner_model_a"] == 3e-6


@pytest.mark.parametrize(
    "proba",
    [
        np.full((1, 3), 0.5),
        np.full((2, 3), 1 / 3),
        np.array([[0.5, 0.5]]),
        np.array([[np.nan, 0.5, 0.5]]),
        np.array([[-0.5, 1.0, 0.5]]),
        np.array([[np.inf, 0.0, 0.0]]),
    ],
)
def test_what_is_no_distribution_is_nobody_s_answer(battle: Battle, proba: Any) -> None:
    class Odd(Judge):
        name = "odd"

        def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
            return Judgments(proba)

    (outcome,) = judge_batch(Odd(), [asked(battle(1))])
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.code) == (500, "judge_failed")


def test_what_only_some_battles_have_stays_theirs(echo: Any, battle: Battle) -> None:
    judge_batch(echo, [asked(battle(1, reference="r")), asked(battle(2)), asked(battle(3))])
    assert [("reference" in table, len(table)) for table in echo.tables] == [(True, 1), (False, 2)]


def test_a_judge_that_knows_battles_by_id_finds_them(echo: Any, battle: Battle) -> None:
    known = pd.DataFrame({"id": ["x", "y"], "prompt": [("question 400000",)] * 2})
    ballots = echo.judge(known, ballots=True).ballots
    judge = RecordedJudge(ballots)
    requests = [
        asked(battle(1, id="y"), battle(2)),
        asked(battle(3, id="x"), battle(4, id="z"), battle(5, id="x")),
    ]
    first, second = (reply(outcome)["judgments"] for outcome in judge_batch(judge, requests))
    assert [one["reason"] is None for one in (*first, *second)] == [True, False, True, False, True]
    assert second[0]["winner_model_a"] == second[2]["winner_model_a"]


texts = st.lists(
    st.text(max_size=30)
    | st.sampled_from(
        ["", "\0", "- one\n- two", "yes. " * 40, "漢字かな", "```\nx\n```", "5 words"]
    ),
    min_size=1,
    max_size=3,
)
battles = st.integers(1, 2).flatmap(
    lambda turns: st.fixed_dictionaries(
        {
            name: st.lists(texts.map(" ".join), min_size=turns, max_size=turns)
            for name in ("prompt", "response_a", "response_b")
        }
    )
)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.lists(battles, min_size=1, max_size=3), min_size=2, max_size=5), st.booleans())
def test_the_statistical_judge_says_the_same_in_any_company(
    requests: list[list[dict[str, Any]]], ballots: bool
) -> None:
    judge = load_judge()
    made = [asked(*some, ballots=ballots) for some in requests]
    together = judge_batch(judge, made)
    assert [reply(outcome) for outcome in together] == alone(judge, made)
