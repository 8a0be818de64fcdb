"""Votes in the JSON of a reply, strict and less so: other quotes, other keys, bare words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from judge.ballots import VERDICT
from judge.replies.items import CONCLUSION, Item, Vote, criterion_of
from judge.replies.phrases import phrase

_VERDICT_KEY = re.compile(rf"\W*(?:{CONCLUSION})\W*$", re.IGNORECASE)
_DEEPEST = 4
_SPACE = re.compile(r"\s*")
_STRICT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*|true|false|null', re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`"}
# A closing quote is one that something follows which ends a key or a value; others are apostrophes.
_LENIENT_KEY = {
    opening: re.compile(rf"{opening}([^\n]{{0,80}}?){closing}(?=\s*[:=])")
    for opening, closing in _QUOTES.items()
}
_LENIENT_VALUE = {
    opening: re.compile(rf"{opening}(.{{0,2000}}?){closing}(?=\s*[,}}\]])", re.DOTALL)
    for opening, closing in _QUOTES.items()
}
_BARE = re.compile(r"([^\s\"'{}\[\],:=][^\"'{}\[\],:=\n]{0,200})")


@dataclass(frozen=True, slots=True)
class _Scalar:
    """A value of a JSON text, and where what stands between its quotes begins; -1 if escaped."""

    value: str
    start: int
    end: int
    text: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """An object, or an array, whose members have no key."""

    members: tuple[tuple[str, _Scalar | _Group], ...]
    end: int


def _scalar(text: str, at: int, *, strict: bool, key: bool = False) -> _Scalar | None:
    if strict:
        found = _STRICT.match(text, at)
        if found is None:
            return None
        raw, end = found[0], found.end()
        if raw[0] != '"' or "\\" not in raw:
            return _Scalar(raw.strip('"'), at + (raw[0] == '"'), end, raw[0] == '"')
        try:
            return _Scalar(json.loads(raw, strict=False), -1, end, True)
        except ValueError:
            return None
    quoted = (_LENIENT_KEY if key else _LENIENT_VALUE).get(text[at : at + 1])
    found = quoted.match(text, at) if quoted else _BARE.match(text, at)
    if found is None:
        return None
    return _Scalar(found[1], found.start(1), found.end(), True)


def _group(text: str, at: int, *, strict: bool, depth: int = 0) -> _Group | None:
    """The object or array that begins at `at`, if one does."""
    keyed, closing = text[at] == "{", "}" if text[at] == "{" else "]"
    members: list[tuple[str, _Scalar | _Group]] = []
    at = _skip(text, at + 1)
    while text[at : at + 1] != closing or (strict and members):
        key = ""
        if keyed:
            named = _scalar(text, at, strict=strict, key=True)
            if named is None or not named.text:
                return None
            key, at = named.value, _skip(text, named.end)
            if text[at : at + 1] != ":" and (strict or text[at : at + 1] != "="):
                return None
            at = _skip(text, at + 1)
        node: _Scalar | _Group | None
        if text[at : at + 1] in ("{", "["):
            node = _group(text, at, strict=strict, depth=depth + 1) if depth < _DEEPEST else None
        else:
            node = _scalar(text, at, strict=strict)
        if node is None:
            return None
        members.append((key, node))
        at = _skip(text, node.end)
        if text[at : at + 1] == closing:
            break
        if text[at : at + 1] != ",":
            return None
        at = _skip(text, at + 1)
    return _Group(tuple(members), at + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def block_items(text: str, start: int, asked: Sequence[str]) -> Iterator[Item]:
    """What JSON in the reply says on the criteria, the strict reading before the tolerant one."""
    bracket = re.compile(r"[{\[]")
    at = start
    while found := bracket.search(text, at):
        begin = found.start()
        group = _group(text, begin, strict=True) or _group(text, begin, strict=False)
        at = group.end if group else begin + 1
        for name, node in _members(group, asked) if group else ():
            said = phrase(node.value, node.start)
            vote = said[0] if said else None
            if vote and node.start < 0:
                vote = Vote(vote.label, begin, begin)
            yield Item(name, vote, node.value, begin, at, True)


def block_texts(text: str, start: int) -> Iterator[dict[tuple[str, ...], str]]:
    """For each JSON block of a reply, its texts by the keys that lead to them."""
    bracket = re.compile(r"[{\[]")
    at = start
    while found := bracket.search(text, at):
        begin = found.start()
        group = _group(text, begin, strict=True) or _group(text, begin, strict=False)
        at = group.end if group else begin + 1
        if group:
            yield dict(_leaves(group, ()))


def _leaves(group: _Group, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, node in group.members:
        path = (*above, key.strip().lower())
        if isinstance(node, _Group):
            yield from _leaves(node, path)
        elif node.text:
            yield path, node.value


def _members(group: _Group, asked: Sequence[str]) -> Iterator[tuple[str, _Scalar]]:
    """The values that are votes, with their criteria."""
    verdict = _verdict(group)
    named = [
        node.value
        for key, node in group.members
        if isinstance(node, _Scalar) and key.strip().lower() in ("criterion", "criteria", "name")
    ]
    if named:  # {"criterion": "relevance", "vote": "A"}
        if criterion_of(named[0]) in asked and verdict is not None:
            yield criterion_of(named[0]), verdict
        return
    for key, node in group.members:
        name = criterion_of(key)
        if name in asked:
            vote = node if isinstance(node, _Scalar) else _verdict(node)
            if vote is not None:
                yield name, vote
        elif isinstance(node, _Group) and name in ("", VERDICT):
            yield from _members(node, asked)
        elif len(asked) == 1 and isinstance(node, _Scalar) and _VERDICT_KEY.match(key):
            yield asked[0], node


def _verdict(group: _Group) -> _Scalar | None:
    return next(
        (n for key, n in group.members if isinstance(n, _Scalar) and _VERDICT_KEY.match(key)), None
    )
