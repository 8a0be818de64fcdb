"""Which battles to drop, and why.

A battle may have several reasons; it is dropped if one of them is applied. What is applied unless
the user says otherwise is what makes a label wrong, or unfit to be trained on. What makes it merely
unsure is named and kept: soft labels are there to say so, and a set of clear battles alone teaches
a judge that all are clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from judge.aggregation import Floats
from judge.comparing.near import Found, Kind
from judge.metrics import CLASSES
from synth.checking.agreement import Repeated, repeated_annotators, repeated_samples
from synth.checking.contamination import HeldOut
from synth.checking.criteria import contradictions
from synth.checking.orders import ByOrder, by_order, one_order
from synth.checking.records import ORDERS, Bools, Ints, Records

REASONS: dict[str, tuple[bool, str]] = {
    "not-annotated": (True, "no annotator was asked, or could be"),
    "unanswered": (True, "no annotator replied"),
    "refused": (True, "annotators declined, and nothing else of theirs can be read"),
    "unreadable": (True, "no reply can be read"),
    "no-label": (True, "what is said makes no label: every verdict is NA, say"),
    "one-order": (True, "readable in one order of two: the position is in its label"),
    "order-flip": (True, "the other response wins when they change places"),
    "verdict-contradicts-votes": (True, "at least half of the verdicts go against their votes"),
    "contaminated": (True, "is in a held-out file, but for small edits"),
    "held-out-prompt": (True, "its prompt is in a held-out file"),
    "near-duplicate": (True, "an earlier battle is the same, but for small edits"),
    "samples-disagree": (False, "samples of one annotator in one order differ"),
    "annotators-disagree": (False, "annotators differ"),
    "low-confidence": (False, "the likeliest outcome is hardly likelier than the others"),
    "templated-reasons": (False, "half of its reasons stand word for word in many battles"),
    "both-refuse": (False, "both responses are refusals"),
    "human-disagrees": (False, "people chose another outcome"),
}
"""By each reason's name, whether it is applied by default, and what it is."""

_LONGEST = 200  # characters of a detail that a server or a model wrote

DEFAULTS = frozenset(name for name, (applied, _) in REASONS.items() if applied)


@dataclass(frozen=True)
class Rules:
    """What counts, and what is done about it.

    Attributes:
        applied: reasons for which battles are dropped.
        margin: how far P(A) - P(B) must be from 0 in each order, to opposite sides, for a flip.
        agreement: pairs of samples, or of annotators, that must agree, as a share.
        confidence: how likely the likeliest outcome must be.
    """

    applied: frozenset[str] = DEFAULTS
    margin: float = 0.2
    agreement: float = 0.5
    confidence: float = 0.4


@dataclass(frozen=True)
class Drop:
    """A reason to drop a battle: where it stands, the reason's name, and what was seen."""

    battle: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Seen:
    """What the reasons are drawn from.

    Attributes:
        records: the annotations.
        declined: (M,) records whose annotator declined.
        proba: (N, 3) labels; NaN rows without one.
        human: (N, 3) people's; NaN rows unlabelled.
        held_out: battles of held-out files, and `there` how each battle is among them.
        again: how each battle is among those before it.
        templated: (N,) battles whose reasons are templates.
        responses: (2, N) responses that are refusals.
    """

    records: Records
    declined: Bools
    proba: Floats
    human: Floats
    held_out: HeldOut
    there: Found
    again: Found
    templated: Bools
    responses: Bools


def find_drops(seen: Seen, rules: Rules) -> list[Drop]:
    """All reasons there are, by battle in their order, then in the order of `REASONS`."""
    found = [
        *_silent(seen),
        *_orders(seen.records, by_order(seen.records), rules.margin),
        *_contradictions(seen.records),
        *_elsewhere(seen),
        *_disagreeing(seen.records, rules.agreement),
        *_labels(seen, rules.confidence),
    ]
    rank = {name: place for place, name in enumerate(REASONS)}
    return sorted(found, key=lambda one: (one.battle, rank[one.reason]))


def dropped(drops: Sequence[Drop], battles: int, applied: frozenset[str]) -> Bools:
    """(N,) the battles that go."""
    gone = np.zeros(battles, dtype=np.bool_)
    gone[[one.battle for one in drops if one.reason in applied]] = True
    return gone


def counts(drops: Sequence[Drop]) -> dict[str, int]:
    """How many battles each reason is given for; those that are given for none are left out."""
    found = dict.fromkeys(REASONS, 0)
    for one in drops:
        found[one.reason] += 1
    return {name: number for name, number in found.items() if number}


def _all(mask: Bools, reason: str, detail: str) -> Iterator[Drop]:
    return (Drop(place, reason, detail) for place in np.flatnonzero(mask).tolist())


def _silent(seen: Seen) -> Iterator[Drop]:
    """Battles without a label, by what kept them from one."""
    records = seen.records
    asked, read, refused, answered = (
        _any(records, rows)
        for rows in (
            ~records.unasked,
            records.readable,
            seen.declined,
            ~records.unanswered & ~records.unasked,
        )
    )
    left = asked & ~read
    texts = records.texts("reason")
    last = _last(records, ~records.readable)
    for place in np.flatnonzero(~asked).tolist():
        told = texts[last[place]][:_LONGEST] if last[place] >= 0 else ""
        yield Drop(place, "not-annotated", told or "no record")
    yield from _all(left & ~answered & ~refused, "unanswered", "no reply to any record")
    yield from _all(left & refused, "refused", "declined, and nothing readable")
    for place in np.flatnonzero(left & answered & ~refused).tolist():
        yield Drop(place, "unreadable", texts[last[place]][:_LONGEST])
    yield from _all(read & np.isnan(seen.proba[:, 0]), "no-label", "nothing that makes a label")


def _any(records: Records, rows: Bools) -> Bools:
    """(N,) battles with such a record."""
    found = np.zeros(records.battles, dtype=np.bool_)
    found[records.battle[rows]] = True
    return found


def _last(records: Records, rows: Bools) -> Ints:
    """(N,) the last such record of each battle, -1 without one."""
    found = np.full(records.battles, -1, dtype=np.int64)
    found[records.battle[rows]] = np.flatnonzero(rows)
    return found


def _orders(records: Records, pairs: ByOrder, margin: float) -> Iterator[Drop]:
    """Battles that cannot be read in one order, and those whose winner changes with it."""
    whole = _in_both(records, pairs)
    lacking = np.zeros(records.battles, dtype=np.bool_)
    for place in range(len(records.annotators)):
        lacking[one_order(records, place)] = True
    texts = records.texts("reason")
    silent = _last(records, ~records.readable & (records.order < 2))
    for place in np.flatnonzero(lacking & ~whole).tolist():
        row = silent[place]
        told = f"{ORDERS[records.order[row]]}: {texts[row][:_LONGEST]}" if row >= 0 else "no record"
        yield Drop(place, "one-order", told)
    size = np.maximum(np.bincount(pairs.battle, minlength=records.battles), 1)
    first, second = (np.bincount(pairs.battle, gap, records.battles) / size for gap in pairs.gaps)
    # Of what was never certain to the last bit, a rounding error is no reason.
    far = np.minimum(np.abs(first), np.abs(second)) >= margin - 1e-9
    for place in np.flatnonzero(whole & far & (first * second < 0)).tolist():
        detail = f"P(A) - P(B) is {first[place]:+.2f} in AB and {second[place]:+.2f} in BA"
        yield Drop(place, "order-flip", detail)


def _in_both(records: Records, pairs: ByOrder) -> Bools:
    found = np.zeros(records.battles, dtype=np.bool_)
    found[pairs.battle] = True
    return found


def _contradictions(records: Records) -> Iterator[Drop]:
    against, told = contradictions(records)
    wrong = np.bincount(records.battle[against], minlength=records.battles)
    of = np.bincount(records.battle[told], minlength=records.battles)
    for place in np.flatnonzero((of > 0) & (2 * wrong >= of)).tolist():
        detail = f"{wrong[place]} of {of[place]} verdicts"
        yield Drop(place, "verdict-contradicts-votes", detail)


def _elsewhere(seen: Seen) -> Iterator[Drop]:
    """Battles of held-out files, and those that are there before."""
    for place in np.flatnonzero(seen.there.kinds > 0).tolist():
        kind = Kind(int(seen.there.kinds[place]))
        file, name = seen.held_out.names[int(seen.there.places[place])]
        reason = "held-out-prompt" if kind is Kind.PROMPT else "contaminated"
        yield Drop(place, reason, f"{_kind(kind, seen.there, place)} {name} in {file}")
    for place in np.flatnonzero(seen.again.kinds >= Kind.NEAR).tolist():
        kind = Kind(int(seen.again.kinds[place]))
        name = seen.records.ids[int(seen.again.places[place])]
        yield Drop(place, "near-duplicate", f"{_kind(kind, seen.again, place)} {name}")


def _kind(kind: Kind, found: Found, place: int) -> str:
    if kind is Kind.NEAR:
        return f"near ({found.similarity[place]:.2f})"
    return "the same as" if kind is Kind.EXACT else "the prompt of"


def _disagreeing(records: Records, least: float) -> Iterator[Drop]:
    for reason, found in (
        ("samples-disagree", repeated_samples(records)),
        ("annotators-disagree", repeated_annotators(records)),
    ):
        share = _agreed(found, records.battles)
        for place in np.flatnonzero(share < least - 1e-9).tolist():
            yield Drop(place, reason, f"{share[place]:.0%} of the pairs agree")


def _agreed(found: Repeated, battles: int) -> Floats:
    """(N,) mean agreement on each battle, NaN where nothing is said twice."""
    size = np.bincount(found.battle, minlength=battles)
    sums = np.bincount(found.battle, found.agreed, battles)
    share = np.full(battles, np.nan)
    np.divide(sums, size, out=share, where=size > 0)
    return share


def _labels(seen: Seen, confidence: float) -> Iterator[Drop]:
    top = seen.proba.max(axis=1)
    for place in np.flatnonzero(top < confidence - 1e-9).tolist():
        yield Drop(place, "low-confidence", f"the likeliest outcome has {top[place]:.2f}")
    yield from _all(seen.templated, "templated-reasons", "half of its reasons or more")
    yield from _all(seen.responses[0] & seen.responses[1], "both-refuse", "both responses")
    known = ~np.isnan(seen.proba[:, 0]) & ~np.isnan(seen.human[:, 0])
    ours, theirs = (np.nan_to_num(side) for side in (seen.proba, seen.human))
    # Outcomes that are as likely as each other are all the likeliest.
    shared = (
        (ours >= ours.max(axis=1, keepdims=True) - 1e-9)
        & (theirs >= theirs.max(axis=1, keepdims=True) - 1e-9)
    ).any(axis=1)
    for place in np.flatnonzero(known & ~shared).tolist():
        said, was = (CLASSES[int(side[place].argmax())] for side in (ours, theirs))
        yield Drop(place, "human-disagrees", f"annotators {said}, people {was}")
