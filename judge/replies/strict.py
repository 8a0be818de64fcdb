"""Replies that are exactly what was asked for, read by the JSON parser alone.

Most replies are, and of those that carry no log-probabilities nobody asks where in the text a vote
stands. Whatever is the least bit otherwise is left to `judge.replies.reading`, which gives the same
votes for what is read here, at ten times the cost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from judge.ballots import VOTES

_Pairs = list[tuple[str, Any]]
_DECODER = json.JSONDecoder(object_pairs_hook=list)  # a dictionary would hide what is said twice
_LABELS = frozenset(VOTES)
_TEXTS = frozenset(("reason", "critique_a", "critique_b"))


def members(text: str) -> dict[str, Any] | None:
    """The members of a reply that is one JSON object, those of objects in it as lists of pairs;
    None where it is anything else, or names one twice."""
    bare = text.strip()
    if not (bare.startswith("{") and bare.endswith("}")):
        return None
    try:
        pairs = _DECODER.decode(bare)
    except (ValueError, RecursionError):
        return None
    found = dict(pairs)
    return found if len(found) == len(pairs) else None


def strict_votes(text: str, asked: Sequence[str]) -> dict[str, str] | None:
    """The labels of a reply by what they are on; None where it is not exactly what was asked for:
    an object whose members are votes, objects of a reason and a vote, and texts."""
    found = members(text)
    if found is None:
        return None
    votes = {}
    for name in asked:
        said = found.get(name)
        if isinstance(said, list):
            inside = dict(said)
            if len(said) != 2 or inside.keys() != {"reason", "vote"}:
                return None
            said = inside["vote"]
        if not isinstance(said, str) or said not in _LABELS:
            return None
        votes[name] = said
    rest = found.keys() - votes.keys()
    if not all(name in _TEXTS and isinstance(found[name], str) for name in rest):
        return None
    return votes
