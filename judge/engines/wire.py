"""Requests to JSON, JSON to replies, and what a server takes of a request.

Servers that speak the OpenAI protocol differ in what they take. Each is asked for everything at
first; what it refuses with a 400 it is not sent again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from judge.engines.base import Parameters, Reply, Request, TokenChoice, Usage
from judge.engines.pricing import approximate_tokens, prompt_tokens
from judge.engines.streams import Interrupted, assembled, is_stream

_SURROGATES = re.compile("[\ud800-\udfff]")
_FEWER_LOGPROBS = 5  # what servers that cap them give at least
_CAPS = 3  # limits of a reply's length that are believed; with more, it is not the server's own


class Garbled(ValueError):
    """What came back is no reply, or not all of one."""


class Foreign(Garbled):
    """What came back is whole, and something else than a reply of the protocol.

    Attributes:
        content: what it is, decoded.
    """

    def __init__(self, content: object) -> None:
        super().__init__("the reply is not a chat completion")
        self.content = content


@dataclass
class Dialect:
    """What one server takes for one model.

    Attributes:
        dropped: features that are not sent any more.
        limit_name: what the limit on a reply's tokens is called.
        most_logprobs: how many a token may be asked for.
        format: how a schema is sent: `json_schema`, or the older `json_object`.
        stream: whether replies are asked for in pieces, from a server that gives no others.
        cap: tokens that a reply may be asked to have.
        caps: how often such a limit was found.
        cuts: whether it is known to end replies before they are as long as they may be.
    """

    dropped: set[str] = field(default_factory=set)
    limit_name: str = "max_tokens"
    most_logprobs: int = 20
    format: str = "json_schema"
    stream: bool = False
    cap: int | None = None
    caps: int = 0
    cuts: bool = False

    def features(self, parameters: Parameters) -> dict[str, Any]:
        """The features of a call and the fields that each is sent in."""
        most = parameters.max_tokens if self.cap is None else min(self.cap, parameters.max_tokens)
        wanted: dict[str, Any] = {
            "max_tokens": {self.limit_name: most},
            "temperature": {"temperature": parameters.temperature},
        }
        if parameters.top_logprobs:
            number = min(parameters.top_logprobs, self.most_logprobs)
            wanted["logprobs"] = {"logprobs": True, "top_logprobs": number}
        if parameters.schema is not None:
            wanted["response_format"] = {"response_format": self._format(parameters.schema)}
        if parameters.choices is not None:
            wanted["structured_outputs"] = {"structured_outputs": {"choice": parameters.choices}}
        elif parameters.regex is not None:
            wanted["structured_outputs"] = {"structured_outputs": {"regex": parameters.regex}}
        if parameters.seed is not None:
            wanted["seed"] = {"seed": parameters.seed}
        if self.stream:
            wanted["stream_options"] = {"stream_options": {"include_usage": True}}
            wanted["stream"] = {"stream": True}
        if "stream" in self.dropped:
            wanted.pop("stream_options", None)
        return {name: fields for name, fields in wanted.items() if name not in self.dropped}

    def _format(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if self.format == "json_object":
            return {"type": "json_object", "schema": schema}
        name = re.sub(r"\W+", "_", str(schema.get("title", "reply")), flags=re.ASCII)[:64]
        return {
            "type": "json_schema",
            "json_schema": {"name": name or "reply", "strict": True, "schema": schema},
        }

    def give_up(self, feature: str, sent: Mapping[str, Any]) -> bool:
        """Sends less of a feature from now on, or it in another way; whether not at all."""
        if feature == "max_tokens":
            self.cap = None  # the number was about something else
        if feature == "max_tokens" and self.limit_name == "max_tokens":
            self.limit_name = "max_completion_tokens"
            return False
        if feature == "response_format" and self.format == "json_schema":
            self.format = "json_object"
            return False
        if feature == "logprobs" and self.most_logprobs > _FEWER_LOGPROBS:
            fewer = sent["logprobs"]["top_logprobs"] > _FEWER_LOGPROBS
            self.most_logprobs = _FEWER_LOGPROBS
            if fewer:
                return False
        self.dropped.add(feature)
        return True

    def learn_cap(self, cap: int) -> bool:
        """Asks for no more tokens than this from now on; False where limits change too often to be
        the server's own."""
        self.caps += 1
        if self.caps > _CAPS:
            return False
        self.cap = cap
        return True

    def learn_stream(self) -> bool:
        """Asks for replies in pieces from now on; False where that was refused, or is done."""
        new = not self.stream and "stream" not in self.dropped
        self.stream = True
        return new


def body(request: Request, features: Mapping[str, Any]) -> dict[str, Any]:
    """What is posted."""
    parameters = request.parameters
    content: dict[str, Any] = {
        "model": parameters.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
    }
    for sent in features.values():
        content.update(sent)
    if request.sample and "seed" in content:
        content["seed"] += request.sample  # the same seed would give the same draw again
    return content


def encoded(content: Mapping[str, Any]) -> bytes:
    """A body as JSON."""
    try:
        return orjson.dumps(content, default=dict)
    except TypeError:  # half a surrogate pair, which UTF-8 has no bytes for
        text = json.dumps(content, ensure_ascii=False, default=dict)
        return _SURROGATES.sub("\ufffd", text).encode()


def decoded(data: bytes) -> Any:
    """JSON that a server sent.

    Raises:
        Garbled: it is not JSON.
    """
    try:
        return orjson.loads(data)
    except ValueError:
        pass
    try:  # NaN, and halves of surrogate pairs in escapes, which orjson takes no more than UTF-8
        content = json.loads(data.decode("utf-8", "replace"))
        return json.loads(_SURROGATES.sub("\ufffd", json.dumps(content, ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        raise Garbled("the reply is not JSON") from error


def is_page(data: bytes) -> bool:
    """Whether a server sent a web page, as one does that is there for people."""
    return data[:64].lstrip().startswith(b"<")


def asked_tokens(features: Mapping[str, Any]) -> int | None:
    """How many tokens a reply was asked to have at most; None where that was not sent."""
    return next(iter(features["max_tokens"].values())) if "max_tokens" in features else None


def read_reply(data: bytes, request: Request, seconds: float, time: float = 0.0) -> Reply:
    """The reply in a chat completion, whole or in pieces, without its cost.

    Args:
        data: what the server sent.
        request: what it was asked.
        seconds: how long it took.
        time: when it came, in seconds since 1970.

    Raises:
        Garbled: it is no chat completion, or not all of one.
    """
    content = _completion(data)
    try:
        choice = content["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Foreign(content) from error
    if isinstance(text, list):  # content in parts
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if text is not None and not isinstance(text, str):
        raise Garbled("the reply's content is not text")
    finish = str(choice.get("finish_reason") or "stop")
    if finish == "error":
        raise Garbled("the server broke its reply off")
    if not text and isinstance(refusal, str):
        text, finish = refusal, "refusal"
    text = text or ""
    logprobs = _logprobs(choice.get("logprobs"))
    return Reply(text, finish, logprobs, _usage(content, request, text), 0, seconds, time=time)


def _completion(data: bytes) -> Any:
    if not is_stream(data):
        return decoded(data)
    try:
        return assembled(data)
    except Interrupted as error:
        raise Garbled(str(error)) from None


def _usage(content: Mapping[str, Any], request: Request, text: str) -> Usage:
    usage = content.get("usage")
    if not isinstance(usage, dict):  # not counted: what it was, near enough for a budget
        return Usage(prompt_tokens(request), 0, approximate_tokens(text))
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        cached = usage.get("prompt_cache_hit_tokens")
    prompt = _whole(usage.get("prompt_tokens"))
    return Usage(prompt, min(_whole(cached), prompt), _whole(usage.get("completion_tokens")))


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _logprobs(content: object) -> tuple[TokenChoice, ...] | None:
    tokens = content.get("content") if isinstance(content, dict) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    try:
        return tuple(
            TokenChoice(
                entry["token"],
                _logarithm(entry["logprob"]),
                tuple(
                    (other["token"], _logarithm(other["logprob"]))
                    for other in entry.get("top_logprobs") or ()
                ),
            )
            for entry in tokens
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _logarithm(value: object) -> float:
    """A log-probability; what JSON has no number for is as good as impossible."""
    number = -math.inf if value is None else float(value)  # type: ignore[arg-type]
    return number if -9999.0 < number <= 0.0 else (0.0 if number > 0.0 else -9999.0)


def another_model(data: bytes, asked: str) -> str | None:
    """The model that a reply says it is from, where it is not the one that was asked for, whose
    name may have grown a date or a path: there are servers that answer to any name."""
    named = _completion(data).get("model")
    if not isinstance(named, str):
        return None
    own, other = (re.sub(r"\W", "", name.lower().rpartition("/")[2]) for name in (asked, named))
    return None if own in other or other in own else one_line(named, 80)


def cut_at(data: bytes, reply: Reply, asked: int | None) -> int | None:
    """Tokens at which a server cut a reply that was asked to have more, by the server's own count;
    None where it did not."""
    # By the word, since what ends a reply may be counted or not.
    if reply.finish != "length" or asked is None or reply.usage.completion > asked - 2:
        return None
    usage = _completion(data).get("usage")
    counted = _whole(usage.get("completion_tokens")) if isinstance(usage, dict) else 0
    return counted or None


def ignored(reply: Reply, parameters: Parameters, features: Mapping[str, Any]) -> list[str]:
    """Features that were sent and had, as far as can be seen, no effect on the first reply."""
    found = []
    if "logprobs" in features and reply.logprobs is None and reply.text:
        found.append("logprobs")
    if reply.finish != "stop" or not reply.text:
        return found  # cut short, it cannot keep to anything
    if "response_format" in features and not _is_json(reply.text):
        found.append("response_format")
    if "structured_outputs" in features:
        if parameters.choices is not None:
            kept = reply.text in parameters.choices
        else:
            kept = _matches(parameters.regex or "", reply.text)
        if not kept:
            found.append("structured_outputs")
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _matches(regex: str, text: str) -> bool:
    try:
        return re.fullmatch(regex, text) is not None
    except re.error:  # another dialect of regular expressions
        return True


def one_line(text: str, length: int = 300) -> str:
    """A server's words, fit for a message: one line, printable, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * length]).split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
