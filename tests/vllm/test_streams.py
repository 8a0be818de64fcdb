"""What a real server sends in pieces is what it sends whole."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from judge.engines.base import Message, Parameters, Reply, Request
from judge.engines.streams import is_stream
from judge.engines.wire import Dialect, body, encoded, read_reply


def answer(url: str, request: Request, *, stream: bool) -> Reply:
    features = Dialect(stream=stream).features(request.parameters)
    post = urllib.request.Request(
        f"{url}/chat/completions",
        encoded(body(request, features)),
        {"Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(post) as response:
        data = response.read()
    assert is_stream(data) == stream
    return read_reply(data, request, 0.0)


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_tokens": 12, "top_logprobs": 5},
        {"max_tokens": 1},
        {"max_tokens": 40, "choices": ("A", "B", "AB")},
    ],
)
def test_a_stream_is_the_same_reply(vllm_server: Any, parameters: dict[str, Any]) -> None:
    asked = Parameters(vllm_server.model, seed=1, **parameters)
    request = Request((Message("user", "Which is better? 日本語 🎉"),), asked)
    whole = answer(vllm_server.url, request, stream=False)
    pieces = answer(vllm_server.url, request, stream=True)
    assert pieces.text == whole.text
    assert pieces.finish == whole.finish
    assert pieces.usage.prompt == whole.usage.prompt > 0
    assert pieces.usage.completion == whole.usage.completion > 0
    if "top_logprobs" in parameters:
        assert pieces.logprobs is not None
        assert whole.logprobs is not None
        assert [c.token for c in pieces.logprobs] == [c.token for c in whole.logprobs]
        assert [c.logprob for c in pieces.logprobs] == pytest.approx(
            [c.logprob for c in whole.logprobs], abs=1e-4
        )
        assert [len(c.top) for c in pieces.logprobs] == [len(c.top) for c in whole.logprobs]
