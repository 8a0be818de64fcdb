"""Files of replies, as OpenAI's Batch API and vLLM's run_batch write them, line by line.

Whatever stands in them becomes an answer or a fault: nothing is fatal, and nothing is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from judge.engines.batches.state import opened
from judge.engines.complaints import Complaint, read_complaint
from judge.engines.wire import Dialect, Garbled, decoded, encoded

_MOST_BYTES = 64 << 20  # no reply is that long
_OF_VLLM = "vllm-"  # how the ids begin that run_batch gives
_OF_REQUEST = frozenset({400, 413, 422})  # what is wrong is the request, whoever asks it and when
_FEATURES = {  # and the fields of a request that they are sent in
    "max_tokens": ("max_tokens", "max_completion_tokens"),
    "temperature": ("temperature",),
    "logprobs": ("logprobs", "top_logprobs"),
    "response_format": ("response_format",),
    "structured_outputs": ("structured_outputs",),
    "seed": ("seed",),
}

GARBLED, TRUNCATED = "garbled", "truncated"


class Answer(NamedTuple):
    """What a line says.

    Attributes:
        line: its number, from 1.
        custom_id: of the request that it answers.
        status: what the server answered, as in HTTP; 0 where it did not come to that.
        content: the chat completion where `status` is 200, otherwise what is said of the error.
        by_vllm: whether vLLM's run_batch wrote it.
        time: when it was answered, in seconds since 1970; 0 where nobody says.
    """

    line: int
    custom_id: str
    status: int
    content: bytes
    by_vllm: bool
    time: float


class Fault(NamedTuple):
    """A line that says nothing; `kind` is GARBLED, or TRUNCATED for a last one without its end."""

    line: int
    kind: str


def read_answers(path: Path, scrub: Callable[[bytes], bytes]) -> Iterator[Answer | Fault]:
    """What the lines of a file say, empty ones left out.

    Args:
        path: the file.
        scrub: takes the key out of what came from a server.

    Raises:
        InputError: it cannot be read.
    """
    with opened(path) as file:
        number = 0
        while data := file.readline(_MOST_BYTES):
            number += 1
            if not data.strip():
                continue
            whole = data.endswith(b"\n")
            if not whole and len(data) >= _MOST_BYTES:
                while data and not data.endswith(b"\n"):
                    data = file.readline(_MOST_BYTES)
                yield Fault(number, GARBLED)
                continue
            answer = _answer(number, scrub(data))
            yield answer or Fault(number, GARBLED if whole else TRUNCATED)


def _answer(number: int, data: bytes) -> Answer | None:
    try:
        line = decoded(data)
    except Garbled:
        return None
    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
        return None
    response = line.get("response")
    response = response if isinstance(response, dict) else {}
    body, error = response.get("body"), line.get("error")
    status = response.get("status_code")
    if isinstance(status, bool) or not isinstance(status, int):
        # Some leave the status out where all is well.
        status = 200 if isinstance(body, dict) and "choices" in body and not error else 0
    if status == 200 and (error or not isinstance(body, dict)):
        status = 0
    if status != 200:
        body = body if isinstance(body, dict) and body else error
    if body is None:
        body = "no reason is given"
    return Answer(
        number,
        line["custom_id"],
        status,
        encoded(body) if isinstance(body, dict) else encoded({"message": _text(body)}),
        str(line.get("id")).startswith(_OF_VLLM),
        _time(body),
    )


def _text(error: object) -> str:
    return error if isinstance(error, str) else str(error)[:2000]


def _time(body: Any) -> float:
    when = body.get("created") if isinstance(body, dict) else None
    # Neither years ago nor to come: what is not a time is left out.
    return float(when) if isinstance(when, (int, float)) and 1e9 < when < 1e11 else 0.0


def complaint_of(answer: Answer, body: dict[str, Any]) -> Complaint:
    """What is wrong, by the server's words and what was sent."""
    limit = next((body[key] for key in _FEATURES["max_tokens"] if key in body), None)
    asked = limit if isinstance(limit, int) else None
    return read_complaint(answer.content, list(sent_features(body)), asked)


def is_final(answer: Answer, complaint: Complaint) -> bool:
    """Whether asking the same again would be answered in the same way."""
    return answer.status in _OF_REQUEST and not complaint.no_model and not complaint.no_credit


def still_sent(dialect: Dialect, feature: str, body: dict[str, Any]) -> bool:
    """Whether a feature would be sent again as it was sent in a body that was refused."""
    if feature in dialect.dropped:
        return False
    if feature == "max_tokens":
        return dialect.limit_name in body
    if feature == "logprobs":
        asked = body.get("top_logprobs")
        return not isinstance(asked, int) or asked <= dialect.most_logprobs
    if feature == "response_format":
        sent = body.get("response_format")
        return isinstance(sent, dict) and sent.get("type") == dialect.format
    return True


def sent_features(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The features of a body with the fields that they were sent in."""
    return {
        name: {key: body[key] for key in keys if key in body}
        for name, keys in _FEATURES.items()
        if any(key in body for key in keys)
    }
