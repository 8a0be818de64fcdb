"""Several keys: whose is shown to whom, and what becomes of one that is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from judge.engines.base import Parameters
from judge.engines.endpoint import EndpointEngine
from judge.engines.ledger import Ledger
from judge.engines.settings import EndpointSettings
from judge.errors import ArenaJudgeError

from .driving import ask, echoes, replies, texts
from .driving import engine as engine_of

Serve = Callable[..., Any]
KEYS = {"KEY_A": "sk-alpha-0000", "KEY_B": "sk-bravo-0000", "KEY_C": "sk-charlie-00"}
ONE, TWO = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


def engine(*servers: Any, **changed: Any) -> EndpointEngine:
    return engine_of(*servers, **{"key_variable": list(KEYS), **changed})


def shown(call: Any) -> str:
    """The name of the key that a call came with."""
    key = call.request.headers["Authorization"].removeprefix("Bearer ")
    return next(name for name, value in KEYS.items() if value == key)


def used(server: Any) -> Counter[str]:
    return Counter(shown(call) for call in server.calls)


# Which key goes where.


@pytest.mark.parametrize(
    ("urls", "names", "pairs"),
    [
        ([ONE, TWO], (), [(ONE, "OPENAI_API_KEY"), (TWO, "OPENAI_API_KEY")]),
        ([ONE, TWO], "A", [(ONE, "A"), (TWO, "A")]),
        ([ONE, TWO], ["A"], [(ONE, "A"), (TWO, "A")]),
        ([ONE, TWO], ["A", "B"], [(ONE, "A"), (TWO, "B")]),
        ([ONE, ONE, TWO], ["A", "B", "A"], [(ONE, "A"), (ONE, "B"), (TWO, "A")]),
        ([ONE, ONE], "A", [(ONE, "A")]),
        ([ONE], ["A", "B", "A"], [(ONE, "A"), (ONE, "B")]),
        (ONE, ["A", "B"], [(ONE, "A"), (ONE, "B")]),
    ],
)
def test_servers_and_their_keys(urls: Any, names: Any, pairs: list[tuple[str, str]]) -> None:
    settings = EndpointSettings(urls, key_variable=names)
    assert settings.servers == tuple(pairs)
    assert replace(settings, concurrency=2).servers == tuple(pairs)


@pytest.mark.parametrize(
    ("urls", "names", "message"),
    [
        ([ONE, TWO], ["A", "B", "C"], "there are 3 keys for 2 servers; name one key for all of"),
        ([ONE, TWO, f"{ONE}/x"], ["A", "B"], "there are 2 keys for 3 servers"),
        ([ONE], ["A", "sk-secret-key"], "what was given is no name of one"),
        ([ONE], "", "what was given is no name of one"),
    ],
)
def test_other_numbers_of_keys_make_no_sense(urls: Any, names: Any, message: str) -> None:
    with pytest.raises(ArenaJudgeError, match=message) as caught:
        EndpointSettings(urls, key_variable=names)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("UNSET_KEY", "UNSET_KEY is not set"),
        (["KEY_A", "UNSET_KEY"], "UNSET_KEY is not set"),
        ("OPENAI_API_KEY", "OPENAI_API_KEY is not set"),
        ("gsk_thisIsAKeyAndNoName0123456789", r"gsk_\.\.\. is not set"),
    ],
)
def test_a_key_that_is_named_must_be_there(serve: Serve, names: Any, said: str) -> None:
    server = serve()
    with pytest.raises(ArenaJudgeError, match=said) as caught:
        engine(server, key_variable=names)
    assert "thisIsAKey" not in str(caught.value)
    assert server.calls == []


def test_an_empty_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_B", "  ")
    with pytest.raises(ArenaJudgeError, match="KEY_B is not set, or empty"):
        EndpointEngine(EndpointSettings(ONE, key_variable="KEY_B"))


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
def test_each_server_is_shown_its_own_key_only(serve: Serve, client: str) -> None:
    servers = [serve(), serve(), serve()]
    with engine(*servers, client=client, concurrency=3) as asked:
        assert texts(replies(asked, ask(30))) == echoes(30)
    assert [set(used(server)) for server in servers] == [{"KEY_A"}, {"KEY_B"}, {"KEY_C"}]


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
def test_the_keys_of_one_server_share_the_load(serve: Serve, client: str) -> None:
    together = asyncio.Event()

    async def script(call: Any) -> Any:
        if len(used(server)) == len(KEYS):
            together.set()
        await together.wait()
        return call.say()

    server = serve(script)
    with engine(server, client=client, concurrency=3) as asked:
        assert texts(replies(asked, ask(30))) == echoes(30)
    assert set(used(server)) == set(KEYS)


# What becomes of a key that does not serve.


def test_a_key_that_is_refused_is_left_out(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(401, f"no {KEYS['KEY_B']}") if shown(call) == "KEY_B" else call.say()

    server = serve(script)
    with engine(server, concurrency=9) as asked:
        assert texts(replies(asked, ask(40))) == echoes(40)
        assert texts(replies(asked, ask(40))) == echoes(40)
        assert asked.notes == [
            f"{server.url} with KEY_B answered 401: no [key]; it is left out for tiny"
        ]
        assert asked.statistics.failed == 0
    assert used(server)["KEY_B"] == 1


@pytest.mark.parametrize("status", [401, 403])
def test_with_no_key_left_the_run_ends(serve: Serve, status: int) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(status, f"no {shown(call)}")

    server = serve(script)
    with engine(server) as asked, pytest.raises(ArenaJudgeError) as caught:
        list(asked.answer(ask(40)))
    message = str(caught.value)
    for name in KEYS:
        assert f"{server.url} with {name} answered {status}: no {name}" in message
    assert "to a key that it takes" in message
    assert "\n" not in message
    assert len(server.calls) == 3


def test_one_server_refuses_and_the_other_is_not_there(serve: Serve, dead: str) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(401, "who?")

    server = serve(script)
    for urls in ([server, dead], [dead, server]):
        with (
            engine(*urls, key_variable=["KEY_A", "KEY_B"]) as asked,
            pytest.raises(ArenaJudgeError) as caught,
        ):
            list(asked.answer(ask(9)))
        assert f"no server answers at {dead}" in str(caught.value)
        assert f"{server.url} answered 401: who?" in str(caught.value)


def test_a_key_that_is_revoked_meanwhile_costs_nothing(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        revoked = shown(call) == "KEY_A" and used(server)["KEY_A"] > 4
        return call.refuse(401, "revoked") if revoked else call.say()

    server = serve(script)
    with engine(server, concurrency=6) as asked:
        assert texts(replies(asked, ask(300))) == echoes(300)
        assert asked.notes == [
            f"{server.url} with KEY_A answered 401: revoked; it is left out, and tried again now "
            "and then"
        ]
    assert used(server)["KEY_A"] < 60


def test_a_call_that_no_key_may_make_fails_alone(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(403, "not that") if call.prompt == "prompt 7" else call.say()

    server = serve(script)
    with engine(server, concurrency=2) as asked:
        found = dict(asked.answer(ask(20)))
    assert {number for number, reply in found.items() if reply.error} == {7}
    assert "answered 403: not that" in str(found[7].error)
    assert 2 <= server.prompts.count("prompt 7") <= 12


def test_when_all_keys_are_revoked_the_rest_fails_and_says_why(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(401, "revoked") if len(server.calls) > 20 else call.say()

    server = serve(script)
    with engine(server, concurrency=3, patience=0.2) as asked:
        found = dict(asked.answer(ask(200)))
    errors = {str(reply.error) for reply in found.values() if reply.error}
    assert len(found) == 200
    assert sum(reply.error is None for reply in found.values()) == 20
    assert all("answered 401: revoked" in error for error in errors)
    assert len(server.calls) < 200


def test_an_empty_account_leaves_the_others(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if shown(call) == "KEY_C":
            return call.refuse(429, "quota", code="insufficient_quota")
        return call.say()

    server = serve(script)
    with engine(server) as asked:
        assert texts(replies(asked, ask(30))) == echoes(30)
    assert used(server)["KEY_C"] == 1


def test_a_busy_key_is_waited_for_alone(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if shown(call) == "KEY_A":
            return call.refuse(429, "slow down", retry_after=3600)
        return call.say()

    server = serve(script)
    with engine(server, key_variable=["KEY_A", "KEY_B"], patience=1e9) as asked:
        answers = asked.answer(ask(40))
        found = dict(next(answers) for _ in range(39))  # the fortieth waits, as it was told to
        answers.close()  # type: ignore[attr-defined]
    assert len(found) == 39
    assert used(server)["KEY_A"] == 1


def test_what_one_key_finds_out_the_others_know(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if "seed" in call.body:
            return call.refuse(400, "seed is not supported")
        return call.say()

    server = serve(script)
    with engine(server, concurrency=9) as asked:
        assert texts(replies(asked, ask(30, Parameters("tiny", seed=3)))) == echoes(30)
        assert len(asked.notes) == 1
    # The first calls of all keys may be under way when it is found out.
    assert sum("seed" in call.body for call in server.calls) <= 3


# Keys are nowhere.


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
def test_no_key_is_anywhere(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    client: str,
) -> None:
    # One is the beginning of another, and one is written differently in JSON.
    keys = {"KEY_A": "sk-alpha-0000", "KEY_B": "sk-alpha-0000-more", "KEY_C": 'sk/"slash"/00'}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    everything = " ".join(keys.values())

    async def script(call: Any) -> Any:
        if call.prompt == "prompt 1":
            return call.refuse(400, f"bad: {everything}")
        if "temperature" in call.body:
            return call.refuse(400, f"no temperature for {everything}")
        answer = call.say(f"your keys are {everything}")
        answer.text = str(answer.text).replace("sk/", "sk\\/")
        return answer

    caplog.set_level(0)
    server = serve(script)
    with Ledger(tmp_path / "ledger") as ledger, engine(server, ledger=ledger, client=client) as a:
        found = dict(a.answer(ask(5)))
        stored = b"".join(file.read_bytes() for file in tmp_path.iterdir()).decode("latin-1")
        seen = [repr(found), *a.notes, repr(a), repr(vars(a)), caplog.text, stored]
    assert found[0].text == "your keys are [key] [key] [key]"
    assert found[1].error is not None
    assert found[1].error.endswith("bad: [key] [key] [key]")
    for part in ("alpha", "-more", "slash"):
        assert part not in "".join(seen)
