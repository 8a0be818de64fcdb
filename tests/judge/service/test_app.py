"""The service over ASGI: what callers send and what they get."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from judge import __version__, load_judge
from judge.files.turns import TEXTS
from judge.service.requests import EXTRA
from judge.service.schemas import Health, ManyBattles, OneBattle, Problem, Reply

Battle = Callable[..., dict[str, Any]]
Talk = Callable[..., Any]

KEY = "correct horse battery staple".replace(" ", "-")


def problem(reply: Any) -> Any:
    """What a refusal says; every refusal has the same form."""
    assert reply.headers["content-type"] == "application/json"
    return Problem.model_validate_json(reply.content).error


def metrics(text: str) -> dict[tuple[str, str], float]:
    """Samples by name and by their one label."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# --- judging --------------------------------------------------------------------------------------


def test_a_reply_names_the_judge_and_keeps_ids_and_order(
    talk: Talk, echo: Any, battle: Battle
) -> None:
    async def said(caller: Any) -> Any:
        return await caller.post({"battles": [battle(n, id=f"id {n}") for n in (3, 1, 2)]})

    reply = talk(echo, said)
    assert reply.status_code == 200
    assert reply.json()["judge"] == {"name": "echo", "version": __version__}
    found = [(one["id"], one["winner_model_a"]) for one in reply.json()["judgments"]]
    assert found == [("id 3", 3e-6), ("id 1", 1e-6), ("id 2", 2e-6)]


def test_many_askers_at_once_each_get_their_own(talk: Talk, echo: Any, battle: Battle) -> None:
    async def one(caller: Any, n: int) -> list[tuple[Any, Any]]:
        size = 1 + n % 5
        sent = [battle(100 * n + k, id=f"{n}/{k}") for k in range(size)]
        judged = await caller.judged(*sent)
        return [(found["id"], found["winner_model_a"]) for found in judged]

    async def said(caller: Any) -> Any:
        return await asyncio.gather(*(one(caller, n) for n in range(200)))

    for n, found in enumerate(talk(echo, said)):
        assert found == [(f"{n}/{k}", (100 * n + k) / 1e6) for k in range(1 + n % 5)]
    assert len(echo.tables) < 200


def test_the_reply_is_what_the_schema_says(talk: Talk, battle: Battle) -> None:
    async def said(caller: Any) -> Any:
        return await caller.post({"battles": [battle(1), battle(2, id=7)], "ballots": True})

    reply = Reply.model_validate_json(talk(load_judge(), said).content, strict=True)
    assert [one.id for one in reply.judgments] == ["0", 7]
    for one in reply.judgments:
        proba = [one.winner_model_a, one.winner_model_b, one.winner_tie]
        assert sum(value for value in proba if value is not None) == pytest.approx(1)
        assert one.ballots is not None
        assert len(one.ballots) == 1


def test_requests_are_read_by_the_names_that_the_schema_has() -> None:
    fields = set(OneBattle.model_fields)
    assert fields == {"id", *TEXTS, *EXTRA, "ballots", "json_turns"}
    assert set(ManyBattles.model_fields) == {"battles", "ballots", "json_turns"}


# --- refusals -------------------------------------------------------------------------------------


def test_a_battle_that_cannot_be_read_is_named(talk: Talk, echo: Any, battle: Battle) -> None:
    async def said(caller: Any) -> Any:
        return await caller.post({"battles": [battle(1), battle(2, response_b=["a", "b"])]})

    reply = talk(echo, said)
    assert reply.status_code == 422
    error = problem(reply)
    assert (error.code, error.battle, error.field) == ("invalid_battle", 1, "response_b")
    assert not echo.tables


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.battles+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
def test_only_json_is_taken(talk: Talk, echo: Any, battle: Battle, kind: str, status: int) -> None:
    async def said(caller: Any) -> Any:
        return await caller.client.post(
            "/v1/judge", content=json.dumps(battle(1)), headers={"Content-Type": kind}
        )

    assert talk(echo, said).status_code == status


def test_a_body_that_says_it_is_too_long_is_not_read(talk: Talk, echo: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    async def said(caller: Any) -> Any:
        headers = {"Content-Type": "application/json", "Content-Length": "1001"}
        return await caller.client.post("/v1/judge", content=body(), headers=headers)

    reply = talk(echo, said, body=1000)
    assert (reply.status_code, problem(reply).code) == (413, "body_too_large")


@pytest.mark.parametrize("pieces", [3, 11, 60, 1000])
def test_a_body_that_says_nothing_of_its_length_is_measured(
    talk: Talk, echo: Any, battle: Battle, pieces: int
) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(pieces):
            read += 1
            yield b" " * 100
        yield json.dumps(battle(1)).encode()

    async def said(caller: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        refused = await caller.client.post("/v1/judge", content=body(), headers=headers)
        return refused, await caller.judged(battle(5))

    reply, (after,) = talk(echo, said, body=1000)
    assert reply.status_code == (200 if pieces == 3 else 413)
    # One that never ends is not read to its end, and nothing of it is held.
    assert read <= 41
    assert after["winner_model_a"] == 5e-6


def test_bodies_of_many_do_not_fill_the_memory(talk: Talk, echo: Any, battle: Battle) -> None:
    async def said(caller: Any) -> Any:
        half = asyncio.Event()
        goes_on = asyncio.Event()
        begun: set[int] = set()

        async def body(n: int) -> AsyncIterator[bytes]:
            yield json.dumps(battle(n)).encode() + b" " * 900
            begun.add(n)
            if len(begun) == 8:
                half.set()
            await goes_on.wait()
            yield b" "

        headers = {"Content-Type": "application/json"}

        def post(n: int) -> Any:
            return caller.client.post("/v1/judge", content=body(n), headers=headers)

        slow = [asyncio.ensure_future(post(n)) for n in range(8)]
        await half.wait()
        refused = await post(8)
        goes_on.set()
        return refused, [reply.status_code for reply in await asyncio.gather(*slow)], await post(9)

    refused, slow, after = talk(echo, said, body=1000)
    assert (refused.status_code, problem(refused).code) == (429, "busy")
    assert refused.headers["retry-after"] == "1"
    assert set(slow) == {200}
    assert after.status_code == 200


def test_a_body_that_does_not_come_is_given_up(talk: Talk, echo: Any, battle: Battle) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def said(caller: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        slow = await caller.client.post("/v1/judge", content=body(), headers=headers)
        return slow, await caller.judged(battle(1))

    reply, _ = talk(echo, said, body_seconds=0.05)
    assert (reply.status_code, problem(reply).code) == (408, "too_slow")


def test_past_the_queue_is_429_and_all_others_are_answered(
    talk: Talk, echo: Any, battle: Battle
) -> None:
    echo.gate = threading.Event()

    async def said(caller: Any) -> Any:
        asked = [asyncio.ensure_future(caller.post(battle(1)))]
        await asyncio.to_thread(echo.judging.wait)
        asked += [asyncio.ensure_future(caller.post(battle(2 + n))) for n in range(30)]
        refused = [task for task in asked if task in (await _first(asked, 21))]
        metrics = (await caller.client.get("/metrics")).text
        health = (await caller.client.get("/healthz")).json()
        echo.gate.set()
        replies = await asyncio.gather(*asked)
        return replies, len(refused), metrics, health

    replies, refused, text, health = talk(echo, said, queue=9, battles=9)
    assert refused == 21
    assert [reply.status_code for reply in replies] == [200] * 10 + [429] * 21
    for n, reply in enumerate(replies[:10]):
        assert reply.json()["judgments"][0]["winner_model_a"] == (1 + n) / 1e6
    for reply in replies[10:]:
        assert problem(reply).code == "busy"
        assert int(reply.headers["retry-after"]) >= 1
    assert metrics(text)["arena_judge_queue_battles", ""] == 9
    assert metrics(text)["arena_judge_requests_total", "429"] == 21
    assert health["waiting"] == 9
    assert echo.sizes == [1, 9]


async def _first(tasks: list[Any], number: int) -> list[Any]:
    """The first tasks to be done, so many of them."""
    done: list[Any] = []
    while len(done) < number:
        await asyncio.wait([t for t in tasks if t not in done], return_when="FIRST_COMPLETED")
        done = [task for task in tasks if task.done()]
    return done


def test_addresses_and_methods_that_are_not_there(talk: Talk, echo: Any) -> None:
    async def said(caller: Any) -> Any:
        return [
            await caller.client.get("/nowhere"),
            await caller.client.get("/v1/judge"),
            await caller.client.post("/healthz/"),
        ]

    missing, method, slash = talk(echo, said)
    assert (missing.status_code, problem(missing).code) == (404, "not_found")
    assert (method.status_code, problem(method).code) == (405, "method_not_allowed")
    assert method.headers["allow"] == "POST"
    assert slash.status_code == 404


def test_a_judge_that_fails_is_said_to_and_serves_on(talk: Talk, echo: Any, battle: Battle) -> None:
    async def said(caller: Any) -> Any:
        return await caller.post(battle("fail")), await caller.judged(battle(1))

    reply, (after,) = talk(echo, said)
    assert (reply.status_code, problem(reply).code) == (500, "judge_failed")
    assert after["winner_model_a"] == 1e-6


# --- the key --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer  {KEY} ", 200),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {KEY}\xff".encode("latin-1"), 401),
        (None, 401),
    ],
)
def test_the_key_is_asked_for_where_there_is_one(
    talk: Talk, echo: Any, battle: Battle, header: str | bytes | None, status: int
) -> None:
    async def said(caller: Any) -> Any:
        headers = {} if header is None else {"Authorization": header}
        sent = {**headers, "Content-Type": "application/json"}
        return (
            await caller.client.post("/v1/judge", content=json.dumps(battle(1)), headers=sent),
            await caller.client.get("/metrics", headers=headers),
            [await caller.client.get(path) for path in ("/healthz", "/", "/docs", "/openapi.json")],
        )

    judged, measured, free = talk(echo, said, key=KEY)
    assert (judged.status_code, measured.status_code) == (status, status)
    if status == 401:
        assert problem(judged).code == problem(measured).code == "unauthorized"
        assert judged.headers["www-authenticate"] == "Bearer"
        assert not echo.tables
    for reply in free:
        assert reply.status_code == 200
        assert KEY not in reply.text
    assert free[3].json()["components"]["securitySchemes"]


def test_who_has_no_key_has_no_body_read(talk: Talk, echo: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    async def said(caller: Any) -> Any:
        return await caller.client.post("/v1/judge", content=body())

    assert talk(echo, said, key=KEY).status_code == 401


# --- watching -------------------------------------------------------------------------------------


def test_metrics_count_what_happened(talk: Talk, echo: Any, battle: Battle) -> None:
    async def said(caller: Any) -> Any:
        await caller.post({"battles": [battle(1), battle("unjudged"), battle(2)]})
        await caller.post(battle(3))
        await caller.post("{")
        await caller.post({})
        reply = await caller.client.get("/metrics")
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        return metrics(reply.text)

    found = talk(echo, said)
    assert found["arena_judge_requests_total", "200"] == 2
    assert found["arena_judge_requests_total", "400"] == 1
    assert found["arena_judge_requests_total", "422"] == 1
    assert found["arena_judge_battles_total", ""] == 4
    assert found["arena_judge_unjudged_total", ""] == 1
    assert found["arena_judge_queue_battles", ""] == 0
    assert found["arena_judge_batch_battles_count", ""] == 2
    assert found["arena_judge_batch_battles_sum", ""] == 4
    assert found["arena_judge_batch_battles_bucket", "1.0"] == 1
    assert found["arena_judge_request_seconds_count", ""] == 2
    assert found["arena_judge_judging_seconds_count", ""] == 2
    assert found["process_resident_memory_bytes", ""] > 0


def test_services_in_one_process_count_for_themselves(
    talk: Talk, echo: Any, battle: Battle
) -> None:
    async def said(caller: Any) -> Any:
        await caller.judged(battle(1))
        return metrics((await caller.client.get("/metrics")).text)

    for _ in range(2):
        assert talk(echo, said)["arena_judge_requests_total", "200"] == 1


def test_health_turns_unready_and_new_requests_are_refused(
    talk: Talk, echo: Any, battle: Battle
) -> None:
    echo.gate = threading.Event()

    async def said(caller: Any) -> Any:
        before = await caller.client.get("/healthz")
        waiting = asyncio.ensure_future(caller.post(battle(1)))
        await asyncio.to_thread(echo.judging.wait)
        caller.service.refuse_new()
        during = await caller.client.get("/healthz"), await caller.post(battle(2))
        stopped = asyncio.ensure_future(caller.service.stop())
        echo.gate.set()
        await stopped
        return before, during, await waiting

    before, (health, refused), waiting = talk(echo, said)
    assert Health.model_validate_json(before.content).status == "ready"
    assert (health.status_code, health.json()["status"]) == (503, "stopping")
    assert (refused.status_code, problem(refused).code) == (503, "stopping")
    assert refused.headers["connection"] == "close"
    assert waiting.json()["judgments"][0]["winner_model_a"] == 1e-6
    assert echo.sizes == [1]


# --- the pages ------------------------------------------------------------------------------------


class _Assets(HTMLParser):
    """What a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "action") or (name == "href" and tag != "a"):
                self.found.append(f"{tag} {name}={value}")
            if name.startswith("on") or name == "style":
                self.found.append(name)


def test_the_page_says_everything_and_loads_nothing(talk: Talk, echo: Any) -> None:
    echo.name = "<script>alert(1)</script>"

    async def said(caller: Any) -> Any:
        return await caller.client.get("/docs")

    reply = talk(echo, said)
    assert reply.status_code == 200
    assets = _Assets()
    assets.feed(reply.text)
    assert assets.found == []
    assert not re.search(r"https?://|@import|url\(", reply.text)
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "<script>alert" not in reply.text
    assert "&lt;script&gt;alert" in reply.text
    for name in ("POST /v1/judge", "/healthz", "/metrics", "response_a", "json_turns", "429"):
        assert name in reply.text


def test_the_description_is_whole(talk: Talk, echo: Any) -> None:
    async def said(caller: Any) -> Any:
        described = (await caller.client.get("/openapi.json")).json()
        body = described["paths"]["/v1/judge"]["post"]["requestBody"]["content"]
        examples = body["application/json"]["examples"]
        return described, [await caller.post(one["value"]) for one in examples.values()]

    described, replies = talk(echo, said)
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]) == {"/v1/judge", "/healthz", "/metrics"}
    schemas = described["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert referred <= set(schemas)
    assert {"OneBattle", "ManyBattles", "Reply", "Problem"} <= referred
    assert [reply.status_code for reply in replies] == [200, 200]


# --- hostile input --------------------------------------------------------------------------------

hostile = st.sampled_from(
    ["\ud800", "\0", "\u202e", "\x1b[2J", "</script>", "x" * 2000, '["a"]', "", "𝕏" * 50, "\r\n"]
)
values = st.recursive(
    hostile | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(hostile | st.sampled_from(["role", "content", "text"]), inner, max_size=3)
    ),
    max_leaves=8,
)
cells = hostile | st.text(max_size=20) | st.lists(hostile, max_size=2) | values
fuzzed = st.fixed_dictionaries(
    {"prompt": cells, "response_a": cells, "response_b": cells},
    optional={"id": hostile | values, "reference": cells, "ballots": values, "x": values},
)
bodies = (
    st.binary(max_size=50)
    | values.map(lambda value: json.dumps(value).encode())
    | fuzzed.map(lambda value: json.dumps(value).encode())
    | st.lists(fuzzed, max_size=3).map(lambda value: json.dumps({"battles": value}).encode())
)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.lists(bodies, min_size=1, max_size=8))
def test_nothing_that_is_sent_is_the_server_s_fault(
    talk: Talk, statistical: Any, sent: list[bytes]
) -> None:
    async def said(caller: Any) -> Any:
        return await asyncio.gather(*(caller.post(body) for body in sent))

    for reply in talk(statistical, said, characters=1500):
        if reply.status_code == 200:
            for one in Reply.model_validate_json(reply.content).judgments:
                assert one.reason is None
                assert one.winner_tie is not None
                assert 0 < one.winner_tie < 1
        else:
            assert 400 <= reply.status_code < 500
            problem(reply)


@pytest.fixture(scope="module")
def statistical() -> Any:
    return load_judge()


@pytest.mark.parametrize("size", [1_000_000, 130_000])
def test_a_string_of_a_million_characters(talk: Talk, statistical: Any, size: int) -> None:
    async def said(caller: Any) -> Any:
        texts = {"prompt": "\0 " * (size // 2), "response_a": "漢" * size, "response_b": "a" * size}
        return await caller.post(texts)

    reply = talk(statistical, said)
    assert reply.status_code == (413 if size == 1_000_000 else 200)
