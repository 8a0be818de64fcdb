"""From a reply's log-probabilities to the distribution of each of its votes.

A reply is one path through a tree of tokens, and at each step the likeliest tokens beside the path
are known. The probability of a label is the sum over all branches that spell it, in whatever
pieces: `"A`, then `"`; ` "`, then `AB`; `A`, then `B"`. So the walk follows the path through a
vote. A branch that leaves it counts for the label that it spells. On the path, a word that may
become another (`A` may become AB) divides as its next step says. Off the path that step was not
seen: there it divides as the same word did in the reply's other votes, or else counts for what it
spells so far. What spells no label is left out, and the rest is scaled to 1.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.ballots import VOTES
from judge.replies import WORDS, Vote

if TYPE_CHECKING:
    from judge.engines.base import TokenChoice

Floats = npt.NDArray[np.float64]

LEAST_MASS = 0.05
"""Labels that have less of the probability than this between them say nothing of one another."""

_PLACE = {vote: place for place, vote in enumerate(VOTES)}
# How far before a vote a token may begin that reaches into it.
_BEFORE = 16
# What a vote's word may have before it within a token, the word, and what follows it.
_WORD = re.compile(r"[\s\"'`*_(\[]*(n/a?|[^\W\d_]*)(.?)", re.DOTALL)
# After "Response" come A and B alone: what the tokens say there is not the whole vote.
_HALF = re.compile(
    r"\b(?:response|assistant|answer|model|option|choice|candidate)\s[\s\"'`*_(\[]*$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Spelled:
    """What a branch spells so far.

    Attributes:
        word: in lower case; empty before its first letter.
        label: the vote that the word is, or can only become.
        final: whether no further token changes that.
    """

    word: str
    label: str | None
    final: bool


@dataclass(slots=True)
class _Walk:
    """What the walk through one vote found.

    Attributes:
        mass: the probability of each label, as far as branches spell labels for good.
        open: branches that left the path at a word that may yet become another: word, label, mass.
        divided: how the mass at such words on the path itself divided, by word.
    """

    mass: Floats
    open: list[tuple[str, str, float]]
    divided: dict[str, Floats]


def distributions(
    votes: Mapping[str, Vote], text: str, tokens: Sequence[TokenChoice]
) -> dict[str, Floats]:
    """The distributions over `VOTES` of those votes that the tokens tell of.

    Args:
        votes: what was read in the reply (see `judge.replies`).
        text: the reply.
        tokens: its tokens, which may hold more than the text, such as the token that ends it.
    """
    written = "".join(token.token for token in tokens)
    starts = [0, *accumulate(len(token.token) for token in tokens)]
    walks = {}
    for name, vote in votes.items():
        at = _locate(vote, text, written)
        if at is not None:
            walks[name] = _walk(at, written, starts, tokens)
    divided = _pooled(walk.divided for walk in walks.values())
    found = {}
    for name, walk in walks.items():
        mass = walk.mass.copy()
        for word, label, weight in walk.open:
            mass += weight * divided.get(word, _only(label))
        total = float(mass.sum())
        if total >= LEAST_MASS:
            found[name] = mass / total
    return found


def _locate(vote: Vote, text: str, written: str) -> int | None:
    """Where a vote stands in what the tokens spell; None where that or its meaning is unsure."""
    if WORDS.get(text[vote.start : vote.end].lower()) != vote.label:
        return None
    if _HALF.search(text, max(0, vote.start - 40), vote.start):
        return None
    offset = 0 if written.startswith(text) else written.rfind(text)
    if offset >= 0:
        return offset + vote.start
    # Half a character's bytes are no text, so tokens need not spell a reason; its votes they do.
    for before in (48, 24, 12):
        begin = max(0, vote.start - before)
        around = text[begin : vote.end + 8]
        if written.count(around) == 1:
            return written.find(around) + vote.start - begin
    return None


def _walk(at: int, written: str, starts: Sequence[int], tokens: Sequence[TokenChoice]) -> _Walk:
    """Follows the reply's tokens through the vote whose word begins at `at`."""
    walk = _Walk(np.zeros(len(VOTES)), [], {})
    steps: list[tuple[str, Floats]] = []
    weight = 1.0
    for place in range(_first(at, written, starts, tokens), len(tokens)):
        token = tokens[place]
        for branch, chance in token.top:
            if branch != token.token:
                piece = _ahead(branch, starts[place], at, written)
                if piece:
                    _count(walk, _spelled(piece), weight * _chance(chance))
        weight *= _chance(token.logprob)
        if starts[place + 1] <= at and token.token:
            continue
        here = _spelled(_ahead(token.token, starts[place], at, written))
        if here.final:
            _count(walk, here, weight)
            break
        if place + 1 < len(tokens) and tokens[place + 1].top:
            steps.append((here.word, walk.mass.copy()))
    else:
        label = WORDS.get(_spelled(written[at:]).word)
        if label is not None:
            walk.mass[_PLACE[label]] += weight
    for word, before in steps:
        after = walk.mass - before
        if after.sum() > 0:
            walk.divided[word] = after / after.sum()
    return walk


def _first(at: int, written: str, starts: Sequence[int], tokens: Sequence[TokenChoice]) -> int:
    """The first token that has a branch which spells a label at `at`, or begins to."""
    here = first = bisect_right(starts, at) - 1
    for place in range(here - 1, -1, -1):
        if at - starts[place] > _BEFORE:
            break
        branches = (b for b, _ in tokens[place].top if b != tokens[place].token)
        ahead = (_ahead(branch, starts[place], at, written) for branch in branches)
        if any(piece and _spelled(piece).label for piece in ahead):
            first = place
    return first


def _count(walk: _Walk, spelled: _Spelled, mass: float) -> None:
    if spelled.label is None:
        return
    if spelled.final:
        walk.mass[_PLACE[spelled.label]] += mass
    else:
        walk.open.append((spelled.word, spelled.label, mass))


def _ahead(token: str, start: int, at: int, written: str) -> str:
    """What stands from `at` on if `token` stands at `start`; empty where it doesn't reach that far
    or has other text before."""
    if start >= at:
        # The token that ends a reply may be written as nothing; it ends the word as well.
        return written[at:start] + (token or "\n")
    before = written[start:at]
    if token.startswith(before):
        return token[len(before) :]
    before = before.lstrip()
    # White space is no part of what is said, whichever side has it.
    return token.lstrip()[len(before) :] if token.lstrip().startswith(before) else ""


@lru_cache(maxsize=4096)
def _spelled(piece: str) -> _Spelled:
    found = _WORD.match(piece)
    word, after = (found[1].lower(), found[2]) if found else ("", "")
    if after or not word:
        label = None if after.isalnum() or after == "_" else WORDS.get(word)
        return _Spelled(word, label, bool(after))
    longer = {label for other, label in WORDS.items() if other.startswith(word) and other != word}
    label = WORDS.get(word) or (next(iter(longer)) if len(longer) == 1 else None)
    return _Spelled(word, label, not longer or (word in WORDS and longer == {label}))


def _chance(logprob: float) -> float:
    return math.exp(min(logprob, 0.0)) if logprob == logprob else 0.0


def _only(label: str) -> Floats:
    alone = np.zeros(len(VOTES))
    alone[_PLACE[label]] = 1.0
    return alone


def _pooled(found: Iterable[Mapping[str, Floats]]) -> dict[str, Floats]:
    """The mean division at each open word over the reply's votes."""
    sums: dict[str, list[Floats]] = {}
    for divided in found:
        for word, share in divided.items():
            sums.setdefault(word, []).append(share)
    return {word: np.mean(shares, axis=0) for word, shares in sums.items()}
