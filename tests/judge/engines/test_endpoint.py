"""The endpoint engine on real sockets: right replies, whatever the servers do."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judge.engines.base import BUDGET, Message, Parameters, Request
from judge.engines.endpoint import EndpointEngine
from judge.engines.ledger import Ledger
from judge.engines.settings import EndpointSettings
from judge.errors import ArenaJudgeError

from .driving import PLAIN, ask, echoes, engine, replies, texts

Serve = Callable[..., Any]
SECRET = "sk-not-to-be-seen-anywhere"


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
@pytest.mark.parametrize("concurrency", [1, 7, 64])
def test_every_request_has_its_own_reply(serve: Serve, client: str, concurrency: int) -> None:
    async def script(call: Any) -> Any:
        await asyncio.sleep(0.02 if call.number % 3 else 0)  # out of order
        return call.say()

    server = serve(script)
    with engine(server, client=client, concurrency=concurrency) as asked:
        assert texts(replies(asked, ask(50))) == echoes(50)
        assert asked.statistics.calls == len(server.calls) == 50
        assert asked.statistics.prompt_tokens == 5000
        assert asked.statistics.cached_tokens == 2000
        assert asked.statistics.completion_tokens == 500
    assert server.peak <= concurrency


def test_no_requests_no_calls(serve: Serve) -> None:
    server = serve()
    with engine(server) as asked:
        assert replies(asked, ()) == {}
    assert server.calls == []


def test_an_engine_answers_several_runs_even_at_once(serve: Serve) -> None:
    server = serve()
    with engine(server, concurrency=4) as asked:
        first, second = asked.answer(ask(20)), asked.answer(ask(30))
        next(first), next(second)
        assert len(list(first)) == 19
        assert len(list(second)) == 29
        assert texts(replies(asked, ask(5))) == echoes(5)


def test_what_is_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {SECRET}\n")
    server = serve()
    schema = {"title": "ballot", "type": "object"}
    parameters = Parameters("m", 0.5, 9, seed=3, top_logprobs=4, schema=schema)
    request = Request((Message("system", "s"), Message("user", "u")), parameters, sample=2)
    with engine(server, key_variable="MY_KEY") as asked:
        list(asked.answer([request]))
    assert server.calls[0].body == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "logprobs": True,
        "top_logprobs": 4,
        "seed": 5,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "ballot", "strict": True, "schema": schema},
        },
    }
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert server.calls[0].request.path == "/v1/chat/completions"


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
@pytest.mark.parametrize("key", ["", SECRET])
def test_a_password_in_an_address_goes_before_the_key(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, key: str, client: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)

    async def script(call: Any) -> Any:
        return call.refuse(401, "no: p@ss word") if call.number else call.say()

    server = serve(script)
    address = server.url.replace("http://", "http://me:p%40ss%20word@")
    with engine(address, client=client) as asked:
        first, second = replies(asked, ask(2)).values()
    assert first.error is None
    expected = b64encode(b"me:p@ss word").decode()
    assert server.headers[0]["Authorization"] == f"Basic {expected}"
    assert "p%40ss" not in f"{second.error}{asked.notes}"
    assert "p@ss" not in f"{second.error}{asked.notes}"


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
def test_a_web_page_is_no_server(serve: Serve, client: str) -> None:
    async def script(call: Any) -> Any:
        return web.Response(text="<!doctype html><p>Welcome", content_type="text/html")

    server = serve(script)
    with engine(server, client=client) as asked, pytest.raises(ArenaJudgeError) as caught:
        list(asked.answer(ask(50)))
    assert str(caught.value) == (
        f"{server.url} answered with a web page; see that its base URL is right"
    )
    assert len(server.calls) <= 3


def test_a_web_page_now_and_then_is_a_fault_like_others(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        bad = call.number in (0, 1, 4, 5)
        return web.Response(text="<html>", content_type="text/html") if bad else call.say()

    with engine(serve(script), concurrency=1) as asked:
        assert texts(replies(asked, ask(9))) == echoes(9)


def test_without_a_key_no_authorization_is_sent(serve: Serve) -> None:
    server = serve()
    with engine(server) as asked:
        list(asked.answer(ask(1)))
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda call: call.refuse(429, "slow down", retry_after=0),
        lambda call: call.refuse(429, "slow down"),
        lambda call: call.refuse(503, "overloaded", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
        lambda call: call.refuse(500, "oh"),
        lambda call: call.refuse(408, "oh"),
        lambda call: call.drop(),
        lambda call: call.cut(),
        lambda call: web.Response(text='{"choices": [{"mess'),
        lambda call: web.Response(text="<html>busy</html>"),
        lambda call: web.json_response({"error": {"message": "no"}}),
        lambda call: web.json_response({"choices": []}),
    ],
    ids=[
        "429",
        "429-bare",
        "503-date",
        "500",
        "408",
        "reset",
        "cut",
        "half",
        "html",
        "odd",
        "none",
    ],
)
def test_faults_are_mended_by_asking_again(serve: Serve, client: str, fault: Any) -> None:
    async def script(call: Any) -> Any:
        if call.tries < 1 and int(call.prompt.split()[1]) % 3 == 0:
            answer = fault(call)
            return await answer if asyncio.iscoroutine(answer) else answer
        return call.say()

    server = serve(script)
    with engine(server, client=client, concurrency=8) as asked:
        assert texts(replies(asked, ask(24))) == echoes(24)
        assert asked.statistics.retries >= 8
        assert asked.statistics.failed == 0


def test_a_call_that_always_fails_ends_nothing_else(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(500, "never\nmind") if call.prompt == "prompt 5" else call.say()

    server = serve(script)
    with engine(server, retries=3) as asked:
        found = replies(asked, ask(20))
    assert found[5].text == ""
    assert found[5].error == f"{server.url} answered 500: never mind (4 attempts)"
    del found[5]
    assert texts(found) == {n: text for n, text in echoes(20).items() if n != 5}
    assert server.prompts.count("prompt 5") == 4
    assert asked.statistics.failed == 1


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
def test_a_call_that_takes_too_long_is_given_up(serve: Serve, client: str) -> None:
    async def script(call: Any) -> Any:
        if call.prompt == "prompt 2":
            await asyncio.sleep(60)
        return call.say()

    with engine(serve(script), client=client, timeout=0.3, retries=1) as asked:
        found = replies(asked, ask(4))
    assert found[2].error == "no answer within 0.3 seconds (2 attempts)"
    assert [found[n].error for n in (0, 1, 3)] == [None] * 3


def test_a_wait_that_the_server_asks_for_is_waited(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(429, "wait", retry_after=3600) if call.number == 0 else call.say()

    server = serve(script)
    with engine(server, patience=60) as asked:  # longer than our patience: said, not waited
        found = replies(asked, ask(1))
    assert found[0].error is not None
    assert "429: wait, for 60 seconds and longer" in found[0].error
    assert len(server.calls) == 1


def test_refusals_do_not_use_up_the_retries(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(429, "busy", retry_after=0) if call.tries < 15 else call.say()

    with engine(serve(script), retries=0) as asked:
        assert texts(replies(asked, ask(3))) == echoes(3)


def test_a_server_that_refuses_everything_is_waited_for_once(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(429, "busy")

    server = serve(script)
    with engine(server, patience=0.3, concurrency=1) as asked:
        found = replies(asked, ask(30))
    assert len(found) == 30
    assert all("429: busy, for 0.3 seconds" in str(reply.error) for reply in found.values())
    again = [number for number in range(30) if server.prompts.count(f"prompt {number}") > 1]
    assert 0 in again
    assert len(again) < 10  # those that took turns while there was patience


def test_a_server_that_takes_calls_again_is_waited_for_again(serve: Serve) -> None:
    refusing = True

    async def script(call: Any) -> Any:
        return call.refuse(429, "busy") if refusing or call.tries < 3 else call.say()

    with engine(serve(script), patience=0.3, concurrency=1) as asked:
        assert replies(asked, ask(1))[0].error is not None
        refusing = False
        assert replies(asked, ask(1))[0].error is None
        assert texts(replies(asked, ask(9))) == echoes(9)


def test_a_dead_server_is_left_out(serve: Serve, dead: str) -> None:
    server = serve()
    with engine(dead, server) as asked:
        assert texts(replies(asked, ask(40))) == echoes(40)
        assert any(dead in note and "cannot be reached" in note for note in asked.notes)


def test_a_server_that_dies_is_replaced_by_the_other(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        await asyncio.sleep(0.01)
        return call.say()

    first, second = serve(script), serve(script)
    with engine(first, second, concurrency=4) as asked:
        answers = asked.answer(ask(60))
        found = dict(next(answers) for _ in range(20))
        first.close()
        found.update(answers)
        assert texts(found) == echoes(60)
    assert len(first.calls) > 4
    assert len(second.calls) > 30


def test_two_servers_share_the_load(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        await asyncio.sleep(0.01)
        return call.say()

    servers = [serve(script), serve(script)]
    with engine(*servers, concurrency=8) as asked:
        replies(asked, ask(80))
    assert min(len(server.calls) for server in servers) >= 20


def test_a_prefix_stays_with_its_server(serve: Serve) -> None:
    servers = [serve(), serve()]
    requests = [
        Request((Message("user", f"{prefix} {n}"),), PLAIN, prefix=prefix)
        for n in range(10)
        for prefix in "abcd"
    ]
    with engine(*servers, concurrency=1) as asked:
        replies(asked, requests)
    homes = [{prompt.split()[0] for prompt in server.prompts} for server in servers]
    assert homes[0] & homes[1] == set()


def test_no_server_at_all_is_one_line(dead: str) -> None:
    with engine(dead) as asked, pytest.raises(ArenaJudgeError) as caught:
        list(asked.answer(ask(10)))
    assert f"no server answers at {dead}" in str(caught.value)
    assert "start it or name another base URL" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_servers_that_all_go_away_fail_calls_and_not_the_run(serve: Serve) -> None:
    server = serve()
    with engine(server, concurrency=2, patience=0.2) as asked:
        answers = asked.answer(ask(300))
        found = dict(next(answers) for _ in range(3))
        server.close()
        found.update(answers)
    assert len(found) == 300
    errors = {reply.error for reply in found.values()} - {None}
    assert errors == {"no server answered for 0.2 seconds"}


@pytest.mark.parametrize("status", [401, 403, 404, 402, 302, 405])
def test_what_no_call_can_mend_ends_the_run_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def script(call: Any) -> Any:
        response = call.refuse(status, f"no: Bearer {SECRET} is bad")
        response.headers["Location"] = "https://elsewhere.example/v1/chat/completions"
        return response

    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = serve(script)
    with engine(server) as asked, pytest.raises(ArenaJudgeError) as caught:
        list(asked.answer(ask(50)))
    message = str(caught.value)
    assert f"{server.url} answered {status}" in message
    assert SECRET not in message
    assert "; " in message  # the mend
    assert "\n" not in message
    assert len(server.calls) == 1
    if status == 302:
        assert "https://elsewhere.example/v1" in message


def test_an_unknown_model_by_a_400_ends_the_run_too(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(400, "The model tiny does not exist")

    with engine(serve(script)) as asked, pytest.raises(ArenaJudgeError, match="serves tiny"):
        list(asked.answer(ask(5)))


def test_a_key_refused_later_fails_its_call_only(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(401, "revoked") if call.prompt == "prompt 7" else call.say()

    server = serve(script)
    with engine(server) as asked:
        found = replies(asked, ask(10))
    assert {n for n, reply in found.items() if reply.error} == {7}
    assert server.prompts.count("prompt 7") == 1


def test_models_of_a_jury_may_have_servers_of_their_own(serve: Serve) -> None:
    def only(model: str) -> Any:
        async def script(call: Any) -> Any:
            if call.body["model"] != model:
                return call.refuse(404, "no such model")
            return call.say(model)

        return serve(script)

    requests = [Request((Message("user", f"{n}"),), Parameters("xy"[n % 2])) for n in range(40)]
    with engine(only("x"), only("y")) as asked:
        assert texts(replies(asked, requests)) == {n: "xy"[n % 2] for n in range(40)}


FULL = Parameters("tiny", seed=1, top_logprobs=3, schema={"type": "object"})


@pytest.mark.parametrize(
    ("field", "message", "fields"),
    [
        ("temperature", "Unsupported value: 'temperature' does not support 0.0", {}),
        ("temperature", "Unsupported value", {"param": "temperature"}),
        ("logprobs", "You are not allowed to request logprobs from this model.", {}),
        ("seed", "Extra inputs are not permitted: seed", {}),
        ("response_format", "This response_format type is unavailable now", {}),
        ("max_tokens", "'max_tokens' is not supported, use 'max_completion_tokens'", {}),
    ],
)
def test_what_a_server_refuses_is_not_sent_again(
    serve: Serve, field: str, message: str, fields: dict[str, str]
) -> None:
    async def script(call: Any) -> Any:
        if field in call.body:
            return call.refuse(400, message, **fields)
        return call.say('{"a": 1}')

    server = serve(script)
    with engine(server) as asked:
        found = replies(asked, ask(30, FULL))
        assert set(texts(found).values()) == {'{"a": 1}'}
        # The schema is tried in two ways; whatever it is, it was found out with one call at a time.
        refused = sum(field in call.body for call in server.calls)
        assert refused == (2 if field == "response_format" else 1)
        assert asked.statistics.failed == 0
        if field == "max_tokens":
            assert server.calls[-1].body["max_completion_tokens"] == 64
        else:
            assert any(field in note for note in asked.notes)
        replies(asked, [Request((Message("user", "later"),), FULL)])
        assert field not in server.calls[-1].body


def test_a_server_may_refuse_everything_but_the_prompt(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        extra = sorted(set(call.body) - {"model", "messages"})
        return call.refuse(400, f"unknown argument {extra[0]}") if extra else call.say()

    with engine(serve(script)) as asked:
        assert texts(replies(asked, ask(10, FULL))) == echoes(10)


def test_fewer_log_probabilities_rather_than_none(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if call.body["top_logprobs"] > 5:
            return call.refuse(400, "top_logprobs must be 5 at most", param="top_logprobs")
        entry = {"token": "A", "logprob": -0.1, "top_logprobs": []}
        return call.say("A", logprobs={"content": [entry]})

    server = serve(script)
    with engine(server) as asked:
        found = replies(asked, ask(5, Parameters("tiny", top_logprobs=20)))
    assert all(reply.logprobs is not None for reply in found.values())
    assert [call.body["top_logprobs"] for call in server.calls] == [20, 5, 5, 5, 5, 5]


def test_a_schema_that_a_server_fails_on_is_sent_in_the_older_form(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        kind = call.body["response_format"]["type"]
        return call.refuse(500, "oops") if kind == "json_schema" else call.say("{}")

    server = serve(script)
    with engine(server) as asked:
        found = replies(asked, ask(10, Parameters("tiny", schema={"type": "object"})))
    assert set(texts(found).values()) == {"{}"}
    assert server.calls[-1].body["response_format"] == {
        "type": "json_object",
        "schema": {"type": "object"},
    }


@pytest.mark.parametrize(
    ("parameters", "sent", "good"),
    [
        (Parameters("tiny", choices=("A", "AB")), {"choice": ["A", "AB"]}, "AB"),
        (Parameters("tiny", regex="[AB]+"), {"regex": "[AB]+"}, "BAB"),
    ],
)
def test_choices_and_patterns(
    serve: Serve, parameters: Parameters, sent: dict[str, Any], good: str
) -> None:
    async def script(call: Any) -> Any:
        return call.say(good if call.body.get("structured_outputs") else "Both")

    server = serve(script)
    with engine(server) as asked:
        assert set(texts(replies(asked, ask(3, parameters))).values()) == {good}
        assert asked.notes == []
    assert server.calls[0].body["structured_outputs"] == sent

    async def deaf(call: Any) -> Any:
        return call.say("Both")

    with engine(serve(deaf)) as asked:
        replies(asked, ask(3, parameters))
        assert len(asked.notes) == 1
        assert "does not heed structured_outputs" in asked.notes[0]

    async def strict(call: Any) -> Any:
        if "structured_outputs" in call.body:
            return call.refuse(400, "Unrecognized request argument: structured_outputs")
        return call.say("Both")

    with engine(serve(strict)) as asked:
        assert set(texts(replies(asked, ask(3, parameters))).values()) == {"Both"}


def test_log_probabilities_are_read(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        top = [{"token": "A", "logprob": -0.2}, {"token": "AB", "logprob": None}]
        tokens = [{"token": "A", "logprob": -0.2, "top_logprobs": top}]
        return call.say("A", logprobs={"content": tokens})

    with engine(serve(script)) as asked:
        (reply,) = replies(asked, ask(1, Parameters("tiny", top_logprobs=2))).values()
    assert reply.logprobs is not None
    (choice,) = reply.logprobs
    assert (choice.token, choice.logprob) == ("A", -0.2)
    assert choice.top == (("A", -0.2), ("AB", -9999.0))


def test_a_server_that_ignores_log_probabilities_is_noted(serve: Serve) -> None:
    server = serve()
    with engine(server) as asked:
        found = replies(asked, ask(5, Parameters("tiny", top_logprobs=2)))
        assert texts(found) == echoes(5)
        assert asked.notes == [f"{server.url} does not heed logprobs for tiny"]
    assert [("logprobs" in call.body) for call in server.calls] == [True] + [False] * 4


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, but max_tokens is 64",
        "the request exceeds the available context size",
    ],
)
def test_a_prompt_that_is_too_long_is_said_and_not_asked_again(serve: Serve, message: str) -> None:
    async def script(call: Any) -> Any:
        return call.refuse(400, message) if call.prompt == "prompt 1" else call.say()

    server = serve(script)
    with engine(server) as asked:
        found = replies(asked, ask(3))
    assert found[1].error is not None
    assert found[1].error.startswith("the prompt is too long")
    assert len(server.calls) == 3
    assert server.calls[-1].body["max_tokens"] == 64


def test_the_budget_holds_and_the_rest_can_be_asked_later(serve: Serve, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    # The server counts 100 + 10 tokens, 40 of them cached: 0.01 dollars a call.
    prices.write_text("models: {tiny: {prompt: 100, cached: 50, completion: 200}}")
    server = serve()
    with Ledger(tmp_path / "ledger") as ledger:
        with engine(server, ledger=ledger, max_cost=0.25, prices=prices, concurrency=4) as asked:
            found = replies(asked, ask(100))
            spent = asked.statistics.cost
            unsent = {n for n, reply in found.items() if reply.error == BUDGET}
        assert len(found) == 100
        assert 0.1 < spent <= 0.25
        assert spent == pytest.approx(0.01 * len(server.calls))
        assert len(unsent) == 100 - len(server.calls) == asked.statistics.unsent
        with engine(server, ledger=ledger, prices=prices) as asked:
            assert texts(replies(asked, ask(100))) == echoes(100)
            assert asked.statistics.calls == len(unsent)
    assert len(server.calls) == 100


def test_a_budget_wants_a_price(serve: Serve) -> None:
    with (
        engine(serve(), max_cost=1.0) as asked,
        pytest.raises(ArenaJudgeError, match="the price of tiny is not known"),
    ):
        list(asked.answer(ask(1)))


def test_an_estimate_costs_nothing_and_is_no_less_than_the_truth(
    serve: Serve, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {tiny: {prompt: 1000, completion: 2000}}")
    server = serve()
    with (
        Ledger(tmp_path / "ledger") as ledger,
        engine(server, ledger=ledger, prices=prices) as asked,
    ):
        replies(asked, ask(5))
        estimate = asked.estimate([*ask(20), *ask(20)])
        assert (estimate.requests, estimate.from_ledger) == (40, 25)
        assert estimate.completion_tokens == 15 * 64
        assert estimate.cost is not None
        expected = estimate.prompt_tokens / 1000 + estimate.completion_tokens / 500
        assert estimate.cost == pytest.approx(expected)
        assert asked.estimate(ask(3, Parameters("unheard-of"))).cost is None
    assert len(server.calls) == 5


def test_only_so_many_requests_are_taken_ahead(serve: Serve) -> None:
    taken = 0

    def endless() -> Iterator[Request]:
        nonlocal taken
        while True:
            taken += 1
            yield Request((Message("user", str(taken)),), PLAIN)

    with engine(serve(), concurrency=4, look_ahead=10) as asked:
        answers = asked.answer(endless())
        for used in range(1, 60):
            next(answers)
            assert taken <= used + 10
        answers.close()  # type: ignore[attr-defined]


def test_an_error_of_the_source_comes_out(serve: Serve) -> None:
    def source() -> Iterator[Request]:
        yield from ask(2)
        raise OSError("the file is gone")

    with engine(serve()) as asked, pytest.raises(OSError, match="the file is gone"):
        list(asked.answer(source()))


@pytest.mark.parametrize("interrupt", [False, True])
def test_stopping_ends_calls_and_keeps_what_was_answered(
    serve: Serve, tmp_path: Path, interrupt: bool
) -> None:
    async def script(call: Any) -> Any:
        if int(call.prompt.split()[1]) >= 10:
            await asyncio.sleep(60)
        return call.say()

    server = serve(script)
    threads = threading.active_count()
    with Ledger(tmp_path / "ledger") as ledger:
        with engine(server, ledger=ledger, concurrency=20) as asked:
            answers = asked.answer(ask(1000))
            found = dict(next(answers) for _ in range(10))
            if interrupt:
                with pytest.raises(KeyboardInterrupt):
                    answers.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
            else:
                answers.close()  # type: ignore[attr-defined]
            assert texts(found) == echoes(10)
            assert ledger.count() == 10
        # What had been sent by then may reach the server later; nothing is sent any more.
        assert len(server.calls) <= 10 + 20
    assert threading.active_count() == threads


def test_a_closed_engine_says_so(serve: Serve) -> None:
    asked = engine(serve())
    asked.close()
    asked.close()
    with pytest.raises(ArenaJudgeError, match="the engine is closed"):
        list(asked.answer(ask(1)))


def test_no_answered_call_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    path = tmp_path / "folder" / "ledger"
    with Ledger(path) as ledger, engine(server, ledger=ledger) as asked:
        first = replies(asked, ask(300))
    with Ledger(path) as ledger, engine(server, ledger=ledger) as asked:
        second = replies(asked, ask(310))
        assert asked.statistics.from_ledger == 300
        assert asked.statistics.calls == 10
    assert len(server.calls) == 310
    assert {n: second[n].text for n in first} == texts(first)
    assert all(second[n].from_ledger for n in first)
    assert not any(reply.from_ledger for reply in first.values())


def test_the_ledger_answers_without_any_server(serve: Serve, tmp_path: Path, dead: str) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        with engine(serve(), ledger=ledger) as asked:
            replies(asked, ask(20))
        with engine(dead, ledger=ledger) as asked:
            assert texts(replies(asked, ask(20))) == echoes(20)


def test_the_same_request_twice_is_one_call_and_another_sample_another(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    message = (Message("user", "same"),)
    requests = [Request(message, PLAIN, sample=n % 2) for n in range(20)]
    with Ledger(tmp_path / "ledger") as ledger, engine(server, ledger=ledger) as asked:
        found = replies(asked, requests)
        assert (asked.statistics.calls, asked.statistics.from_ledger) == (2, 18)
    assert set(texts(found)) == set(range(20))
    assert len(server.calls) == 2


def test_failed_calls_are_asked_again_by_the_next_run(serve: Serve, tmp_path: Path) -> None:
    broken = True

    async def script(call: Any) -> Any:
        return call.refuse(500, "no") if broken and call.prompt == "prompt 3" else call.say()

    server = serve(script)
    with Ledger(tmp_path / "ledger") as ledger:
        with engine(server, ledger=ledger, retries=0) as asked:
            assert replies(asked, ask(6))[3].error is not None
        broken = False
        with engine(server, ledger=ledger) as asked:
            assert texts(replies(asked, ask(6))) == echoes(6)
    assert len(server.calls) == 7


def test_the_key_is_nowhere(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(call: Any) -> Any:
        shown = call.request.headers["Authorization"]
        if call.prompt == "prompt 1":
            return call.refuse(400, f"bad: {shown}")
        if "temperature" in call.body:
            return call.refuse(400, f"no temperature for {shown}")
        return call.say(f"your key is {shown}")

    caplog.set_level(0)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = serve(script)
    with Ledger(tmp_path / "ledger") as ledger, engine(server, ledger=ledger) as asked:
        found = replies(asked, ask(3))
        stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        shown = [repr(found), *asked.notes, repr(asked), repr(vars(asked)), caplog.text]
    assert server.headers[0]["Authorization"].endswith(SECRET)
    assert SECRET not in "".join(shown)
    assert found[0].text == "your key is Bearer [key]"
    assert b"your key is" in stored
    assert SECRET.encode() not in stored


def test_a_password_in_the_base_url_is_not_shown(dead: str) -> None:
    with (
        engine(dead.replace("//", "//me:hunter2@")) as asked,
        pytest.raises(ArenaJudgeError) as caught,
    ):
        list(asked.answer(ask(1)))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["\x00\x1b[2J\u202e", "\ud800 half", '"}]} {"', "日本語 🎉 \u2028", "a" * 300_000]
)
def test_hostile_text_goes_there_and_back(serve: Serve, tmp_path: Path, text: str) -> None:
    with Ledger(tmp_path / "ledger") as ledger, engine(serve(), ledger=ledger) as asked:
        for _ in range(2):
            (reply,) = replies(asked, [Request((Message("user", text),), PLAIN)]).values()
            assert reply.error is None
            assert reply.text == text.replace("\ud800", "\ufffd")


def test_half_a_surrogate_pair_in_a_reply_is_replaced(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return call.say("\ud83d!")

    with engine(serve(script)) as asked:
        assert texts(replies(asked, ask(1))) == {0: "\ufffd!"}


def test_a_refusal_and_an_empty_reply_are_replies(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if call.prompt == "prompt 0":
            return call.say(message={"content": None, "refusal": "I will not"})
        return call.say("", finish_reason="content_filter")

    with engine(serve(script)) as asked:
        found = replies(asked, ask(2))
    assert (found[0].text, found[0].finish) == ("I will not", "refusal")
    assert (found[1].text, found[1].finish) == ("", "content_filter")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base_urls": "127.0.0.1:8000"}, "is not a base URL"),
        ({"base_urls": ["http://me:hunter2@"]}, "is not a base URL"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"timeout": -1}, "timeout is -1"),
        ({"max_cost": float("nan")}, "max_cost is nan"),
        ({"client": "curl"}, "there is no client curl"),
    ],
)
def test_settings_that_make_no_sense(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ArenaJudgeError, match=message) as caught:
        EndpointSettings(**changed)
    assert "hunter2" not in str(caught.value)


def test_a_key_that_cannot_be_one_is_said_without_showing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-line\nbreak")
    with pytest.raises(ArenaJudgeError, match="OPENAI_API_KEY") as caught:
        EndpointEngine(EndpointSettings(["http://127.0.0.1:1/v1"]))
    assert "break" not in str(caught.value)


FAULTS = ["429", "500", "reset", "cut", "garbage", ""]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    # What never gave a reply is given up after three answers that are none.
    plan=st.lists(st.sampled_from(FAULTS), max_size=40).filter(
        lambda plan: plan[: [*plan, ""].index("")].count("garbage") < 3
    ),
    concurrency=st.integers(1, 16),
)
def test_whatever_goes_wrong_the_replies_are_those_of_an_undisturbed_run(
    serve: Serve, plan: list[str], concurrency: int
) -> None:
    async def script(call: Any) -> Any:
        fault = plan[call.number] if call.number < len(plan) else ""
        if fault == "429":
            return call.refuse(429, "busy", retry_after=0)
        if fault == "500":
            return call.refuse(500, "oh")
        if fault == "reset":
            return call.drop()
        if fault == "cut":
            return await call.cut()
        return web.json_response({"choices": "none"}) if fault == "garbage" else call.say()

    server = serve(script)
    with engine(server, concurrency=concurrency, retries=50) as asked:
        found = replies(asked, ask(30))
    server.close()
    assert texts(found) == echoes(30)
