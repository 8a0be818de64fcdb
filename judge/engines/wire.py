"""Requests to JSON, JSON to replies, and what a server takes of a request.

Servers that speak the OpenAI protocol differ in what they take. Each is asked for everything at
first; what it refuses with a 400 it is not sent again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from judge.engines.base import Parameters, Reply, Request, TokenChoice, Usage
from judge.engines.pricing import approximate_tokens, prompt_tokens

_SURROGATES = re.compile("[\ud800-\udfff]")
_FEWER_LOGPROBS = 5  # what servers that cap them give at least

# How a server speaks of what it does not take. A parameter's own name is looked for first.
_WORDS = {
    "max_tokens": ("max_tokens", "max_completion_tokens"),
    "temperature": ("temperature",),
    "logprobs": ("logprobs", "top_logprobs", "logprob"),
    "response_format": ("response_format", "json_schema", "json_object", "schema", "grammar"),
    "structured_outputs": ("structured_outputs", "structured output", "guided", "grammar"),
    "seed": ("seed",),
}
_TOO_LONG = re.compile(
    r"context.{0,9}(length|window|size)|maximum.{0,20}(context|length)|too (long|large)"
    r"|reduce the length|exceeds? the (available|maximum|model)|prompt is longer",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model.{0,80}(not exist|not found|unknown|not available|not supported|is not a valid)"
    r"|(unknown|no such|invalid|unsupported) model|model_not_found",
    re.IGNORECASE | re.DOTALL,
)


class Garbled(ValueError):
    """What came back is not a reply of the protocol."""


@dataclass
class Dialect:
    """What one server takes for one model.

    Attributes:
        dropped: features that are not sent any more.
        limit_name: what the limit on a reply's tokens is called.
        most_logprobs: how many a token may be asked for.
        format: how a schema is sent: `json_schema`, or the older `json_object`.
        proven: whether a reply has come; until then one call is sent at a time.
        failures: server errors before the first reply.
        pages: web pages that came in place of replies.
        absent: whether it refuses to serve the model at all.
    """

    dropped: set[str] = field(default_factory=set)
    limit_name: str = "max_tokens"
    most_logprobs: int = 20
    format: str = "json_schema"
    proven: bool = False
    failures: int = 0
    pages: int = 0
    absent: bool = False

    def features(self, parameters: Parameters) -> dict[str, Any]:
        """The features of a call and the fields that each is sent in."""
        wanted: dict[str, Any] = {
            "max_tokens": {self.limit_name: parameters.max_tokens},
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


def read_reply(data: bytes, request: Request, seconds: float) -> Reply:
    """The reply in a chat completion, without its cost.

    Raises:
        Garbled: it is no chat completion.
    """
    content = decoded(data)
    try:
        choice = content["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Garbled("the reply is not a chat completion") from error
    if isinstance(text, list):  # content in parts
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if text is not None and not isinstance(text, str):
        raise Garbled("the reply's content is not text")
    finish = str(choice.get("finish_reason") or "stop")
    if not text and isinstance(refusal, str):
        text, finish = refusal, "refusal"
    text = text or ""
    return Reply(
        text, finish, _logprobs(choice.get("logprobs")), _usage(content, request, text), 0, seconds
    )


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
    named = decoded(data).get("model")
    if not isinstance(named, str):
        return None
    own, other = (re.sub(r"\W", "", name.lower().rpartition("/")[2]) for name in (asked, named))
    return None if own in other or other in own else one_line(named, 80)


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


@dataclass(frozen=True)
class Complaint:
    """What a server says is wrong.

    Attributes:
        text: its words, in one line.
        feature: what of the request it does not take, if that can be told.
        too_long: whether it is the prompt's length.
        no_model: whether it is the model's name.
        no_credit: whether the account is empty, so that waiting would not help.
    """

    text: str
    feature: str | None = None
    too_long: bool = False
    no_model: bool = False
    no_credit: bool = False


def read_complaint(data: bytes, features: Sequence[str]) -> Complaint:
    """What the body of an error says; `features` are those that were sent."""
    try:
        content = decoded(data)
    except Garbled:
        content = data.decode("utf-8", "replace")
    error = content.get("error", content) if isinstance(content, dict) else content
    fields = error if isinstance(error, dict) else {"message": error}
    message = fields.get("message") or fields.get("detail") or error
    text = message if isinstance(message, str) else str(message)
    code = f"{fields.get('code')} {fields.get('type')}"
    too_long = bool(_TOO_LONG.search(text)) or "context_length" in code
    parameter = fields.get("param")
    named = parameter.split(".")[0] if isinstance(parameter, str) else ""
    return Complaint(
        one_line(text),
        None if too_long else _refused(named, text[:300].lower(), features),
        too_long,
        not too_long
        and (bool(_NO_MODEL.search(text)) or "model_not_found" in code or named == "model"),
        "insufficient_quota" in code or "billing" in code,
    )


def _refused(named: str, text: str, features: Sequence[str]) -> str | None:
    for where in (named, text):
        for feature in features:
            if any(re.search(rf"\b{word}", where) for word in _WORDS[feature]):
                return feature
    return None


def one_line(text: str, length: int = 300) -> str:
    """A server's words, fit for a message: one line, printable, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * length]).split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
