"""What servers say, in the many ways that they say it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.engines.base import Message, Parameters, Request, Usage
from judge.engines.complaints import read_complaint
from judge.engines.wire import Garbled, encoded, ignored, one_line, read_reply

REQUEST = Request((Message("user", "x" * 400),), Parameters("m"))
FEATURES = ["max_tokens", "temperature", "logprobs", "response_format", "seed"]
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "logprobs", "error"]), inner
        )
    ),
    max_leaves=8,
)


def completion(**choice: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": "A"}, **choice}]}).encode()


@given(st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_anything_is_a_reply_or_garbled_and_has_words(data: bytes) -> None:
    try:
        reply = read_reply(data, REQUEST, 1.0)
    except Garbled:
        pass
    else:
        assert isinstance(reply.text, str)
    assert "\n" not in read_complaint(data, FEATURES).text


def test_usage_in_its_forms() -> None:
    def usage(**fields: Any) -> Usage:
        content = json.loads(completion())
        return read_reply(json.dumps({**content, "usage": fields}).encode(), REQUEST, 1).usage

    assert usage(prompt_tokens=9, completion_tokens=2) == Usage(9, 0, 2)
    assert usage(prompt_tokens=9, prompt_cache_hit_tokens=4) == Usage(9, 4, 0)
    assert usage(prompt_tokens=9, prompt_tokens_details={"cached_tokens": 99}) == Usage(9, 9, 0)
    assert usage(prompt_tokens=9, prompt_tokens_details=None, completion_tokens=None) == Usage(9)
    # Not counted at all: estimated, or a budget would never end.
    assert read_reply(completion(), REQUEST, 1).usage == Usage(104, 0, 1)


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert read_reply(completion(message={"content": parts}), REQUEST, 1).text == "AB"


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, [], {"content": []}, {"content": [{}]}, {"content": [3]}, {"tokens": ["A"]}],
)
def test_log_probabilities_in_no_known_form_are_none(logprobs: Any) -> None:
    assert read_reply(completion(logprobs=logprobs), REQUEST, 1).logprobs is None


def test_a_reply_cut_short_is_not_held_against_the_server() -> None:
    parameters = Parameters("m", schema={"type": "object"})
    for finish, expected in (("length", []), ("stop", ["response_format"])):
        reply = read_reply(completion(finish_reason=finish), REQUEST, 1)
        assert ignored(reply, parameters, {"response_format": {}}) == expected


@given(st.text(st.characters(), max_size=50))
def test_any_text_becomes_json_in_utf_8(text: str) -> None:
    sent = json.loads(encoded({"content": text}).decode("utf-8"))["content"]
    assert sent == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


@given(st.text(max_size=2000))
def test_a_server_s_words_fit_in_one_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= 300
    assert line.isprintable()
