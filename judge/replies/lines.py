"""Votes in the lines of a reply: `relevance: A`, `1. B`, `Vote: AB`, or a vote alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from judge.ballots import VERDICT
from judge.replies.items import CONCLUSION, Item, criterion_of
from judge.replies.phrases import phrase

_CRITERION = r"relevance|accuracy|clarity|logical[\s_-]*flow|responsiveness"
_LEAD = r"[\s#•+|({\[–—-]*(?:[*_]{0,3}\(?\d{1,2}[.):]\s*)?(?:[*•-]\s+)?"
_SEPARATOR = r"(?::|=>?|-+>?|–|—|→|\||\bis\b)"
_OPENED = r"(?P<open>[\"'`*_“‘\s]*)"
_CLOSED = r"(?P<close>[\"'`*_”’)\s]*)"
_NUMBERED = re.compile(r"[\s*_#-]*\(?(?P<number>\d{1,2})[.):](?P<value>.+)")
_JUDGED = re.compile(
    rf"{_LEAD}{_OPENED}(?:(?:so|thus|therefore|overall|final|my|the|and)\b\W+)*(?:"
    rf"(?:{CONCLUSION})\b(?:\s+(?:on|for)\s+(?P<name>{_CRITERION}))?{_CLOSED}{_SEPARATOR}"
    r"|I\s+(?:would\s+)?(?:vote|choose|pick|prefer)\b(?:\s+for)?(?P<none>))(?P<value>.*)",
    re.IGNORECASE,
)


class _Patterns:
    """How a line names what it votes on: one of the criteria, or the verdict where that was asked
    for; elsewhere `verdict` is a word as any other."""

    def __init__(self, verdict: bool) -> None:
        name = rf"{_CRITERION}|{VERDICT}" if verdict else _CRITERION
        self.named = re.compile(
            rf"{_LEAD}{_OPENED}(?:(?:my\s+)?(?:final\s+)?vote\s+)?(?:(?:on|for)\s+)?"
            rf"(?P<name>{name})\b{_CLOSED}(?:\([^()\n]{{0,200}}\)\W*?)?(?:vote)?[*_`\s]*?"
            rf"{_SEPARATOR}(?P<value>.*)",
            re.IGNORECASE,
        )
        self.beside_name = re.compile(
            rf"{_LEAD}{_OPENED}(?P<name>(?i:{name})){_CLOSED}"
            r"(?P<value>\b(?:AB|NA|A|B)[*_`.,;\s]*)$"
        )
        self.next_name = re.compile(
            rf"[,;|{{]\s*(?=[\"'`*_“‘\s]*(?:{name})\b[\"'`*_”’)\s]*{_SEPARATOR})", re.IGNORECASE
        )


@cache
def _patterns(verdict: bool) -> _Patterns:
    return _Patterns(verdict)


def line_items(text: str, start: int, asked: Sequence[str], *, alone: bool) -> list[Item]:
    """What lines of the reply say on the criteria; `alone` if nothing else in the reply does."""
    lines = [
        found
        for found in re.compile(r"[^\n]+").finditer(text, start)
        if not re.match(r"\s*(?:>|```\w*\s*$|$)", found[0])
    ]
    patterns = _patterns(VERDICT in asked)
    items: list[Item] = []
    for number, line in enumerate(lines):
        for at, piece in _pieces(line[0], line.start(), patterns):
            item = _named(piece, at, asked, patterns)
            if item is None and len(asked) == 1:
                first = alone and number == 0 and at == line.start()
                item = _single(piece, at, asked[0], first=first)
            if item is not None:
                items.append(item)
    if items or len(asked) == 1 or not alone:
        return items
    numbered = (_numbered(line[0], line.start(), asked) for line in lines)
    found = [item for item in numbered if item is not None]
    return found or _bare(lines, asked)


def _pieces(line: str, at: int, patterns: _Patterns) -> Iterator[tuple[int, str]]:
    """A line cut before each further criterion that it names, with where the pieces begin."""
    begin = 0
    for found in patterns.next_name.finditer(line):
        yield at + begin, line[begin : found.start()]
        begin = found.end()
    yield at + begin, line[begin:]


def _named(piece: str, at: int, asked: Sequence[str], patterns: _Patterns) -> Item | None:
    """`relevance: A` and its like."""
    found = patterns.named.match(piece) or patterns.beside_name.match(piece)
    if found is None or criterion_of(found["name"]) not in asked:
        return None
    for marks in ('"“', "'‘"):
        opened, closed = found["open"], found["close"]
        if any(m in opened for m in marks) and not any(m in closed for m in (*marks, "”", "’")):
            return None  # the whole line is a quotation
    return _item(criterion_of(found["name"]), found["value"], at + found.start("value"), at, piece)


def _single(piece: str, at: int, asked: str, *, first: bool) -> Item | None:
    """`Vote: A`, or a vote alone on its line; with its explanation only where it comes first."""
    found = _JUDGED.match(piece)
    if found is not None:
        if found["name"] and criterion_of(found["name"]) != asked:
            return None
        return _item(asked, found["value"], at + found.start("value"), at, piece)
    said = phrase(piece, at)
    if said is None or not (said[1] or first):
        return None
    return Item(asked, said[0], piece, at, at + len(piece), False)


def _numbered(line: str, at: int, asked: Sequence[str]) -> Item | None:
    """`1. A`, by the numbers that the prompt gives the criteria."""
    found = _NUMBERED.match(line)
    if found is None or not 1 <= int(found["number"]) <= len(asked):
        return None
    name = asked[int(found["number"]) - 1]
    return _item(name, found["value"], at + found.start("value"), at, line)


def _bare(lines: Sequence[re.Match[str]], asked: Sequence[str]) -> list[Item]:
    """Votes alone on their lines, in the order in which they were asked for; only where the reply
    is these and nothing else."""
    if len(lines) != len(asked):
        return []
    items = []
    for name, line in zip(asked, lines, strict=True):
        said = phrase(line[0], line.start())
        if said is None or not said[1]:
            return []
        items.append(Item(name, said[0], line[0], line.start(), line.end(), False))
    return items


def _item(name: str, value: str, value_at: int, at: int, piece: str) -> Item | None:
    """What a line says on a criterion; None where it says something of it, and no vote."""
    said = phrase(value, value_at)
    few = 0 < len(value.split()) < 3 and any(map(str.isalnum, value))
    if said is None and not few:
        return None
    return Item(name, said[0] if said else None, value, at, at + len(piece), False)
