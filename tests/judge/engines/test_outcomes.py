"""What becomes of answers that are not as they were asked for, on real sockets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from judge.engines.base import Parameters
from judge.engines.ledger import Ledger
from judge.errors import ArenaJudgeError

from .driving import PLAIN, ask, echoes, engine, replies, texts

Serve = Callable[..., Any]
LONG = Parameters("tiny", max_tokens=1024)

SOMETHING_ELSE = [
    {"status": "ok"},
    ["hello"],
    {"choices": []},
    {"error": {"message": "never heard of it"}},
    {"error": None},
]


@pytest.mark.parametrize("content", SOMETHING_ELSE)
def test_what_answers_with_something_else_is_no_server(serve: Serve, content: Any) -> None:
    async def script(call: Any) -> Any:
        return web.json_response(content)

    server = serve(script)
    with engine(server) as asked, pytest.raises(ArenaJudgeError) as caught:
        list(asked.answer(ask(50)))
    said = (
        "an error: never heard of it"
        if "never" in str(content)
        else ("something else than a chat completion")
    )
    assert str(caught.value) == (
        f"{server.url} answered with {said}; see that its base URL is right"
    )
    assert len(server.calls) == 3


def test_what_answers_with_something_else_is_left_out(serve: Serve) -> None:
    third = threading.Event()

    async def script(call: Any) -> Any:
        if call.number == 2:
            third.set()
        return web.json_response({"status": "ok"})

    async def good(call: Any) -> Any:
        await asyncio.to_thread(third.wait)  # or it would be done before the other is known
        return call.say()

    other, server = serve(script), serve(good)
    with engine(other, server) as asked:
        assert texts(replies(asked, ask(60))) == echoes(60)
        said = "answered with something else than a chat completion; it is left out for tiny"
        assert asked.notes == [f"{other.url} {said}"]
    assert len(other.calls) == 3


def test_something_else_now_and_then_is_a_fault_like_others(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if call.number in (0, 1, 3, 4, 6, 7, 8, 9):
            return web.json_response({"status": "ok"})
        return call.refuse(500, "oh") if call.number == 2 else call.say()

    # Never three in a row before the first reply, and then as many as there may be.
    with engine(serve(script), concurrency=1) as asked:
        assert texts(replies(asked, ask(9))) == echoes(9)


@pytest.mark.parametrize("code", [429, "503"])
def test_a_status_within_a_200_is_heeded(serve: Serve, code: Any) -> None:
    async def script(call: Any) -> Any:
        if call.tries < 3:
            return web.json_response({"error": {"message": "wait", "code": code}})
        return call.say()

    with engine(serve(script), retries=0) as asked:  # being busy is no fault
        assert texts(replies(asked, ask(5))) == echoes(5)
        assert asked.statistics.refused == 15


def test_a_key_refused_within_a_200_ends_the_run(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return web.json_response({"error": {"message": "who?", "code": 401}})

    server = serve(script)
    with engine(server) as asked, pytest.raises(ArenaJudgeError, match="answered 401: who"):
        list(asked.answer(ask(5)))
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "message",
    ["max_tokens must be <= 512", "This model supports at most 512 completion tokens, not 1024"],
)
def test_a_cap_of_a_reply_s_length_is_learnt(serve: Serve, message: str) -> None:
    async def script(call: Any) -> Any:
        return call.say() if call.body["max_tokens"] <= 512 else call.refuse(400, message)

    server = serve(script)
    with engine(server) as asked:
        assert texts(replies(asked, ask(20, LONG))) == echoes(20)
        assert texts(replies(asked, ask(5, PLAIN))) == echoes(5)
        assert asked.notes == [
            f"{server.url} gives replies of tiny 512 tokens at most, fewer than the 1,024 asked for"
        ]
        longer = Parameters("tiny", max_tokens=4096)
        assert texts(replies(asked, ask(5, longer))) == echoes(5)
        assert len(asked.notes) == 1
    assert [call.body["max_tokens"] for call in server.calls] == [
        1024,
        *[512] * 20,
        *[64] * 5,
        *[512] * 5,
    ]


def test_a_cap_under_another_name(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if "max_tokens" in call.body:
            return call.refuse(400, "'max_tokens' is not supported, use 'max_completion_tokens'")
        if call.body["max_completion_tokens"] > 100:
            return call.refuse(400, "max_completion_tokens: at most 100 are allowed")
        return call.say()

    server = serve(script)
    with engine(server) as asked:
        assert texts(replies(asked, ask(9, LONG))) == echoes(9)
    assert server.calls[-1].body["max_completion_tokens"] == 100
    assert len(server.calls) == 11


def test_a_number_that_is_no_cap_is_forgotten(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if "max_tokens" in call.body:
            return call.refuse(400, "max_tokens: not known (limit 400 of tries)")
        return call.say()

    server = serve(script)
    with engine(server) as asked:
        assert texts(replies(asked, ask(9, LONG))) == echoes(9)
    assert server.calls[-1].body["max_completion_tokens"] == 1024


def test_a_limit_that_is_another_each_time_is_not_the_server_s(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        most = call.body["max_tokens"]
        return call.refuse(400, f"max_tokens must be less than {most}")

    server = serve(script)
    with engine(server) as asked:
        (reply,) = replies(asked, ask(1, LONG)).values()
    assert reply.error is not None
    assert "max_tokens must be less than" in reply.error
    assert len(server.calls) == 4


def test_replies_that_are_cut_unasked_are_noted_once(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.say(finish_reason="length")

    server = serve(script)
    with engine(server, concurrency=8) as asked:
        assert texts(replies(asked, ask(20, LONG))) == echoes(20)
        assert asked.notes == [
            f"{server.url} cuts replies at 10 tokens, fewer than the 1,024 asked for, of tiny"
        ]


@pytest.mark.parametrize("tokens", [9, 10, 11])
def test_replies_that_are_as_long_as_they_may_be_are_not_cut(serve: Serve, tokens: int) -> None:
    async def script(call: Any) -> Any:
        return call.say(finish_reason="length")  # after 10 tokens

    with engine(serve(script)) as asked:
        replies(asked, ask(3, Parameters("tiny", max_tokens=tokens)))
        assert asked.notes == []


def test_replies_that_nobody_counted_are_not_taken_for_cut(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        choice = {"message": {"content": "A"}, "finish_reason": "length"}
        return web.json_response({"choices": [choice]})

    with engine(serve(script)) as asked:
        replies(asked, ask(3, LONG))
        assert asked.notes == []


def test_a_reply_knows_when_it_came_and_keeps_it(serve: Serve, tmp_path: Path) -> None:
    before = time.time()
    with Ledger(tmp_path / "ledger") as ledger, engine(serve(), ledger=ledger) as asked:
        first = replies(asked, ask(5))
        after = time.time()
        second = replies(asked, ask(5))
    assert all(before <= reply.time <= after for reply in first.values())
    assert {n: reply.time for n, reply in second.items()} == {
        n: reply.time for n, reply in first.items()
    }
