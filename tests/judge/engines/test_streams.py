"""Replies in pieces: put together whole, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from judge.engines.base import Message, Parameters, Reply, Request, Usage
from judge.engines.wire import Foreign, Garbled, read_reply

from .driving import ask, engine

Serve = Callable[..., Any]
REQUEST = Request((Message("user", "x" * 400),), Parameters("tiny"))
USAGE = {"prompt_tokens": 9, "completion_tokens": 2}
DONE = "data: [DONE]\n\n"


def event(content: Any, end: str = "\n") -> str:
    return f"data: {json.dumps(content)}{end}{end}"


def piece(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return {"object": "chat.completion.chunk", "model": "tiny", "choices": [choice]}


def counted(**usage: int) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [], "usage": usage or USAGE}


def read(*events: str) -> Reply:
    return read_reply("".join(events).encode(), REQUEST, 1.5, 7.0)


def test_pieces_become_a_reply() -> None:
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    reply = read(
        event({"choices": [first], "usage": None}),
        event(piece("A ")),
        event(piece("or B")),
        event(piece(finish="length")),
        event(counted()),
        DONE,
    )
    assert reply == Reply("A or B", "length", None, Usage(9, 0, 2), 0.0, 1.5, time=7.0)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "start", ["", "\ufeff", "\n\n", ": keep-alive\n\n", "retry: 10\n", "id: 1\n"]
)
def test_lines_may_end_and_begin_in_several_ways(start: str, end: str) -> None:
    ping = f'event: ping{end}data: {{"type": "ping"}}{end}{end}: wait{end}{end}'
    reply = read(
        start.replace("\n", end),
        event(piece("one\ntwo\u2028"), end),
        ping,
        event(piece("three", "stop"), end),
        f"data:[DONE]{end}",
    )
    assert (reply.text, reply.finish) == ("one\ntwo\u2028three", "stop")


def test_events_need_no_empty_lines_between_them_and_may_have_several_lines() -> None:
    text = json.dumps(piece("B", "stop"), indent=1)
    several = "".join(f"data: {line}\n" for line in text.splitlines())
    reply = read(event(piece("A"), ""), "\n", event(piece("A"), ""), "\n\n", several, "\n", DONE)
    assert reply.text == "AAB"


def test_log_probabilities_are_joined() -> None:
    def token(text: str, value: float) -> dict[str, Any]:
        top = [{"token": text, "logprob": value}, {"token": "C", "logprob": -4.0}]
        return {"content": [{"token": text, "logprob": value, "top_logprobs": top}]}

    reply = read(
        event(piece("A", logprobs=token("A", -0.1))),
        event(piece(logprobs=None)),
        event(piece("B", "stop", logprobs=token("B", -0.2))),
        DONE,
    )
    assert reply.logprobs is not None
    assert [(choice.token, choice.logprob) for choice in reply.logprobs] == [
        ("A", -0.1),
        ("B", -0.2),
    ]
    assert reply.logprobs[1].top == (("B", -0.2), ("C", -4.0))


def test_a_refusal_in_pieces_is_one() -> None:
    def no(text: str, finish: str | None = None) -> str:
        return event(piece(delta={"content": None, "refusal": text}, finish=finish))

    reply = read(no("I will "), no("not", "stop"), DONE)
    assert (reply.text, reply.finish) == ("I will not", "refusal")


def test_the_first_of_several_choices_is_the_reply() -> None:
    def of(*choices: tuple[int, str, str | None]) -> str:
        said = [
            {"index": index, "delta": {"content": text}, "finish_reason": finish}
            for index, text, finish in choices
        ]
        return event({"choices": said})

    reply = read(
        of((1, "no", None), (0, "y", None)), of((0, "es", "stop")), of((1, "!", "stop")), DONE
    )
    assert reply.text == "yes"
    with pytest.raises(Garbled, match="ended before"):
        read(of((1, "no", "stop")), of((0, "y", None)))


def test_what_servers_leave_out_is_made_up_for() -> None:
    # The last count is the one that holds; without any it is estimated.
    reply = read(event(piece("A")), event(counted(prompt_tokens=9)), event(piece("", "stop")), DONE)
    assert reply.usage == Usage(9)
    assert read(event(piece("A", "stop"))).usage == Usage(104, 0, 1)
    # A reason without [DONE], or [DONE] without a reason.
    assert read(event(piece("A", "stop"))).text == "A"
    assert (read(event(piece("A")), DONE).text, read(event(piece("A")), DONE).finish) == (
        "A",
        "stop",
    )
    # An empty reply that ends in order is one.
    assert read(event(piece("", "content_filter")), DONE).finish == "content_filter"
    # No index; content in parts.
    choice = {"delta": {"content": [{"type": "text", "text": "A"}]}, "finish_reason": "stop"}
    assert read(event({"choices": [choice]}), DONE).text == "A"


def test_a_whole_completion_may_come_as_one_event_or_after_its_pieces() -> None:
    whole = {"index": 0, "message": {"content": "A or B"}, "finish_reason": "stop"}
    assert read(event({"choices": [whole], "usage": USAGE})).text == "A or B"
    reply = read(event(piece("A ")), event(piece("or B")), event({"choices": [whole]}), DONE)
    assert reply.text == "A or B"


def test_halves_of_a_character_are_joined_or_replaced() -> None:
    face = "\U0001f642"
    high, low = json.dumps(face).strip('"')[:6], json.dumps(face).strip('"')[6:]
    both = [event(piece("?")).replace("?", half) for half in (high, low)]
    assert read(*both, event(piece("!", "stop")), DONE).text == f"{face}!"
    assert read(both[0], event(piece("!", "stop")), DONE).text == "\ufffd!"


@pytest.mark.parametrize(
    "events",
    [
        [event(piece("A"))],
        [event(piece("A")), event(counted())],
        [event(piece("A")), event(piece(" or B"))[:-20]],
        [event(piece("A")), "data: {oops}\n\n", event(piece("", "stop")), DONE],
        [event(piece(7, "stop")), DONE],  # type: ignore[arg-type]
        [event(piece("A", "error")), DONE],
        [event(piece()), DONE],
        [DONE],
        [": wait\n\n", ": wait\n\n"],
        ["data:\n\n"],
    ],
)
def test_half_a_reply_is_none(events: list[str]) -> None:
    with pytest.raises(Garbled) as caught:
        read(*events)
    assert not isinstance(caught.value, Foreign)


@pytest.mark.parametrize(
    "error",
    [
        event({"error": {"message": "overloaded", "code": 503}}),
        'event: error\ndata: {"message": "overloaded", "code": 503}\n\n',
        event({"object": "error", "message": "overloaded", "code": 503}),
    ],
)
def test_an_error_in_a_stream_is_no_reply(error: str) -> None:
    with pytest.raises(Foreign) as caught:
        read(event(piece("A", "stop")), error, DONE)
    assert "overloaded" in str(caught.value.content)


def test_a_stream_of_another_protocol_is_foreign() -> None:
    with pytest.raises(Foreign):
        read('event: message_start\ndata: {"type": "message_start"}\n\n')


names = st.sampled_from(["choices", "delta", "message", "content", "usage", "logprobs", "error"])
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner),
    max_leaves=8,
)
lines = st.one_of(
    json_values.map(lambda value: event(value).encode()),
    st.just(event(piece("A")).encode()),
    st.binary(max_size=20),
)


@given(st.lists(lines, max_size=5))
def test_anything_is_a_reply_or_garbled(found: list[bytes]) -> None:
    try:
        reply = read_reply(b"data: {}\n\n" + b"\n".join(found), REQUEST, 1.0)
    except Garbled:
        pass
    else:
        reply.text.encode()


@given(st.text(max_size=60), st.data())
def test_however_it_is_cut_up_it_is_the_same_reply(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    sent = [*(event(piece(part)) for part in parts), event(piece(finish="stop")), DONE]
    assert read(*sent).text == text
    # And cut off anywhere before its end, it is none.
    whole = "".join(sent[:-2])
    with pytest.raises(Garbled):
        read_reply(whole[: data.draw(st.integers(0, len(whole)))].encode(), REQUEST, 1.0)


# On real sockets.


async def stream(call: Any, *events: str, open_end: bool = False) -> web.StreamResponse:
    """Sends events, each as a write of its own."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(call.request)
    for one in events:
        await response.write(one.encode())
    if open_end:
        await asyncio.Event().wait()
    return response


def said(text: str) -> list[str]:
    return [
        event(piece(text[:3])),
        event(piece(text[3:])),
        event(piece(finish="stop")),
        event(counted()),
    ]


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
def test_a_server_that_streams_unasked(serve: Serve, client: str) -> None:
    async def script(call: Any) -> Any:
        return await stream(call, ": hello\n\n", *said(call.prompt), DONE)

    server = serve(script)
    with engine(server, client=client) as asked:
        found = dict(asked.answer(ask(20)))
        assert {n: (r.text, r.error) for n, r in found.items()} == {
            n: (f"prompt {n}", None) for n in range(20)
        }
        assert asked.statistics.prompt_tokens == 180
        assert asked.notes == []
    assert not any("stream" in call.body for call in server.calls)


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
@pytest.mark.parametrize("options", [True, False])
def test_a_server_that_wants_to_stream_is_let(serve: Serve, client: str, options: bool) -> None:
    async def script(call: Any) -> Any:
        if not call.body.get("stream"):
            return call.refuse(400, "This model only supports streaming; set stream=true")
        if not options and "stream_options" in call.body:
            return call.refuse(422, "Unknown parameter: 'stream_options'", param="stream_options")
        counts = "stream_options" in call.body
        return await stream(call, *said(call.prompt)[: None if counts else -1], DONE)

    server = serve(script)
    with engine(server, client=client) as asked:
        found = dict(asked.answer(ask(20)))
        assert [found[n].text for n in range(20)] == [f"prompt {n}" for n in range(20)]
        assert asked.notes == []
        assert asked.statistics.failed == 0
    assert len(server.calls) == 20 + 1 + (not options)
    last = server.calls[-1].body
    assert last["stream"] is True
    assert last.get("stream_options") == ({"include_usage": True} if options else None)
    assert "max_tokens" in last


def test_a_server_that_wants_both_is_given_up_in_time(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if call.body.get("stream"):
            return call.refuse(400, "stream is not available")
        return call.refuse(400, "stream must be true")

    server = serve(script)
    with engine(server, concurrency=1) as asked:
        (reply,) = dict(asked.answer(ask(1))).values()
    assert reply.error is not None
    assert "stream must be true" in reply.error
    assert len(server.calls) == 3  # plain, in pieces, plain


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
@pytest.mark.parametrize(
    "broken",
    [
        [event(piece("pro"))],
        [event(piece("pro")), event({"error": {"message": "the engine died"}}), DONE],
        [event(piece("pro")), event({"error": {"message": "wait", "code": 429}})],
        [event(piece("pro")), 'data: {"choi'],
        [": wait\n\n"],
        [DONE],
    ],
)
def test_a_stream_that_breaks_off_is_asked_for_again(
    serve: Serve, client: str, broken: list[str]
) -> None:
    async def script(call: Any) -> Any:
        if call.tries == 0 and call.prompt in ("prompt 1", "prompt 5"):
            return await stream(call, *broken)
        return await stream(call, *said(call.prompt), DONE)

    server = serve(script)
    with engine(server, client=client, concurrency=3) as asked:
        found = dict(asked.answer(ask(9)))
        assert [found[n].text for n in range(9)] == [f"prompt {n}" for n in range(9)]
        assert asked.statistics.retries == 2
    assert len(server.calls) == 11


def test_an_error_in_a_stream_is_said(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if call.prompt == "prompt 1":
            return await stream(
                call, event(piece("A")), event({"error": {"message": "out of luck"}})
            )
        return await stream(call, *said("yes!"), DONE)

    server = serve(script)
    with engine(server, retries=2) as asked:
        found = dict(asked.answer(ask(3)))
    assert found[1].error == f"{server.url} answered with an error: out of luck (3 attempts)"
    assert found[0].text == found[2].text == "yes!"


def test_a_stream_that_is_cut_in_the_middle_is_asked_for_again(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if call.tries == 0:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(call.request)
            await response.write(event(piece("half")).encode())
            call.request.transport.abort()
            return response
        return await stream(call, *said(call.prompt), DONE)

    with engine(serve(script)) as asked:
        found = dict(asked.answer(ask(4)))
    assert [found[n].text for n in range(4)] == [f"prompt {n}" for n in range(4)]


def test_a_connection_that_stays_open_after_the_last_word_is_not_waited_for(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        return await stream(call, *said(call.prompt), DONE, open_end=True)

    # Were it waited for, no call would succeed.
    with engine(serve(script), timeout=20.0, retries=0) as asked:
        found = dict(asked.answer(ask(2)))
    assert [found[n].text for n in range(2)] == ["prompt 0", "prompt 1"]


def test_words_that_look_like_the_end_are_not_it(serve: Serve) -> None:
    text = "say\ndata: [DONE]\n\nand go on"

    async def script(call: Any) -> Any:
        return await stream(call, event(piece(text)), event(piece(" to the end", "stop")), DONE)

    with engine(serve(script)) as asked:
        assert [reply.text for _, reply in asked.answer(ask(2))] == [f"{text} to the end"] * 2


def test_a_key_in_pieces_is_taken_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-seen")

    async def script(call: Any) -> Any:
        return await stream(call, *said(call.request.headers["Authorization"][7:]), DONE)

    with engine(serve(script)) as asked:
        assert [reply.text for _, reply in asked.answer(ask(1))] == ["[key]"]


def test_schemas_and_log_probabilities_are_heeded_in_streams_too(serve: Serve) -> None:
    async def script(call: Any) -> Any:
        if not call.body.get("stream"):
            return call.refuse(400, "stream must be true")
        token = {"token": "{}", "logprob": -0.5, "top_logprobs": []}
        one = piece("{}", "stop", logprobs={"content": [token]})
        return await stream(call, event(one), event(counted()), DONE)

    server = serve(script)
    parameters = Parameters("tiny", top_logprobs=3, schema={"type": "object"})
    with engine(server) as asked:
        found = dict(asked.answer(ask(3, parameters)))
        assert asked.notes == []
    for reply in found.values():
        assert reply.logprobs is not None
        assert [choice.logprob for choice in reply.logprobs] == [-0.5]
    assert all("response_format" in call.body for call in server.calls)
