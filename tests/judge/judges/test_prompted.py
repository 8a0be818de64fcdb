"""The prompted judge over an engine that answers by a script."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import pandas as pd
import pytest

from judge.ballots import CRITERIA
from judge.consistency import Consistency
from judge.engines.base import BUDGET, Engine, Reply, Request
from judge.errors import ArenaJudgeError, InputError
from judge.judges.asking import Asking
from judge.judges.jury import Jury
from judge.judges.prompted import PromptedJudge
from judge.parallel import ordered_map
from judge.prompt_files import load_prompt

Script = Callable[[Request, int], Reply | str]


class ScriptedEngine(Engine):
    """Answers by a function of the request and of how many came before it; a few requests ahead,
    and in the other order than they came."""

    def __init__(self, script: Script, ahead: int = 4) -> None:
        super().__init__(name="scripted")
        self.script, self.ahead = script, ahead
        self.asked: list[Request] = []
        self.closed = False

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        window: list[tuple[int, Request]] = []
        for item in enumerate(requests):
            window.append(item)
            if len(window) == self.ahead:
                yield from self._answered(window)
        yield from self._answered(window)

    def _answered(self, window: list[tuple[int, Request]]) -> Iterator[tuple[int, Reply]]:
        while window:
            number, request = window.pop()
            said = self.script(request, len(self.asked))
            self.asked.append(request)
            reply = Reply(said) if isinstance(said, str) else said
            self.statistics.count(reply)
            yield number, reply

    def close(self) -> None:
        self.closed = True


def shown(request: Request, side: str) -> str:
    """What stands in the sections of a response, all turns together."""
    text = request.messages[-1].content
    return "\n".join(
        re.findall(rf"=== \w+ response {side}, turn \d+ ===\n(.*?)(?=\n===)", text, re.DOTALL)
    )


def longer(request: Request) -> str:
    a, b = len(shown(request, "A")), len(shown(request, "B"))
    return "AB" if a == b else "A" if a > b else "B"


def all_of(vote: str) -> str:
    return json.dumps(dict.fromkeys(CRITERIA, vote))


def honest(request: Request, _: int) -> str:
    """A judge for whom the longer response is better, whichever stands first."""
    vote = longer(request)
    return vote if request.parameters.choices else all_of(vote)


def battles(
    pairs: Sequence[tuple[str, str]], ids: Sequence[str] | None = None, **more: object
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ids or [f"b{n}" for n in range(len(pairs))],
            "prompt": [(f"question {n}",) for n in range(len(pairs))],
            "response_a": [(a,) for a, _ in pairs],
            "response_b": [(b,) for _, b in pairs],
            **more,
        }
    )


def make(
    script: Script = honest, prompt: str = "discriminator", **asking: object
) -> tuple[PromptedJudge, ScriptedEngine]:
    engine = ScriptedEngine(script)
    settings = Asking(model="m", **asking)  # type: ignore[arg-type]
    return PromptedJudge(engine, load_prompt(prompt), settings), engine


PAIRS = [("long " * 9, "short"), ("short", "long " * 9), ("same", "same too"[:4])]


@pytest.mark.parametrize("prompt", ["discriminator", "criterion"])
def test_votes_become_probabilities(prompt: str) -> None:
    judge, engine = make(prompt=prompt)
    said = judge.judge(battles(PAIRS), ballots=True)
    a, b, tie = said.proba.T
    assert a[0] > max(b[0], tie[0])
    assert b[1] > max(a[1], tie[1])
    assert a[2] == b[2] < tie[2]
    assert np.allclose(said.proba.sum(axis=1), 1, atol=1e-12)
    assert np.allclose(said.proba[0], said.proba[1, [1, 0, 2]], atol=1e-12)
    assert said.ballots is not None
    assert said.ballots["id"].tolist() == ["b0", "b0", "b1", "b1", "b2", "b2"]
    assert said.ballots["order"].tolist() == ["AB", "BA"] * 3
    for criterion in CRITERIA:
        assert said.ballots[criterion].tolist() == ["A", "A", "B", "B", "AB", "AB"]
    assert len(engine.asked) == 6 * (5 if prompt == "criterion" else 1)
    assert judge.consistency().order_consistency == 1.0


def test_what_shares_a_prefix_is_asked_together() -> None:
    judge, _ = make(prompt="criterion", samples=3)
    prefixes = [request.prefix for request in judge.requests(battles(PAIRS[:2]))]
    runs = [p for n, p in enumerate(prefixes) if n == 0 or prefixes[n - 1] != p]
    assert len(prefixes) == 2 * 2 * 3 * 5
    assert len(runs) == len(set(prefixes)) == 4


def test_an_unreadable_reply_is_asked_again_as_another_draw() -> None:
    def first_garbled(request: Request, _: int) -> str:
        return honest(request, 0) if request.sample else "I cannot decide."

    judge, engine = make(first_garbled)
    said = judge.judge(battles(PAIRS))
    sound, _ = make()
    assert np.array_equal(said.proba, sound.judge(battles(PAIRS)).proba)
    assert not said.reasons
    assert judge.reading.unreadable == 6
    assert len(engine.asked) == 12
    again = [request for request in engine.asked if request.sample]
    assert all(request.parameters.temperature > 0 for request in again)


def test_a_second_sample_is_not_the_retry_of_the_first() -> None:
    judge, engine = make(lambda *_: "?", samples=2, retries=3)
    judge.judge(battles(PAIRS[:1]))
    keys = {(request.messages, request.sample) for request in engine.asked}
    assert len(keys) == len(engine.asked) == 2 * 2 * 4


def test_what_stays_unreadable_is_unjudged_with_its_reason() -> None:
    def garbled_once(request: Request, _: int) -> str:
        bad = "question 1" in request.messages[-1].content
        return "off topic" if bad else honest(request, 0)

    judge, engine = make(garbled_once, retries=1)
    said = judge.judge(battles(PAIRS), ballots=True)
    assert np.isnan(said.proba[:, 0]).tolist() == [False, True, False]
    assert list(said.reasons) == [1]
    assert "asked 2 times" in said.reasons[1]
    assert said.ballots is not None
    assert (said.ballots["reason"] != "").tolist() == [False, False, True, True, False, False]
    assert len(engine.asked) == 4 + 2 * 2
    assert judge.consistency().unreadable == 2


def test_one_criterion_that_cannot_be_read_leaves_the_others() -> None:
    def no_accuracy(request: Request, _: int) -> str:
        asked = request.messages[-1].content.splitlines()[-1]
        return "hm" if "accuracy" in asked else honest(request, 0)

    judge, _ = make(no_accuracy, prompt="criterion", retries=0)
    said = judge.judge(battles(PAIRS[:1]), ballots=True)
    assert said.ballots is not None
    assert said.ballots["accuracy"].isna().all()
    assert said.ballots["clarity"].tolist() == ["A", "A"]
    assert said.ballots["reason"].tolist() == ["", ""]
    assert said.proba[0].argmax() == 0


def test_a_failed_call_is_not_asked_again_here() -> None:
    judge, engine = make(lambda *_: Reply.failed("timed out after 5 s"))
    said = judge.judge(battles(PAIRS))
    assert np.isnan(said.proba).all()
    assert set(said.reasons.values()) == {"no reply: timed out after 5 s"}
    assert len(engine.asked) == 6


def test_a_spent_budget_is_called_that() -> None:
    judge, _ = make(lambda *_: Reply.failed(BUDGET))
    assert set(judge.judge(battles(PAIRS)).reasons.values()) == {"not asked: the budget was spent"}


def test_a_reply_cut_short_has_more_room_the_second_time() -> None:
    def cut(request: Request, _: int) -> Reply:
        whole = honest(request, 0)
        if request.parameters.max_tokens > 128:
            return Reply(whole)
        return Reply(whole[:40], "length")

    judge, _ = make(cut)
    assert not judge.judge(battles(PAIRS)).reasons


def test_ids_may_repeat() -> None:
    judge, _ = make()
    said = judge.judge(battles(PAIRS, ids=["x", "x", "x"]), ballots=True)
    assert said.proba[:, :2].argmax(axis=1).tolist()[:2] == [0, 1]
    assert said.ballots is not None
    assert set(said.ballots["id"]) == {"x"}


def test_no_battles_and_battles_that_say_nothing() -> None:
    judge, engine = make()
    assert judge.judge(battles(PAIRS)[:0], ballots=True).proba.shape == (0, 3)
    assert not engine.asked
    assert not np.isnan(judge.judge(battles([("", "")])).proba).any()
    assert judge.judge(battles([("", "")]).assign(prompt=[("",)])).proba.shape == (1, 3)


def test_a_run_in_several_tables_is_summed_up_as_one() -> None:
    whole, _ = make(lambda *_: all_of("A"))
    whole.judge(battles(PAIRS))
    parts, _ = make(lambda *_: all_of("A"))
    for place in range(3):
        parts.judge(battles(PAIRS).iloc[place : place + 1])
    assert parts.consistency() == whole.consistency()
    assert whole.consistency().position_bias == 1.0
    assert whole.consistency().pairs == 3


def test_orders_and_samples_that_are_asked_for() -> None:
    judge, engine = make(orders=("BA",), samples=3)
    said = judge.judge(battles(PAIRS), ballots=True)
    assert said.ballots is not None
    assert set(said.ballots["order"]) == {"BA"}
    assert said.ballots["sample"].tolist() == [0, 1, 2] * 3
    assert said.ballots["relevance"].tolist() == ["A"] * 3 + ["B"] * 3 + ["AB"] * 3
    assert {request.parameters.temperature for request in engine.asked} == {0.7}


def test_what_does_not_fit_is_cut_and_says_so() -> None:
    pairs = [("word " * 4000, "short"), ("fits", "too")]
    judge, engine = make(context=1200)
    said = judge.judge(battles(pairs), ballots=True)
    assert said.ballots is not None
    assert (said.ballots["cut"] > 1000).tolist() == [True, True, False, False]
    assert max(len(request.messages[-1].content) for request in engine.asked) < 8000
    parts, _ = make(context=1200, policy="chunks")
    table = parts.judge(battles(pairs), ballots=True).ballots
    assert table is not None
    first = table[table["id"] == "b0"]
    assert first["part"].nunique() > 2
    weights = first[first["order"] == "AB"]["weight"]
    assert weights.sum() == pytest.approx(1.0)


def test_a_context_without_room_is_refused_before_anything_is_asked() -> None:
    judge, engine = make(context=200)
    with pytest.raises(InputError, match="raise --context"):
        judge.judge(battles(PAIRS))
    assert not engine.asked


def test_reference_answers() -> None:
    judge, engine = make(prompt="referenced")
    with pytest.raises(InputError, match="reference"):
        judge.judge(battles(PAIRS))
    table = battles(PAIRS, reference=["the truth", "", None])
    said = judge.judge(table)
    assert np.isnan(said.proba[:, 0]).tolist() == [False, True, True]
    assert said.reasons[1] == said.reasons[2] == "it has no reference answer"
    assert all("the truth" in request.messages[-1].content for request in engine.asked)


def test_each_battle_ticks_once() -> None:
    judge, _ = make(lambda request, n: "?" if n % 3 == 0 else honest(request, n), samples=2)
    ticks: list[int] = []
    judge.tick = ticks.append
    judge.judge(battles(PAIRS * 5))
    assert sum(ticks) == 15


def test_requests_are_taken_as_they_are_needed() -> None:
    ahead = []

    def peek(request: Request, answered: int) -> str:
        number = int(re.findall(r"question (\d+)", request.messages[-1].content)[0])
        ahead.append(2 * number - answered)
        return honest(request, 0)

    judge, _ = make(peek)
    judge.judge(battles(PAIRS * 50))
    assert max(ahead) <= 6


def test_a_jury_counts_all_ballots() -> None:
    def juror(name: str, script: Script) -> PromptedJudge:
        engine = ScriptedEngine(script)
        return PromptedJudge(engine, load_prompt("discriminator"), Asking(model="m"), name=name)

    def silent(*_: object) -> Reply:
        return Reply.failed("gone")

    def contrary(request: Request, _: int) -> str:
        return all_of({"A": "B", "B": "A", "AB": "AB"}[longer(request)])

    jury = Jury([juror("one", honest), juror("two", honest), juror("three", contrary)])
    said = jury.judge(battles(PAIRS), ballots=True)
    assert said.proba[:2, :2].argmax(axis=1).tolist() == [0, 1]
    assert said.ballots is not None
    assert said.ballots.groupby("judge").size().to_dict() == {"one": 6, "two": 6, "three": 6}
    half = Jury([juror("one", honest), juror("gone", silent)]).judge(battles(PAIRS))
    assert not half.reasons
    none = Jury([juror("x", silent), juror("gone", silent)]).judge(battles(PAIRS))
    assert none.reasons[0] == "x: no reply: gone"
    with pytest.raises(ArenaJudgeError, match="same name"):
        Jury([juror("one", honest), juror("one", honest)])


@pytest.mark.parametrize(
    "wrong",
    [{"orders": ()}, {"orders": ("AA",)}, {"samples": 0}, {"temperature": -1.0}, {"retries": -1}],
)
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ArenaJudgeError):
        make(**wrong)  # type: ignore[arg-type]


# --- several tables at once -----------------------------------------------------------------------


class HoldingEngine(Engine):
    """Keeps a reply back until something has happened; answers everything else at once."""

    def __init__(self) -> None:
        super().__init__(name="holding")
        self.events: dict[str, threading.Event] = {}
        self.closed = threading.Event()

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        held: list[tuple[int, Request]] = []
        for number, request in enumerate(requests):
            if any(word in request.messages[-1].content for word in self.events):
                held.append((number, request))
                continue
            yield number, Reply(honest(request, 0))
        for number, request in held:
            for word, event in self.events.items():
                if word in request.messages[-1].content:
                    while not event.wait(0.01):
                        if self.closed.is_set():
                            raise ArenaJudgeError("closed")
            yield number, Reply(honest(request, 0))

    def close(self) -> None:
        self.closed.set()


def test_while_a_table_waits_for_its_last_reply_the_next_is_asked_about() -> None:
    engine = HoldingEngine()
    engine.events["held back"] = threading.Event()
    judge = PromptedJudge(engine, load_prompt("discriminator"), Asking(model="m"))

    def tables() -> Iterator[pd.DataFrame]:
        yield battles([("long " * 9, "held back")])
        yield battles(PAIRS)
        yield battles(PAIRS[:2])

    ended: list[int] = []

    def one(table: pd.DataFrame) -> np.ndarray:
        proba = judge.predict_proba(table)
        ended.append(len(table))
        if len(table) == 3:  # the second can only end because it did not wait for the first
            engine.events["held back"].set()
        return proba

    proba = list(ordered_map(one, tables(), 2, judge.stop))
    assert [len(table) for table in proba] == [1, 3, 2]
    assert ended[0] == 3
    other, _ = make()
    expected = [other.predict_proba(table) for table in tables()]
    assert all(np.array_equal(a, b) for a, b in zip(proba, expected, strict=True))
    assert judge.consistency() == other.consistency()
    assert judge.reading == other.reading
    assert judge.reading.replies == 12


@pytest.mark.parametrize("prompt", ["discriminator", "criterion"])
def test_threads_change_nothing(prompt: str) -> None:
    def moody(request: Request, _: int) -> str:
        text = request.messages[-1].content
        mood = sum(map(ord, text)) % 4 if not request.sample else 1
        if mood == 0:
            return "I cannot say."
        return honest(request, 0) if mood == 1 else "A" if prompt == "criterion" else all_of("A")

    draws = np.random.default_rng(0)
    sizes = draws.integers(1, 40, (24, 5, 2)).tolist()
    tables = [battles([("x" * a, "y" * b) for a, b in table]) for table in sizes]
    found = []
    for workers in (1, 2, 4):
        judge, _ = make(moody, prompt)
        said = list(ordered_map(judge.judge, tables, workers, judge.stop))
        found.append((np.concatenate([one.proba for one in said]), judge.reading))
        reports = judge.consistency()
        assert reports == make_again(judge, tables, moody, prompt)
    for proba, reading in found[1:]:
        assert np.array_equal(proba, found[0][0])
        assert reading == found[0][1]


def make_again(
    judge: PromptedJudge, tables: Sequence[pd.DataFrame], script: Script, prompt: str
) -> Consistency:
    """What a judge says of its consistency that judges the tables in the other order."""
    other, _ = make(script, prompt)
    for table in reversed(tables):
        other.judge(table)
    return other.consistency()


def test_a_judge_that_is_stopped_ends_in_all_threads() -> None:
    engine = HoldingEngine()
    engine.events["never"] = threading.Event()
    judge = PromptedJudge(engine, load_prompt("discriminator"), Asking(model="m"))
    tables = (battles([("never", "b")]) for _ in range(1000))
    results = ordered_map(judge.judge, chain([battles(PAIRS)], tables), 2, judge.stop)
    assert next(results).proba.shape == (3, 3)
    threads = threading.active_count()
    assert isinstance(results, Generator)
    results.close()
    assert threading.active_count() < threads
    with pytest.raises(ArenaJudgeError, match="was stopped"):
        judge.judge(battles(PAIRS))


def test_an_error_in_one_table_lets_the_others_have_their_turn() -> None:
    judge, _ = make(prompt="referenced")
    with pytest.raises(InputError, match="reference answers"):
        judge.judge(battles(PAIRS))
    said = judge.judge(battles(PAIRS, reference=["one", "two", "three"]))
    assert not said.reasons
