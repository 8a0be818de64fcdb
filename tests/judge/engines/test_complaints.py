"""What a server's error is about, in the words of many servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from judge.engines.complaints import Kind, complaint_of, judged, read_complaint, status_within

FEATURES = ["max_tokens", "temperature", "logprobs", "response_format", "seed"]


@pytest.mark.parametrize(
    ("body", "feature"),
    [
        ({"error": {"message": "?", "param": "temperature"}}, "temperature"),
        ({"error": {"message": "?", "param": "response_format.json_schema"}}, "response_format"),
        ({"error": "top_logprobs is not available"}, "logprobs"),
        ({"message": "seed: extra fields not permitted"}, "seed"),
        ({"detail": [{"loc": ["body", "temperature"], "msg": "forbidden"}]}, "temperature"),
        ({"error": {"message": "max_tokens exceeds the maximum context length"}}, None),
        ({"error": {"message": "messages must not be empty"}}, None),
        ("temperature is not supported", "temperature"),
        ({"error": {"message": "structured_outputs?"}}, None),  # it was not sent
    ],
)
def test_what_a_complaint_is_about(body: Any, feature: str | None) -> None:
    assert read_complaint(json.dumps(body).encode(), FEATURES).feature == feature


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ({"message": "The model `x` does not exist"}, "no_model"),
        ({"message": "?", "code": "model_not_found"}, "no_model"),
        ({"message": "You exceeded your quota", "code": "insufficient_quota"}, "no_credit"),
        ({"message": "?", "code": "context_length_exceeded"}, "too_long"),
        ({"message": "This model's maximum context length is 10"}, "too_long"),
    ],
)
def test_what_else_a_complaint_may_mean(error: dict[str, str], found: str) -> None:
    complaint = read_complaint(json.dumps({"error": error}).encode(), FEATURES)
    kinds = ("no_model", "no_credit", "too_long")
    assert [kind for kind in kinds if getattr(complaint, kind)] == [found]


@pytest.mark.parametrize(
    ("message", "cap"),
    [
        ("max_tokens must be <= 512", 512),
        ("max_tokens must be less than or equal to 1,024", 1024),
        ("max_tokens must be less than 513", 512),
        (
            "max_tokens is too large: 9000. This model supports at most 4096 completion tokens, "
            "whereas you provided 9000.",
            4096,
        ),
        (
            "max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens for "
            "claude-3-5-sonnet-20240620",
            8192,
        ),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("<400> Range of max_tokens should be [1, 2000]", 2000),
        ("max_completion_tokens should be between 1 and 2048", 2048),
        (
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` "
            "is less than the `context_window` for this model",
            8192,
        ),
        (
            "The maximum tokens you requested exceeds the model limit of 4096. Try again with a "
            "maximum tokens value that is lower than 4096.",
            4096,
        ),
        (
            "too many tokens: max tokens must be less than or equal to 4000, the maximum output "
            "length for this model - received 9000.",
            4000,
        ),
        ("max_new_tokens cannot be greater than 1024 (got 9000)", 1024),
        ("max_tokens=9000 exceeds the model's limit 512", 512),
        ("The number of generated tokens is capped at 256", 256),
        # The prompt's length is in these, so they say nothing of other prompts.
        ("This model's maximum context length is 8192 tokens, but max_tokens is 9000", None),
        ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens", None),
        ("max_tokens must be at most 500 for a prompt of 3596 tokens", None),
        # No numbers, or none that is a limit.
        ("'max_tokens' is not supported with this model; use 'max_completion_tokens'", None),
        ("max_tokens is too large: 9000", None),
        ("max_tokens must be at least 16", None),
        ("max_tokens must be <= 9000", None),
        ("max_tokens must be <= 0", None),
        ("the limit of max_tokens is another for gpt-4.1-mini", None),
        ("temperature must be <= 2", None),
        ("max_tokens must be <= 99999999999999999999999999", None),
    ],
)
def test_the_limit_that_a_server_names(message: str, cap: int | None) -> None:
    said = json.dumps({"error": {"message": message}}).encode()
    assert read_complaint(said, FEATURES, 9000).cap == cap
    assert read_complaint(said, FEATURES).cap is None


def test_a_limit_in_the_form_of_a_validator() -> None:
    detail = {
        "type": "less_than_equal",
        "loc": ["body", "max_tokens"],
        "msg": "Input should be less than or equal to 512",
        "input": 1024,
        "ctx": {"le": 512},
    }
    assert complaint_of({"detail": [detail]}, FEATURES, 1024).cap == 512
    error = {"message": "must be at most 512", "param": "max_tokens"}
    assert complaint_of({"error": error}, FEATURES, 1024).cap == 512


@pytest.mark.parametrize(
    "message",
    [
        "This model only support stream mode, please enable the stream parameter",
        "stream must be true",
        "`stream=false` is not supported",
        '"stream": false is not supported by this deployment',
        "Requests with max_tokens > 4096 must have stream=true",
        "Non-streaming requests are not supported",
        "Streaming is required for this model",
        "Please use streaming for this model",
        "Only streaming is available",
    ],
)
def test_a_server_that_wants_to_stream(message: str) -> None:
    assert complaint_of({"error": {"message": message}}, FEATURES).stream
    # Where it was asked to, that is not what it complains of.
    assert not complaint_of({"error": {"message": message}}, [*FEATURES, "stream"]).stream


@pytest.mark.parametrize(
    "message",
    ["the upstream server must be restarted", "stream_options is not allowed", "no"],
)
def test_a_server_that_wants_something_else(message: str) -> None:
    assert not complaint_of({"error": {"message": message}}, FEATURES).stream


@pytest.mark.parametrize(
    ("message", "feature"),
    [
        ("Unknown parameter: 'stream_options'", "stream_options"),
        ("include_usage is not known", "stream_options"),
        ("streaming is not available", "stream"),
    ],
)
def test_what_of_a_stream_is_refused(message: str, feature: str) -> None:
    said = {"error": {"message": message}}
    assert complaint_of(said, ["max_tokens", "stream_options", "stream"]).feature == feature


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"error": {"code": 429}}, 429),
        ({"error": {"code": "502", "message": "no"}}, 502),
        ({"object": "error", "code": 400}, 400),
        ({"error": {"status": 503}}, 503),
        ({"error": {"code": "rate_limited"}}, None),
        ({"error": {"code": 200}}, None),
        ({"error": {"code": 404.0}}, None),
        ({"error": {"code": True}}, None),
        ({"error": "no"}, None),
        (["no"], None),
        (None, None),
    ],
)
def test_a_status_within_an_answer(content: Any, status: int | None) -> None:
    assert status_within(content) == status


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "who?", Kind.REFUSED),
        (402, "pay", Kind.REFUSED),
        (404, "what?", Kind.REFUSED),
        (302, "", Kind.REFUSED),
        (429, "wait", Kind.BUSY),
        (503, "wait", Kind.BUSY),
        (408, "", Kind.FAULT),
        (500, "", Kind.FAULT),
        (501, "stream must be true", Kind.LEARN),
        (400, "temperature?", Kind.LEARN),
        (422, "max_tokens must be <= 10", Kind.LEARN),
        (400, "what is this", Kind.HOPELESS),
        (400, "the prompt is too long", Kind.HOPELESS),
    ],
)
def test_what_becomes_of_a_call(status: int, message: str, kind: Kind) -> None:
    complaint = complaint_of({"error": {"message": message}}, FEATURES, 100)
    assert judged(status, complaint, "no", model="m", key="K", target="t").kind is kind
