"""Which of the things that a reply says are its votes; see the package's docstring."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from judge.replies.blocks import block_items
from judge.replies.items import Item, Unreadable, Vote
from judge.replies.lines import line_items
from judge.replies.phrases import WORDS

LONGEST = 20_000
"""Characters. A reply longer than that is no ballot, whatever it holds."""


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
    blocks = list(block_items(text, start, asked))
    lines = line_items(text, blocks[-1].end if blocks else start, asked, alone=not blocks)
    try:
        votes = settle(blocks or lines, text, start, asked)
    except Unreadable as unreadable:
        raise Unreadable(f"cut short, {unreadable.reason}" if cut else unreadable.reason) from None
    # Words after a JSON block are no votes of their own, but they can contradict it.
    for item in lines if blocks else ():
        if item.name in votes and item.vote and item.vote.label != votes[item.name].label:
            raise Unreadable(f"contradictory votes on {title(item.name)}")
    missing = [name for name in asked if name not in votes]
    if missing and cut:
        raise Unreadable(f"cut short before the vote on {title(missing[0])}")
    if len(missing) == len(asked):
        if len(text[start:].split()) < 4:
            raise Unreadable(f"off the scale: {shown(text[start:])}")
        raise Unreadable("no vote in the reply")
    if missing:
        raise Unreadable(f"no vote on {', '.join(map(title, missing))}")
    if cut:
        _check_whole(text, votes)
    return votes


def _check_whole(text: str, votes: Mapping[str, Vote]) -> None:
    """A last word that another could begin with may be the half of that one: A of AB."""
    for name, vote in votes.items():
        word = text[vote.start : vote.end].lower()
        longer = (other for other in WORDS if other.startswith(word) and other != word)
        if vote.end >= len(text) and any(longer):
            raise Unreadable(f"cut short within the vote on {title(name)}")


def _after_thinking(text: str) -> int:
    """Where the answer of a reasoning model begins that thinks aloud in its reply."""
    end = text.rfind("</think>")
    if end >= 0:
        return end + len("</think>")
    if text.lstrip().startswith("<think>"):
        raise Unreadable("cut short while thinking")
    return 0


def title(name: str) -> str:
    return name.replace("_", " ")


def shown(value: str) -> str:
    """A piece of a reply, for a reason that is written to files and terminals."""
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return f"'{line[:30]}…'" if len(line) > 31 else f"'{line}'"


def settle(items: Sequence[Item], text: str, start: int, asked: Sequence[str]) -> dict[str, Vote]:
    """The votes of the last block, read from the end; see the package's docstring."""
    found: dict[str, Item] = {}
    drafts = bool(items) and _words_between(text, start, items[0].start)
    first: Item | None = None  # of the last block
    for item in reversed(items):
        earlier = first is not None and _words_between(text, item.end, first.start)
        known = found.get(item.name)
        if known is None and not (earlier and item.block):
            found[item.name] = first = item
        elif known is not None and _label(known) != _label(item):
            whole = all(name in found for name in asked)
            if not (earlier and drafts and (whole or item.block)):
                raise Unreadable(f"contradictory votes on {title(item.name)}")
            if not item.block:
                break
    for item in found.values():
        if item.vote is None:
            raise Unreadable(f"off the scale on {title(item.name)}: {shown(item.value)}")
    return {name: item.vote for name, item in found.items() if item.vote is not None}


def _label(item: Item) -> str:
    return item.vote.label if item.vote else ""


def _words_between(text: str, start: int, end: int) -> bool:
    """Whether there is more than marks and the opening of a fence."""
    return any(map(str.isalnum, re.sub(r"```\w*", "", text[start : max(start, end)])))
