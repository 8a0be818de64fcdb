"""Replies that a server sends in pieces, put together again.

Some servers answer with server-sent events (HTML standard, section 9.2) whether they were asked to
or not: lines `data: {...}`, each a piece of a chat completion, and `data: [DONE]` after the last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_BLANK = b"\xef\xbb\xbf \t\r\n"
_DONE = b"[DONE]"


class Interrupted(ValueError):
    """The stream ended before the reply did, or has something else in it."""


def is_stream(data: bytes) -> bool:
    """Whether an answer is made of events; no JSON begins as they do."""
    return data[:1] != b"{" and data[:4096].lstrip(_BLANK).startswith(_STARTS)


def assembled(data: bytes) -> dict[str, Any]:
    """The chat completion whose pieces a stream has, or the error that it breaks off with, as
    {"error": ...}; {} where it is the stream of another protocol.

    Raises:
        Interrupted: the reply is not all there.
    """
    found: dict[int, _Choice] = {}
    whole: dict[str, Any] = {}
    spoken = foreign = ended = False
    for name, text in _events(data):
        if text == _DONE:
            ended = True
            break
        piece = _loaded(text)
        if not isinstance(piece, dict):
            continue
        if name == b"error" or piece.get("error") or piece.get("object") == "error":
            return piece if piece.get("error") else {"error": piece}
        spoken, foreign = spoken or "choices" in piece, True
        whole.update({key: piece[key] for key in ("model", "usage") if piece.get(key)})
        choices = piece.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                found.setdefault(index if isinstance(index, int) else 0, _Choice()).add(choice)
    if foreign and not spoken:
        return {}
    first = found[min(found)] if found else _Choice()
    # There are servers that give no reason for the end; [DONE] after nothing at all is what a
    # gateway says whose server died.
    if not (first.finish or (ended and any(first.text + first.refusal))):
        raise Interrupted("the stream ended before the reply did")
    return _healed({**whole, "choices": [found[index].whole() for index in sorted(found)]})


@dataclass
class _Choice:
    """One of the replies to a call, as far as it has come."""

    text: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    finish: str | None = None

    def add(self, piece: dict[str, Any]) -> None:
        """Takes in a piece. One with a message in place of a delta repeats all that came before."""
        delta = piece.get("delta")
        if not isinstance(delta, dict):
            delta = piece.get("message")
            if isinstance(delta, dict):
                self.text, self.refusal, self.logprobs = [], [], []
            else:
                delta = {}
        self.text.append(_text(delta.get("content")))
        self.refusal.append(_text(delta.get("refusal")))
        logprobs = piece.get("logprobs")
        tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
        if isinstance(tokens, list):
            self.logprobs += tokens
        if piece.get("finish_reason"):
            self.finish = str(piece["finish_reason"])

    def whole(self) -> dict[str, Any]:
        """It as a server sends one that is not in pieces."""
        message = {"content": "".join(self.text), "refusal": "".join(self.refusal) or None}
        logprobs = {"content": self.logprobs} if self.logprobs else None
        return {"message": message, "finish_reason": self.finish, "logprobs": logprobs}


def _text(content: object) -> str:
    if isinstance(content, list):  # in parts
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if content is not None and not isinstance(content, str):
        raise Interrupted("the reply's content is not text")
    return content or ""


def _events(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The events' names, mostly empty, and what each has to say."""
    name = b""
    lines: list[bytes] = []
    for line in [*data.lstrip(_BLANK).splitlines(), b""]:  # at \n, \r\n and \r, as the standard has
        field_name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field_name == b"data":
            lines.append(value)
        elif field_name == b"event":
            name = value.strip()
        elif not line:
            for text in _apart(lines):
                yield name, text
            name, lines = b"", []


def _apart(lines: list[bytes]) -> list[bytes]:
    """What an event's lines say: one thing, by the standard; one each from servers that leave out
    the empty lines between events."""
    texts = [text for line in lines if (text := line.strip())]
    if len(texts) > 1 and not all(map(_stands_alone, texts)):
        return [b"\n".join(texts)]
    return texts


def _stands_alone(text: bytes) -> bool:
    try:
        return text == _DONE or isinstance(orjson.loads(text), dict)
    except ValueError:
        return False


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        pass
    try:  # half of a surrogate pair, whose other half may come with the next piece
        return json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise Interrupted("the stream breaks off, or is not JSON") from None


def _healed(content: dict[str, Any]) -> dict[str, Any]:
    """The same, with halves of surrogate pairs joined or, where the other is missing, replaced."""
    try:
        orjson.dumps(content)
    except TypeError:
        try:
            text = json.dumps(content, ensure_ascii=False)
            whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            return dict(json.loads(whole))
        except RecursionError:
            raise Interrupted("the stream is not of this protocol") from None
    return content
