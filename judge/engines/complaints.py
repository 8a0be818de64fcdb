"""What a server's error is about, and what is to become of the call that met it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from judge.engines.wire import Garbled, decoded, one_line

_BUSY = {429, 503, 529}
_FAULTY = {408, 409, 425}  # and everything from 500 on

# How a server speaks of what it does not take. A parameter's own name is looked for first.
_WORDS = {
    "max_tokens": ("max_tokens", "max_completion_tokens"),
    "temperature": ("temperature",),
    "logprobs": ("logprobs", "top_logprobs", "logprob"),
    "response_format": ("response_format", "json_schema", "json_object", "schema", "grammar"),
    "structured_outputs": ("structured_outputs", "structured output", "guided", "grammar"),
    "seed": ("seed",),
    "stream_options": ("stream_options", "include_usage"),
    "stream": ("stream",),
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
_STREAM_NEEDED = re.compile(
    r"\bstream(ing|ed)?\b(?!_).{0,40}\b(required|mandatory|needed|true|only)\b"
    r"|\b(only|must|requires?|needs?|enable|set|use)\b.{0,40}\bstream(ing|ed)?\b(?!_)"
    r"|\bnon-?\s?stream(ing|ed)?\b.{0,60}(\bnot\b|n't\b|unsupported|disabled)"
    r"|\bstream\W{1,4}false\b.{0,40}(\bnot\b|n't\b|unsupported|disabled)",
    re.IGNORECASE | re.DOTALL,
)
# A limit of what a reply may have. One of prompt and reply together is none, since it says how long
# this prompt is.
_OF_REPLY = re.compile(
    r"max\w{0,12}[\s_]\w{0,12}_?tokens|maximum tokens"
    r"|(completion|output|generated?|new|response).{0,12}(tokens|length)"
    r"|tokens.{0,24}(generate|output|completion)",
    re.IGNORECASE,
)
_OF_PROMPT = re.compile(
    r"context.{0,3}(length|size)|\binputs?\W{1,3}(tokens|length)|prompt|\bmessages\b|\btotal\b",
    re.IGNORECASE,
)
# Each finds a number, and the first two one that is too many itself.
_NUMBER = r"(?<![\w.-])(\d[\d,]*)\b"
_LIMITS = (
    re.compile(r"\b(?:less|lower|smaller|fewer) than(?! or)[^0-9<>]{0,40}?" + _NUMBER, re.I),
    re.compile(r"<\s*" + _NUMBER + r"(?!>)"),
    re.compile(r"(?:<=|≤|>)[\s`'\"]*" + _NUMBER),
    re.compile(
        r"(?:\bor equal to|\bat most|\bno more than|\bup to|\bexceed(?:s|ed)?\b"
        r"|(?:not|n't) be (?:greater|larger|higher|more|above)|\bmax(?:imum)?\b|\blimit(?:ed)?\b"
        r"|\bcap(?:ped)?\b)[^0-9<>]{0,60}?" + _NUMBER,
        re.I,
    ),
    re.compile(r"(?:[\[(]|between|from|range)\s*[01]\s*(?:[,;–-]|to\b|and\b)\s*(\d[\d,]*)\b", re.I),
)


@dataclass(frozen=True)
class Complaint:
    """What a server says is wrong.

    Attributes:
        text: its words, in one line.
        feature: what of the request it does not take, if that can be told.
        too_long: whether it is the prompt's length.
        no_model: whether it is the model's name.
        no_credit: whether the account is empty, so that waiting would not help.
        cap: how many tokens a reply may be asked to have, where it was too many.
        stream: whether it gives replies in pieces only.
    """

    text: str
    feature: str | None = None
    too_long: bool = False
    no_model: bool = False
    no_credit: bool = False
    cap: int | None = None
    stream: bool = False


def read_complaint(
    data: bytes, features: Sequence[str], asked_tokens: int | None = None
) -> Complaint:
    """What the body of an error says; see `complaint_of`."""
    try:
        content = decoded(data)
    except Garbled:
        content = data.decode("utf-8", "replace")
    return complaint_of(content, features, asked_tokens)


def complaint_of(
    content: object, features: Sequence[str], asked_tokens: int | None = None
) -> Complaint:
    """What an error says.

    Args:
        content: it, decoded.
        features: those that were sent.
        asked_tokens: how many the reply was asked to have at most.
    """
    fields = _fields(content)
    message = fields.get("message") or fields.get("detail") or fields
    text = message if isinstance(message, str) else str(message)
    code = f"{fields.get('code')} {fields.get('type')}"
    parameter = fields.get("param")
    named = parameter.split(".")[0] if isinstance(parameter, str) else ""
    cap = None if asked_tokens is None else _cap(text[:1000], named, asked_tokens)
    too_long = cap is None and (bool(_TOO_LONG.search(text)) or "context_length" in code)
    return Complaint(
        one_line(text),
        None if too_long else _refused(named, text[:300].lower(), features),
        too_long,
        not too_long
        and (bool(_NO_MODEL.search(text)) or "model_not_found" in code or named == "model"),
        "insufficient_quota" in code or "billing" in code,
        cap,
        "stream" not in features and (named == "stream" or bool(_STREAM_NEEDED.search(text[:300]))),
    )


def status_within(content: object) -> int | None:
    """The status that an error has of its own, as gateways send one after their 200."""
    fields = _fields(content)
    for name in ("code", "status", "status_code"):
        value = fields.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _fields(content: object) -> Mapping[str, Any]:
    error = content.get("error") or content if isinstance(content, dict) else content
    return error if isinstance(error, dict) else {"message": error}


def _refused(named: str, text: str, features: Sequence[str]) -> str | None:
    for where in (named, text):
        for feature in features:
            if any(re.search(rf"\b{word}", where) for word in _WORDS[feature]):
                return feature
    return None


def _cap(text: str, named: str, asked: int) -> int | None:
    """The most tokens that a reply may be asked to have, by a server's words; None where they do
    not say, or say it of prompt and reply together."""
    about = named in _WORDS["max_tokens"] or _OF_REPLY.search(text)
    if not about or _OF_PROMPT.search(text):
        return None
    found = [
        int(digits.replace(",", "")[:12]) - (place < 2)
        for place, pattern in enumerate(_LIMITS)
        for digits in pattern.findall(text)
    ]
    return max((number for number in found if 1 <= number < asked), default=None)


class Kind(Enum):
    """What becomes of a call that a server answered with an error."""

    REFUSED = auto()
    """The server serves neither this call nor others of its model."""
    BUSY = auto()
    FAULT = auto()
    LEARN = auto()
    """It is to be put in another way."""
    HOPELESS = auto()
    """It would fail anywhere."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a call, and why.

    Attributes:
        kind: what.
        words: the reason, in one line.
        mend: where no server is left, what the user can do.
    """

    kind: Kind
    words: str
    mend: str = ""


def judged(
    status: int, complaint: Complaint, words: str, *, model: str, key: str, target: str
) -> Verdict:
    """What becomes of a call.

    Args:
        status: the answer's.
        complaint: what it says.
        words: for messages.
        model: who was asked.
        key: the variable that names the key.
        target: where a redirect leads.
    """
    if status == 402 or complaint.no_credit:
        return Verdict(Kind.REFUSED, words, "see to the account's credit")
    if status in (400, 406, 422, 501) and complaint.stream:
        return Verdict(Kind.LEARN, words)
    if status in _BUSY:
        return Verdict(Kind.BUSY, words)
    if status in _FAULTY or status >= 500:
        return Verdict(Kind.FAULT, words)
    if 300 <= status < 400:
        return Verdict(Kind.REFUSED, words, f"name the base URL {target} instead")
    if status in (401, 403):
        return Verdict(Kind.REFUSED, words, f"set {key} to a key that it takes")
    if status in (400, 422) and (complaint.feature is not None or complaint.cap is not None):
        return Verdict(Kind.LEARN, words)
    if status in (404, 405) or complaint.no_model:
        mend = f"see that it serves {model} and that its base URL is right"
        return Verdict(Kind.REFUSED, words, mend)
    if complaint.too_long:
        return Verdict(Kind.HOPELESS, f"the prompt is too long: {words}")
    return Verdict(Kind.HOPELESS, words)
