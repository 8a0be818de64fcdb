"""Responses and references that models write, what is recorded of them, and what they cost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp")

from aiohttp import web

from judge.battles import read_battles
from judge.engines.base import Engine, Parameters, Reply, Request, Usage
from judge.engines.endpoint import EndpointEngine
from judge.engines.ledger import Ledger
from judge.engines.settings import EndpointSettings
from judge.errors import ArenaJudgeError, InputError
from synth.tables import table_writer
from synth.writing import RECORDS, Written, write_references, write_responses
from synth.writing_costs import reference_cost, writing_costs
from synth.writing_prompts import WritingPrompt, load_writing

PROMPT = load_writing("response")
REFERENCE = load_writing("reference")
KEY = "sk-test-0123456789abcdef"

Script = Callable[[Request], Reply | str]


class Scripted(Engine):
    """Answers by a function of the request, some requests ahead and the last of them first."""

    def __init__(self, script: Script, ahead: int = 4) -> None:
        super().__init__(name="scripted")
        self.script, self.ahead = script, ahead
        self.asked: list[Request] = []

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
            self.asked.append(request)
            said = self.script(request)
            usage = Usage(10, 4, 2)
            yield number, Reply(said, usage=usage, cost=0.5) if isinstance(said, str) else said

    def close(self) -> None: ...


def told(request: Request) -> str:
    """An answer that says to whom and to what it is."""
    turns = [message.content for message in request.messages if message.role == "user"]
    return f"{request.parameters.model}.{request.sample} on {'+'.join(turns)}"


def writers(engine: Engine, *models: str, **more: Any) -> dict[str, tuple[Engine, Parameters]]:
    return {
        f"endpoint:{model}": (engine, replace(PROMPT.parameters(model), **more)) for model in models
    }


def battles(rows: list[tuple[tuple[str, ...], str, str, str]], **more: object) -> pd.DataFrame:
    """Battles from (prompt, model A, model B, write)."""
    blank = [("",) * len(row[0]) for row in rows]
    kept = [("kept",) * len(row[0]) for row in rows]
    columns: dict[str, Any] = {
        "id": [f"b{number}" for number in range(len(rows))],
        "prompt": [row[0] for row in rows],
        "response_a": [blank[n] if "a" in row[3] else kept[n] for n, row in enumerate(rows)],
        "response_b": [blank[n] if "b" in row[3] else kept[n] for n, row in enumerate(rows)],
        "model_a": [f"endpoint:{row[1]}" for row in rows],
        "model_b": [f"endpoint:{row[2]}" for row in rows],
        "write": [row[3] for row in rows],
        **more,
    }
    index = pd.RangeIndex(100, 100 + len(rows))
    return pd.DataFrame(
        {name: pd.Series(cells, index, dtype=object) for name, cells in columns.items()}
    )


# --- responses ------------------------------------------------------------------------------------


def test_both_responses_are_written_turn_by_turn() -> None:
    engine = Scripted(told)
    table = battles([(("p", "q"), "x", "y", "ab"), (("r",), "y", "x", "b")], topic=["t", "u"])
    written = write_responses(table, writers(engine, "x", "y"), PROMPT)
    assert not written.failed
    assert written.battles["response_a"].tolist() == [("x.0 on p", "x.0 on p+q"), ("kept",)]
    assert written.battles["response_b"].tolist() == [("y.0 on p", "y.0 on p+q"), ("x.0 on r",)]
    assert written.battles["write"].tolist() == ["", ""]
    assert written.battles["topic"].tolist() == ["t", "u"]
    assert written.battles.index.tolist() == [100, 101]
    assert table["write"].tolist() == ["ab", "b"]  # what was given stays as it was
    second = next(one for one in engine.asked if told(one) == "x.0 on p+q")
    assert [(m.role, m.content) for m in second.messages] == [
        ("user", "p"),
        ("assistant", "x.0 on p"),
        ("user", "q"),
    ]


def test_what_was_written_is_recorded() -> None:
    def script(request: Request) -> Reply:
        text = f"<think>hm</think>{told(request)}"
        return Reply(text, "length", usage=Usage(10, 4, 2), cost=0.5, seconds=1.5, time=9.0)

    table = battles([(("p", "q"), "x", "y", "a")])
    written = write_responses(table, writers(Scripted(script), "x", "y"), PROMPT)
    assert tuple(written.records.columns) == RECORDS
    first, second = written.records.to_dict("records")
    assert json.loads(first.pop("parameters")) == {
        "temperature": 0.7,
        "max_tokens": 2048,
        "seed": 0,
    }
    assert first == {
        "id": "b0",
        "what": "response_a",
        "turn": 1,
        "model": "x",
        "sample": 0,
        "prompt": "response",
        "prompt_version": "1",
        "prompt_digest": PROMPT.digest,
        "text": "x.0 on p",
        "reply": "<think>hm</think>x.0 on p",
        "finish": "length",
        "note": "cut at max_tokens",
        "reason": "",
        "time": 9.0,
        "seconds": 1.5,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 2,
        "cost": 0.5,
        "shared": 0,
    }
    assert (second["turn"], second["text"]) == (2, "x.0 on p+q")
    assert written.battles["response_a"].tolist() == [("x.0 on p", "x.0 on p+q")]


def test_a_response_is_written_once_for_all_the_battles_it_stands_in() -> None:
    engine = Scripted(told)
    rows = [(("p",), *pair, "ab") for pair in (("x", "y"), ("z", "x"), ("y", "z"))]
    written = write_responses(battles(rows), writers(engine, "x", "y", "z"), PROMPT)
    assert sorted(map(told, engine.asked)) == ["x.0 on p", "y.0 on p", "z.0 on p"]
    assert written.battles["response_b"].tolist() == [("y.0 on p",), ("x.0 on p",), ("z.0 on p",)]
    assert len(written.records) == 6
    assert written.records["shared"].sum() == 3
    assert written.records.loc[written.records["shared"] == 0, "cost"].sum() == 1.5


def test_a_model_that_meets_itself_writes_two_samples() -> None:
    engine = Scripted(told)
    rows = [(("p",), "x", "x", "ab"), (("p",), "x", "y", "ab")]
    written = write_responses(battles(rows), writers(engine, "x", "y"), PROMPT)
    assert written.battles["response_a"].tolist() == [("x.0 on p",), ("x.0 on p",)]
    assert written.battles["response_b"].tolist() == [("x.1 on p",), ("y.0 on p",)]
    assert len(engine.asked) == 3
    with pytest.raises(InputError, match="'b0' has endpoint:x meet itself at temperature 0"):
        write_responses(battles(rows), writers(engine, "x", "y", temperature=0.0), PROMPT)


def test_what_could_not_be_written_says_why_and_is_still_to_be_written() -> None:
    def script(request: Request) -> Reply | str:
        asked = request.messages[-1].content
        return {
            "boom": Reply.failed("the server is on fire"),
            "budget": Reply.failed("budget"),
            "empty": Reply(" \n"),
            "filtered": Reply("", "content_filter"),
            "thought": Reply("<think>hm", "length"),
            "no": Reply("I will not.", "refusal"),
        }.get(asked, told(request))

    asked = ["boom", "budget", "empty", "filtered", "thought", "no", "fine"]
    rows: list[tuple[tuple[str, ...], str, str, str]] = [((one,), "x", "y", "a") for one in asked]
    rows.append((("fine", "boom"), "x", "y", "ab"))
    written = write_responses(battles(rows), writers(Scripted(script), "x", "y"), PROMPT)
    assert written.failed == {
        0: "response_a: the server is on fire",
        1: "response_a: not asked: the budget was spent",
        2: "response_a: the reply is empty",
        3: "response_a: the reply is empty (content_filter)",
        4: "response_a: the model thought, and wrote nothing: it was cut at max_tokens",
        7: "response_a: turn 2: the server is on fire",
    }
    assert written.battles["write"].tolist() == ["a"] * 5 + ["", "", "ab"]
    assert written.battles["response_a"].tolist() == [
        *[("",)] * 5,
        ("I will not.",),
        ("x.0 on fine",),
        ("", ""),
    ]
    # What a model said is paid for and recorded, of use or not.
    said = written.records.groupby("id")["reason"].agg(list).to_dict()
    assert said == {
        "b2": ["the reply is empty"],
        "b3": ["the reply is empty (content_filter)"],
        "b4": ["the model thought, and wrote nothing: it was cut at max_tokens"],
        "b5": [""],
        "b6": [""],
        "b7": ["", ""],
    }


def test_answers_that_are_there_are_history() -> None:
    engine = Scripted(told)
    table = battles([(("p", "q"), "x", "y", "ab")])
    table["response_a"] = pd.Series([("Hello", "")], table.index, dtype=object)
    written = write_responses(table, writers(engine, "x", "y"), PROMPT)
    assert written.battles["response_a"].tolist() == [("Hello", "x.0 on p+q")]
    (asked,) = [one for one in engine.asked if one.parameters.model == "x"]
    assert asked.messages[1].content == "Hello"
    again = write_responses(written.battles.assign(write="ab"), writers(engine, "x", "y"), PROMPT)
    assert len(engine.asked) == 3
    assert again.battles["response_a"].tolist() == written.battles["response_a"].tolist()


def test_battles_that_wait_for_nothing_stay_as_they_are() -> None:
    table = battles([(("p",), "x", "y", "")])
    for given_table in (table, table.drop(columns="write"), table.iloc[:0]):
        written = write_responses(given_table, {}, PROMPT)
        pd.testing.assert_frame_equal(written.battles, given_table)
        assert tuple(written.records.columns) == RECORDS
        assert not len(written.records)
        assert not written.failed


def test_battles_that_nobody_can_write() -> None:
    with pytest.raises(InputError, match="'b0' waits for a response of endpoint:y"):
        write_responses(battles([(("p",), "x", "y", "ab")]), writers(Scripted(told), "x"), PROMPT)
    with pytest.raises(InputError, match="'b0' has 'c' to be written"):
        write_responses(battles([(("p",), "x", "y", "c")]), {}, PROMPT)


tables = st.lists(
    st.tuples(
        st.lists(st.sampled_from("pqr"), min_size=1, max_size=3).map(tuple),
        st.sampled_from("xyz"),
        st.sampled_from("xyz"),
        st.sampled_from(["a", "b", "ab", ""]),
    ),
    max_size=10,
)


@given(tables, st.integers(1, 6))
def test_every_response_is_its_models_to_its_own_prompt(
    rows: list[tuple[tuple[str, ...], str, str, str]], ahead: int
) -> None:
    one, other = Scripted(told, ahead), Scripted(told, 2)
    engines = {**writers(one, "x", "y"), **writers(other, "z")}
    written = write_responses(battles(rows), engines, PROMPT)
    assert not written.failed
    for row, battle in zip(rows, written.battles.itertuples(), strict=True):
        turns, *models, write = row
        for side, model in zip("ab", models, strict=True):
            sample = int(side == "b" and write == "ab" and models[0] == models[1])
            expected = tuple(
                f"{model}.{sample} on {'+'.join(turns[: turn + 1])}" for turn in range(len(turns))
            )
            found = getattr(battle, f"response_{side}")
            assert found == (expected if side in write else ("kept",) * len(turns))
    # One call a turn of what is the same model's, sample's and prompt's.
    wanted = {
        (turns, model, side == "b" and write == "ab" and first == second)
        for turns, first, second, write in rows
        for side, model in (("a", first), ("b", second))
        if side in write
    }
    assert len(one.asked) + len(other.asked) == sum(len(turns) for turns, *_ in wanted)


# --- references -----------------------------------------------------------------------------------


def refer(table: pd.DataFrame, script: Script = told) -> tuple[Written, Scripted]:
    engine = Scripted(script)
    return write_references(table, engine, REFERENCE.parameters("r"), REFERENCE), engine


def test_a_reference_is_a_conversation_of_its_own() -> None:
    table = battles([(("p", "q"), "x", "y", "")])
    table["response_b"] = pd.Series([("other", "other")], table.index, dtype=object)
    written, engine = refer(table)
    assert written.battles["reference"].tolist() == [("r.0 on p", "r.0 on p+q")]
    assert [[m.role for m in one.messages] for one in engine.asked] == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
    ]
    assert "kept" not in str(engine.asked)
    assert engine.asked[0].messages[0].content == REFERENCE.system
    assert set(written.records["what"]) == {"reference"}


def test_a_turn_that_both_responses_were_given_has_no_reference() -> None:
    table = battles([(("p", "q"), "x", "y", "")])
    for side in "ab":
        cells = [("Hello", side)]
        table[f"response_{side}"] = pd.Series(cells, table.index, dtype=object)
    written, engine = refer(table)
    assert written.battles["reference"].tolist() == [("", "r.0 on p+q")]
    assert [m.content for m in engine.asked[0].messages[1:]] == ["p", "Hello", "q"]


def test_references_that_are_there_stay_and_the_others_are_written_once() -> None:
    rows = [((name,), "x", "y", "") for name in "ppqr"]
    there = ["known", None, ("known",), ""]
    written, engine = refer(battles(rows, reference=there))
    assert written.battles["reference"].tolist() == [
        "known",
        ("r.0 on p",),
        ("known",),
        ("r.0 on r",),
    ]
    assert len(engine.asked) == 2
    again, engine = refer(battles([rows[0]] * 3))
    assert again.battles["reference"].tolist() == [("r.0 on p",)] * 3
    assert len(engine.asked) == 1


def test_a_reference_that_could_not_be_had() -> None:
    written, _ = refer(battles([(("p",), "x", "y", "")]), lambda _: Reply.failed("no"))
    assert written.failed == {0: "reference: no"}
    assert written.battles["reference"].tolist() == [None]


def test_what_was_written_goes_to_files_and_comes_back(tmp_path: Path) -> None:
    table = battles([(("p", "q"), "x", "y", "ab"), (("r",), "x", "y", "a")])
    first = write_responses(table, writers(Scripted(told), "x", "y"), PROMPT)
    written, _ = refer(first.battles)
    for name, rows in (("battles", written.battles), ("records", first.records)):
        with table_writer(tmp_path / f"{name}.parquet") as writer:
            writer.append(rows)
    back = read_battles(tmp_path / "battles.parquet")
    for name in ("response_a", "response_b"):
        assert back[name].tolist() == written.battles[name].tolist()
    assert list(map(tuple, back["reference"])) == written.battles["reference"].tolist()
    assert pd.read_parquet(tmp_path / "records.parquet")["text"].tolist() == (
        first.records["text"].tolist()
    )


# --- over a server --------------------------------------------------------------------------------


class Server:
    """A server whose models repeat what they are asked, after whatever a test has them wait for."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,))
        self._thread.start()
        ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.01, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self.port = runner.addresses[0][1]
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        turns = [one["content"] for one in body["messages"] if one["role"] == "user"]
        text = f"{body['model']}, seed {body.get('seed')}, on {'+'.join(turns)}"
        return web.json_response(
            {
                "model": body["model"],
                "choices": [
                    {"finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                ],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10},
            }
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Server()
    yield started
    started.close()


@pytest.fixture
def prices(tmp_path: Path) -> str:
    path = tmp_path / "prices.yaml"
    models = "".join(f"  {name}: {{prompt: 1.0, completion: 10.0}}\n" for name in "xyr")
    path.write_text(f"models:\n{models}", encoding="utf-8")
    return str(path)


TALKS = [(("p", "q"), "x", "y", "ab"), (("r",), "y", "x", "ab"), (("p", "q"), "x", "x", "ab")]


def test_a_server_is_asked_nothing_twice(server: Server, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        with (
            Ledger(tmp_path / "ledger.sqlite") as ledger,
            EndpointEngine(EndpointSettings([server.url]), ledger=ledger) as engine,
        ):
            # Two tables, as a run has them: what the first has written the second knows.
            written = [
                write_responses(battles(rows), writers(engine, "x", "y"), PROMPT)
                for rows in (TALKS[:2], TALKS[1:])
            ]
            found.append([one.battles["response_a"].tolist() for one in written])
        assert not any(one.failed for one in written)
        assert len(server.bodies) == 8  # x and y on p, q and r, and the second sample of x
    assert found[0] == found[1]
    last = written[1].battles
    assert last["response_a"].tolist()[1][1] == "x, seed 0, on p+q"
    assert last["response_b"].tolist()[1][1] == "x, seed 1, on p+q"
    times = pd.concat([one.records for one in written])["time"]
    assert times.notna().all()


def test_a_budget_that_is_spent_leaves_battles_unwritten(
    server: Server, prices: str, tmp_path: Path
) -> None:
    rows: list[tuple[tuple[str, ...], str, str, str]] = [
        ((f"p{n}",), "x", "y", "ab") for n in range(20)
    ]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:

        def attempt(budget: float) -> Written:
            settings = EndpointSettings([server.url], prices=prices, max_cost=budget, concurrency=2)
            with EndpointEngine(settings, ledger=ledger) as engine:
                return write_responses(battles(rows), writers(engine, "x", "y"), PROMPT)

        first = attempt(0.025)
        assert first.failed
        assert set(first.failed.values()) <= {
            f"response_{side}: not asked: the budget was spent" for side in "ab"
        }
        missing = first.battles["write"].tolist()
        assert all(bool(missing[place]) == (place in first.failed) for place in range(20))
        assert sum(map(len, missing)) + len(server.bodies) == 40
        second = attempt(1.0)
        assert not second.failed
        assert len(server.bodies) == 40


# --- costs ----------------------------------------------------------------------------------------


def test_costs_are_those_of_what_is_then_asked(server: Server, prices: str, tmp_path: Path) -> None:
    prompt = replace(PROMPT, max_tokens=100, typical_tokens=10)
    with (
        Ledger(tmp_path / "ledger.sqlite") as ledger,
        EndpointEngine(EndpointSettings([server.url], prices=prices), ledger=ledger) as engine,
    ):
        engines = writers(engine, "x", "y", max_tokens=100)
        tables = [battles(TALKS[:2]), battles(TALKS[1:])]
        x, y = writing_costs(tables, engines, prompt, prices)
        assert not server.bodies
        assert (x.task, x.model, x.calls, y.model, y.calls) == ("write", "x", 5, "y", 3)
        assert (x.expected_tokens, x.most_tokens) == (50, 500)
        assert x.expected is not None
        assert x.most is not None
        # The second turn has the first answer before it, expected to be short.
        assert x.expected == pytest.approx((x.prompt_tokens + 10 * 50) / 1e6)
        assert x.most == pytest.approx((x.prompt_tokens + 2 * 90 + 10 * 500) / 1e6)
        for table in tables:
            write_responses(table, engines, prompt)
        assert len(server.bodies) == x.calls + y.calls
        x, y = writing_costs(tables, engines, prompt, prices)
        assert (x.from_ledger, y.from_ledger) == (3, 2)  # first turns
        one = reference_cost(tables, engine, REFERENCE.parameters("r"), REFERENCE, prices)
        assert (one.task, one.calls) == ("reference", 3)


def test_costs_of_models_without_a_price_or_an_estimate() -> None:
    (cost,) = writing_costs([battles(TALKS[2:])], writers(Scripted(told), "x"), PROMPT)
    assert (cost.calls, cost.expected_tokens, cost.expected) == (4, 4 * 350, None)
    assert cost.prompt_tokens > 2 * 350
    (nothing,) = writing_costs([], writers(Scripted(told), "x"), PROMPT)
    assert (nothing.calls, nothing.prompt_tokens) == (0, 0)
    reference = reference_cost(
        [battles(TALKS)], Scripted(told), REFERENCE.parameters("r"), REFERENCE
    )
    assert reference.calls == 3


def test_costs_find_faults_before_anything_is_asked() -> None:
    engines: Mapping[str, tuple[Engine, Parameters]] = writers(Scripted(told), "x", temperature=0.0)
    with pytest.raises(ArenaJudgeError, match="meet itself"):
        writing_costs([battles(TALKS[2:])], engines, PROMPT)


def test_a_longer_answer_is_no_typical_one() -> None:
    short = WritingPrompt("p", "1", "d", "", 5, 5, 0.7)
    (cost,) = writing_costs([battles(TALKS[2:])], writers(Scripted(told), "x"), short)
    assert cost.most_tokens == 4 * 2048
    assert cost.expected_tokens == 4 * 5
