"""From the text of a reply to the votes it holds, and where in the text each stands.

A reply is read as the strict JSON it was asked to be; if it is not that, as what models write
instead: JSON in a fence, with single quotes or other keys, or a vote a line. Nothing is guessed.
What cannot be read for certain is `Unreadable`, with the reason in a few words.

A reply may quote the battle, and the battle may hold what looks like votes. So the votes are those
of the last block that has all of them: an earlier one counts as quotation or draft where the reply
opens with other words, and as a contradiction where the reply opens with votes. What stands inside
a JSON string, or after a `>`, is no vote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from judge.ballots import CRITERIA
from judge.errors import ArenaJudgeError

WORDS: Mapping[str, str] = {
    "a": "A",
    "b": "B",
    "ab": "AB",
    "na": "NA",
    "n/a": "NA",
    **dict.fromkeys(("both", "tie", "tied", "draw", "equal", "equally", "same"), "AB"),
    **dict.fromkeys(("neither", "none", "null"), "NA"),
}
"""The words that are votes, in lower case. Both of two is a vote for both, AB; neither is a vote
for neither, and takes evidence away as NA does."""

LONGEST = 20_000
"""Characters. A reply longer than that is no ballot, whatever it holds."""


class Unreadable(ArenaJudgeError):
    """A reply that no ballot can be read from.

    Args:
        reason: why, in a few words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote in a reply.

    Attributes:
        label: one of `judge.ballots.VOTES`.
        start, end: where the word that says it stands in the reply; alike where that is not known.
    """

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Item:
    """Something said on a criterion: a vote, or what is none and stands where one belongs.

    Attributes:
        name: the criterion.
        vote: None for what is off the scale.
        value: what was said.
        start, end: of the line, or of the whole JSON block.
        block: whether it is JSON.
    """

    name: str
    vote: Vote | None
    value: str
    start: int
    end: int
    block: bool


def read_votes(text: str, asked: Sequence[str], *, cut: bool = False) -> dict[str, Vote]:
    """The votes of a reply by criterion.

    Args:
        text: the reply.
        asked: the criteria that it was to vote on; with one of them a bare vote will do.
        cut: whether the reply ended at its greatest length.

    Raises:
        Unreadable: votes are missing, off the scale, contradictory or cut.
    """
    start = _after_thinking(text)
    if not text[start:].strip():
        raise Unreadable("cut short before any vote" if cut else "empty reply")
    if len(text) - start > LONGEST:
        raise Unreadable(f"reply of {len(text)} characters")
    blocks = list(_block_items(text, start, asked))
    lines = _line_items(text, blocks[-1].end if blocks else start, asked, alone=not blocks)
    try:
        votes = _settle(blocks or lines, text, start, asked)
    except Unreadable as unreadable:
        raise Unreadable(f"cut short, {unreadable.reason}" if cut else unreadable.reason) from None
    # Words after a JSON block are no votes of their own, but they can contradict it.
    for item in lines if blocks else ():
        if item.name in votes and item.vote and item.vote.label != votes[item.name].label:
            raise Unreadable(f"contradictory votes on {_title(item.name)}")
    missing = [name for name in asked if name not in votes]
    if missing and cut:
        raise Unreadable(f"cut short before the vote on {_title(missing[0])}")
    if len(missing) == len(asked):
        if len(text[start:].split()) < 4:
            raise Unreadable(f"off the scale: {_shown(text[start:])}")
        raise Unreadable("no vote in the reply")
    if missing:
        raise Unreadable(f"no vote on {', '.join(map(_title, missing))}")
    if cut:
        _check_whole(text, votes)
    return votes


def _check_whole(text: str, votes: Mapping[str, Vote]) -> None:
    """A last word that another could begin with may be the half of that one: A of AB."""
    for name, vote in votes.items():
        word = text[vote.start : vote.end].lower()
        longer = (other for other in WORDS if other.startswith(word) and other != word)
        if vote.end >= len(text) and any(longer):
            raise Unreadable(f"cut short within the vote on {_title(name)}")


def _after_thinking(text: str) -> int:
    """Where the answer of a reasoning model begins that thinks aloud in its reply."""
    end = text.rfind("</think>")
    if end >= 0:
        return end + len("</think>")
    if text.lstrip().startswith("<think>"):
        raise Unreadable("cut short while thinking")
    return 0


def _title(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: str) -> str:
    """A piece of a reply, for a reason that is written to files and terminals."""
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return f"'{line[:30]}…'" if len(line) > 31 else f"'{line}'"


# --- which of the things said count ---------------------------------------------------------------


def _settle(items: Sequence[_Item], text: str, start: int, asked: Sequence[str]) -> dict[str, Vote]:
    """The votes of the last block, read from the end; see the module's docstring."""
    found: dict[str, _Item] = {}
    drafts = bool(items) and _words_between(text, start, items[0].start)
    first: _Item | None = None  # of the last block
    for item in reversed(items):
        earlier = first is not None and _words_between(text, item.end, first.start)
        known = found.get(item.name)
        if known is None and not (earlier and item.block):
            found[item.name] = first = item
        elif known is not None and _label(known) != _label(item):
            whole = all(name in found for name in asked)
            if not (earlier and drafts and (whole or item.block)):
                raise Unreadable(f"contradictory votes on {_title(item.name)}")
            if not item.block:
                break
    for item in found.values():
        if item.vote is None:
            raise Unreadable(f"off the scale on {_title(item.name)}: {_shown(item.value)}")
    return {name: item.vote for name, item in found.items() if item.vote is not None}


def _label(item: _Item) -> str:
    return item.vote.label if item.vote else ""


def _words_between(text: str, start: int, end: int) -> bool:
    """Whether there is more than marks and the opening of a fence."""
    return any(map(str.isalnum, re.sub(r"```\w*", "", text[start : max(start, end)])))


# --- a phrase -------------------------------------------------------------------------------------

_OPEN = r"(?:\\(?:boxed|text)\b|[\s\"'`´‘’“”*_(\[{$])*"
_CLOSE = r"[\s\"'`´‘’“”*_)\]}$]*"
_PHRASE = re.compile(
    rf"{_OPEN}(?:"
    rf"(?:the\s+)?(?:response|assistant|answer|model|option|choice|candidate)\s+{_OPEN}(?P<side>[ab])"
    r"|(?P<pair>(?:both\s+)?a\s*(?:and|&|=)\s*b)"
    r"|(?P<void>not\s+applicable|n\.a)"
    rf"|(?:a\s+(?=tie\b|draw\b))?(?P<word>{'|'.join(sorted(WORDS, key=len, reverse=True))})"
    r")(?![\w/])",
    re.IGNORECASE,
)
# What may follow in the same breath, by the vote it follows.
_BETTER = re.compile(r"\s+(?:(?:is|was)\s+(?:the\s+)?)?(?:better|winner|wins|stronger)\b", re.I)
_ALIKE = re.compile(
    r"(?:\s+(?:are|is|responses?|answers?|of\s+them|equal(?:ly)?|good|bad|well|alike))+\b", re.I
)
_NEITHER = re.compile(r"(?:\s+(?:response|answer|of\s+them))+\b", re.IGNORECASE)
_BESIDE = {"A": _BETTER, "B": _BETTER, "AB": _ALIKE, "NA": _NEITHER}
_ONLY_MARKS = re.compile(rf"(?:[.,;:!|]|{_CLOSE[:-1]})*$")
_EXPLAINED = re.compile(
    rf"{_CLOSE}(?P<mark>[–—:;.(|,]|-(?=\s)|(?<=\s)-|\b(?:because|since|as)\b)(?P<why>.*)",
    re.IGNORECASE | re.DOTALL,
)


def _phrase(value: str, at: int) -> tuple[Vote, bool] | None:
    """The vote that a phrase says, and whether it says nothing else.

    Args:
        value: a JSON value, a line, or the end of one.
        at: where it begins in the reply.
    """
    found = _PHRASE.match(value)
    if found is None:
        return None
    kind = found.lastgroup or ""
    label = {"pair": "AB", "void": "NA"}.get(kind) or WORDS[found[kind].lower()]
    vote = Vote(label, at + found.start(kind), at + found.end(kind))
    beside = _BESIDE[label].match(value, found.end())
    rest = value[beside.end() if beside else found.end() :]
    if _ONLY_MARKS.match(rest):
        return vote, True
    explained = _EXPLAINED.match(rest)
    if explained is None:
        return None
    if len(explained["why"].split()) < 3:
        # "A, B", "A -> B", "A. B." name two; "A, sometimes" takes back what it says.
        second = _phrase(explained["why"].lstrip(" >"), at)
        if explained["mark"] == "," or (second and second[0].label != label):
            return None
    return vote, False


# --- JSON, strict and less so ---------------------------------------------------------------------

_VERDICT = (
    r"(?:final\W?)?(?:vote|answer|verdict|choice|winner|decision|judge?ment|preference|conclusion)"
    r"|better(?:\W?response)?"
)
_VERDICT_KEY = re.compile(rf"\W*(?:{_VERDICT})\W*$", re.IGNORECASE)
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


def _block_items(text: str, start: int, asked: Sequence[str]) -> Iterator[_Item]:
    """What JSON in the reply says on the criteria, the strict reading before the tolerant one."""
    bracket = re.compile(r"[{\[]")
    at = start
    while found := bracket.search(text, at):
        begin = found.start()
        group = _group(text, begin, strict=True) or _group(text, begin, strict=False)
        at = group.end if group else begin + 1
        for name, node in _members(group, asked) if group else ():
            said = _phrase(node.value, node.start)
            vote = said[0] if said else None
            if vote and node.start < 0:
                vote = Vote(vote.label, begin, begin)
            yield _Item(name, vote, node.value, begin, at, True)


def _members(group: _Group, asked: Sequence[str]) -> Iterator[tuple[str, _Scalar]]:
    """The values that are votes, with their criteria."""
    verdict = _verdict(group)
    named = [
        node.value
        for key, node in group.members
        if isinstance(node, _Scalar) and key.strip().lower() in ("criterion", "criteria", "name")
    ]
    if named:  # {"criterion": "relevance", "vote": "A"}
        if _criterion(named[0]) in asked and verdict is not None:
            yield _criterion(named[0]), verdict
        return
    for key, node in group.members:
        name = _criterion(key)
        if name in asked:
            vote = node if isinstance(node, _Scalar) else _verdict(node)
            if vote is not None:
                yield name, vote
        elif isinstance(node, _Group) and not name:
            yield from _members(node, asked)
        elif len(asked) == 1 and isinstance(node, _Scalar) and _VERDICT_KEY.match(key):
            yield asked[0], node


def _verdict(group: _Group) -> _Scalar | None:
    return next(
        (n for key, n in group.members if isinstance(n, _Scalar) and _VERDICT_KEY.match(key)), None
    )


# --- a vote a line --------------------------------------------------------------------------------

_NAME = r"relevance|accuracy|clarity|logical[\s_-]*flow|responsiveness"
_KEYS = {re.sub(r"[^a-z]", "", name): name for name in CRITERIA}
_LEAD = r"[\s#•+|({\[–—-]*(?:[*_]{0,3}\(?\d{1,2}[.):]\s*)?(?:[*•-]\s+)?"
_SEPARATOR = r"(?::|=>?|-+>?|–|—|→|\||\bis\b)"
_OPENED = r"(?P<open>[\"'`*_“‘\s]*)"
_CLOSED = r"(?P<close>[\"'`*_”’)\s]*)"
_NAMED = re.compile(
    rf"{_LEAD}{_OPENED}(?:(?:my\s+)?(?:final\s+)?vote\s+)?(?:(?:on|for)\s+)?(?P<name>{_NAME})\b"
    rf"{_CLOSED}(?:\([^()\n]{{0,200}}\)\W*?)?(?:vote)?[*_`\s]*?{_SEPARATOR}(?P<value>.*)",
    re.IGNORECASE,
)
_BESIDE_NAME = re.compile(
    rf"{_LEAD}{_OPENED}(?P<name>(?i:{_NAME})){_CLOSED}(?P<value>\b(?:AB|NA|A|B)[*_`.,;\s]*)$"
)
_NEXT_NAME = re.compile(
    rf"[,;|{{]\s*(?=[\"'`*_“‘\s]*(?:{_NAME})\b[\"'`*_”’)\s]*{_SEPARATOR})", re.IGNORECASE
)
_NUMBERED = re.compile(r"[\s*_#-]*\(?(?P<number>\d{1,2})[.):](?P<value>.+)")
_JUDGED = re.compile(
    rf"{_LEAD}{_OPENED}(?:(?:so|thus|therefore|overall|final|my|the|and)\b\W+)*(?:"
    rf"(?:{_VERDICT})\b(?:\s+(?:on|for)\s+(?P<name>{_NAME}))?{_CLOSED}{_SEPARATOR}"
    r"|I\s+(?:would\s+)?(?:vote|choose|pick|prefer)\b(?:\s+for)?(?P<none>))(?P<value>.*)",
    re.IGNORECASE,
)


def _criterion(key: str) -> str:
    """The criterion that a key means, whatever its case and marks; empty for none."""
    return _KEYS.get(re.sub(r"[^a-z]", "", key.lower()), "")


def _line_items(text: str, start: int, asked: Sequence[str], *, alone: bool) -> list[_Item]:
    """What lines of the reply say on the criteria; `alone` if nothing else in the reply does."""
    lines = [
        found
        for found in re.compile(r"[^\n]+").finditer(text, start)
        if not re.match(r"\s*(?:>|```\w*\s*$|$)", found[0])
    ]
    items: list[_Item] = []
    for number, line in enumerate(lines):
        for at, piece in _pieces(line[0], line.start()):
            item = _named(piece, at, asked)
            if item is None and len(asked) == 1:
                first = alone and number == 0 and at == line.start()
                item = _single(piece, at, asked[0], first=first)
            if item is not None:
                items.append(item)
    if items or len(asked) == 1 or not alone:
        return items
    numbered = (_numbered(line[0], line.start(), asked) for line in lines)
    return [item for item in numbered if item is not None]


def _pieces(line: str, at: int) -> Iterator[tuple[int, str]]:
    """A line cut before each further criterion that it names, with where the pieces begin."""
    begin = 0
    for found in _NEXT_NAME.finditer(line):
        yield at + begin, line[begin : found.start()]
        begin = found.end()
    yield at + begin, line[begin:]


def _named(piece: str, at: int, asked: Sequence[str]) -> _Item | None:
    """`relevance: A` and its like."""
    found = _NAMED.match(piece) or _BESIDE_NAME.match(piece)
    if found is None or _criterion(found["name"]) not in asked:
        return None
    for marks in ('"“', "'‘"):
        opened, closed = found["open"], found["close"]
        if any(m in opened for m in marks) and not any(m in closed for m in (*marks, "”", "’")):
            return None  # the whole line is a quotation
    return _item(_criterion(found["name"]), found["value"], at + found.start("value"), at, piece)


def _single(piece: str, at: int, asked: str, *, first: bool) -> _Item | None:
    """`Vote: A`, or a vote alone on its line; with its explanation only where it comes first."""
    found = _JUDGED.match(piece)
    if found is not None:
        if found["name"] and _criterion(found["name"]) != asked:
            return None
        return _item(asked, found["value"], at + found.start("value"), at, piece)
    said = _phrase(piece, at)
    if said is None or not (said[1] or first):
        return None
    return _Item(asked, said[0], piece, at, at + len(piece), False)


def _numbered(line: str, at: int, asked: Sequence[str]) -> _Item | None:
    """`1. A`, by the numbers that the prompt gives the criteria."""
    found = _NUMBERED.match(line)
    if found is None or not 1 <= int(found["number"]) <= len(asked):
        return None
    name = asked[int(found["number"]) - 1]
    return _item(name, found["value"], at + found.start("value"), at, line)


def _item(name: str, value: str, value_at: int, at: int, piece: str) -> _Item | None:
    """What a line says on a criterion; None where it says something of it, and no vote."""
    said = _phrase(value, value_at)
    few = 0 < len(value.split()) < 3 and any(map(str.isalnum, value))
    if said is None and not few:
        return None
    return _Item(name, said[0] if said else None, value, at, at + len(piece), False)
