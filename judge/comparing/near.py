"""Battles that are the same as others but for small edits, found without comparing all with all.

Two battles are *near* when half of the prompts' sketches agree and seven twelfths of those of each
response, whichever way round they stand (see `judge.comparing.marks`). Only those are compared that
agree in a value of the prompt and in three values side by side of a response: locality-sensitive
hashing (Leskovec, Rajaraman and Ullman 2020, chapter 3), by a sort and two searches for each pair
of such places; within one collection the sort alone does, since kin stand side by side in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from judge.comparing.marks import OF_PROMPT, OF_RESPONSE, SKETCH, Hashes, Ints, Marks

Floats = npt.NDArray[np.float64]
Sketches = npt.NDArray[np.uint16]

# So many values of a prompt's eight and of each response's twelve must agree.
_ALIKE_PROMPT, _ALIKE_RESPONSE = 4, 7
_BAND = 3
# Of battles that agree in a key, so many are compared; those that are near are so in many keys.
_COMPARED = 8
# Within one collection more are: whoever wants none left twice cannot rely on a later look.
_COMPARED_WITHIN = 32


class Kind(IntEnum):
    """How a battle is among others, the closest highest."""

    NONE = 0
    PROMPT = 1  # the prompt is, with other responses
    NEAR = 2
    EXACT = 3


@dataclass(frozen=True)
class Found:
    """What is found of N battles among others.

    Attributes:
        kinds: (N,) of `Kind`.
        places: (N,) where among the others, -1 for `Kind.NONE`.
        similarity: (N,) share of the sketches' values that agree: 1 if exact; NaN for none.
    """

    kinds: npt.NDArray[np.int8]
    places: Ints
    similarity: Floats


def find(battles: Marks, others: Marks) -> Found:
    """Each battle's closest kin among others."""
    kinds = np.zeros(len(battles), dtype=np.int8)
    places = np.full(len(battles), -1, dtype=np.int64)
    for kind, wanted, there in (
        (Kind.PROMPT, battles.prompts, others.prompts),
        (Kind.EXACT, battles.battles, others.battles),
    ):
        at = _same(wanted, there)
        kinds[at >= 0] = kind
        places[at >= 0] = at[at >= 0]
    rest = np.flatnonzero(kinds != Kind.EXACT)
    at = _near(battles.sketches[rest], others.sketches)
    kinds[rest[at >= 0]] = Kind.NEAR
    places[rest[at >= 0]] = at[at >= 0]
    similarity = np.full(len(battles), np.nan)
    some = places >= 0
    alike = _alike(battles.sketches[some], others.sketches[places[some]])
    similarity[some] = alike.sum(axis=1) / SKETCH
    similarity[kinds == Kind.EXACT] = 1.0
    return Found(kinds, places, similarity)


def duplicates(marks: Marks) -> Found:
    """Each battle's closest kin among those before it; the first of several is nobody's copy.

    A battle is `Kind.EXACT` or `Kind.NEAR` exactly if some earlier one is so close to it, whatever
    became of that one: where those are left out, no two that are left are kin.
    """
    first = np.arange(len(marks))
    prompts, battles = (_same(known, known) for known in (marks.prompts, marks.battles))
    kinds = np.where(prompts < first, Kind.PROMPT, Kind.NONE).astype(np.int8)
    places = np.where(prompts < first, prompts, -1)
    # A copy has its first one's sketch, so it has nothing to say of others that the first has not.
    rest = np.flatnonzero(battles == first)
    kinds[battles < first], places[battles < first] = Kind.EXACT, battles[battles < first]
    at = _near_before(marks.sketches[rest])
    kinds[rest[at >= 0]] = Kind.NEAR
    places[rest[at >= 0]] = rest[at[at >= 0]]
    similarity = np.full(len(marks), np.nan)
    some = places >= 0
    alike = _alike(marks.sketches[some], marks.sketches[places[some]])
    similarity[some] = alike.sum(axis=1) / SKETCH
    similarity[kinds == Kind.EXACT] = 1.0
    return Found(kinds, places, similarity)


def _same(wanted: Hashes, there: Hashes) -> Ints:
    """(N,) the first place where each stands, -1 where it does not."""
    order = np.argsort(there, kind="stable")
    ordered = there[order]
    at = np.searchsorted(ordered, wanted)
    at[at == len(ordered)] = 0
    if not len(ordered):
        return np.full(len(wanted), -1, dtype=np.int64)
    return np.where(ordered[at] == wanted, order[at], -1)


def _near(wanted: Sketches, there: Sketches) -> Ints:
    """(N,) the place of the nearest sketch that is near, the first of equals; -1 without one."""
    best = np.full(len(wanted), -1, dtype=np.int64)
    agreed = np.zeros(len(wanted), dtype=np.int64)
    if not len(wanted) or not len(there):
        return best
    for start in range(0, OF_RESPONSE, _BAND):
        ours, theirs = (_bands(side, start) for side in (wanted, there))
        both = np.concatenate(theirs)
        for value in range(OF_PROMPT):
            high = _high(there, value)
            ordered = both | np.concatenate([high, high])
            order = np.argsort(ordered, kind="stable")
            ordered, order = ordered[order], order % len(there)
            for band in ours:
                keys = band | _high(wanted, value)
                low = np.searchsorted(ordered, keys, side="left")
                many = np.searchsorted(ordered, keys, side="right") - low
                for step in range(min(int(many.max()), _COMPARED)):
                    rows = np.flatnonzero(many > step)
                    _keep_nearer(wanted, there, rows, order[low[rows] + step], best, agreed)
    return best


def _near_before(sketches: Sketches) -> Ints:
    """(N,) the place of the nearest earlier sketch that is near, the first of equals; -1 without
    one."""
    best = np.full(len(sketches), -1, dtype=np.int64)
    agreed = np.zeros(len(sketches), dtype=np.int64)
    if not len(sketches):
        return best
    for start in range(0, OF_RESPONSE, _BAND):
        both = np.stack(_bands(sketches, start), axis=1)
        for value in range(OF_PROMPT):
            keys = (both | _high(sketches, value)[:, None]).ravel()
            order = np.argsort(keys, kind="stable")  # within a key, in the order of the battles
            ordered, order = keys[order], order // 2
            new = np.append(True, ordered[1:] != ordered[:-1])
            low = np.flatnonzero(new)[np.cumsum(new) - 1]
            before = np.arange(len(keys)) - low
            for step in range(min(int(before.max()), _COMPARED_WITHIN)):
                at = np.flatnonzero(before > step)
                rows, others = order[at], order[low[at] + step]
                # Both responses of one battle may have the same key, and both of another.
                other = (others < rows) & np.append(True, (rows[1:] != rows[:-1]))
                _keep_nearer(sketches, sketches, rows[other], others[other], best, agreed)
    return best


def _high(sketches: Sketches, value: int) -> Hashes:
    """(N,) a value of the prompt, where the keys have room for it."""
    return sketches[:, value].astype(np.uint64) << np.uint64(48)


def _bands(sketches: Sketches, start: int) -> list[Hashes]:
    """For each response (N,) values side by side as one number."""
    keys = []
    for response in (OF_PROMPT, OF_PROMPT + OF_RESPONSE):
        key = np.zeros(len(sketches), dtype=np.uint64)
        for column in range(response + start, response + start + _BAND):
            key = key << np.uint64(16) | sketches[:, column].astype(np.uint64)
        keys.append(key)
    return keys


def _alike(ours: Sketches, theirs: Sketches) -> Ints:
    """(N, 3) how many values agree of the prompts and of the responses, whichever way round they
    agree more."""
    prompts = (ours[:, :OF_PROMPT] == theirs[:, :OF_PROMPT]).sum(axis=1)
    (a, b), (c, d) = (np.split(side[:, OF_PROMPT:], 2, axis=1) for side in (ours, theirs))
    straight = np.stack([(a == c).sum(axis=1), (b == d).sum(axis=1)], axis=1)
    crossed = np.stack([(a == d).sum(axis=1), (b == c).sum(axis=1)], axis=1)
    # By the response that agrees less, then by both: one that is the same is not enough.
    rank = [
        way.min(axis=1) * (2 * OF_RESPONSE + 1) + way.sum(axis=1) for way in (straight, crossed)
    ]
    responses = np.where((rank[0] >= rank[1])[:, None], straight, crossed)
    return np.column_stack([prompts, responses])


def _keep_nearer(
    wanted: Sketches, there: Sketches, rows: Ints, at: Ints, best: Ints, agreed: Ints
) -> None:
    """Compares battles row by row and keeps, in `best` and `agreed`, those that are nearer than
    what was found before."""
    alike = _alike(wanted[rows], there[at])
    near = (alike[:, 0] >= _ALIKE_PROMPT) & (alike[:, 1:].min(axis=1) >= _ALIKE_RESPONSE)
    count = alike.sum(axis=1)
    better = near & ((count > agreed[rows]) | ((count == agreed[rows]) & (at < best[rows])))
    best[rows[better]] = at[better]
    agreed[rows[better]] = count[better]
