"""Whether annotators keep their word when the responses change places, and answer at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judge.aggregation import Floats
from judge.ballots import CRITERIA, VERDICT, VOTES
from judge.consistency import Consistency, report_consistency
from synth.checking.estimates import Estimate, Sampling
from synth.checking.records import ORDERS, Bools, Ints, Records, grouped


@dataclass(frozen=True)
class ByOrder:
    """What C pairs of an annotator and a battle come to in both orders.

    Attributes:
        battle, annotator: (C,).
        shown: (2, C, 4) mean distributions over the votes in AB and in BA.
    """

    battle: Ints
    annotator: Ints
    shown: Floats

    @property
    def gaps(self) -> Floats:
        """(2, C) P(A) - P(B) in each order."""
        return np.asarray(self.shown[..., 0] - self.shown[..., 1])

    @property
    def same(self) -> Bools:
        """(C,) whether both orders say A, B or that they are equal."""
        first, second = (_verdicts(part) for part in self.shown)
        return np.asarray(first == second, dtype=np.bool_)


@dataclass(frozen=True)
class OrderReport:
    """One annotator and the two orders.

    Attributes:
        annotator: its name.
        asked: its records; `battles` those it was asked about.
        whole: what `compare` says of its votes: unreadable replies, order consistency, bias.
        same: order consistency of what it says on the whole (its verdict, else its votes).
        bias: position bias of the same, from -1 (what is shown second) to 1 (what is shown first).
        by: order consistency and position bias of each criterion, and of the verdict.
        unasked: battles that it could not be asked about, and has a record of that alone.
        unreadable, unanswered: of its records; `declined` are those of the unreadable in which it
            would not answer.
        cut: records whose reply ran into its length; None where it is not known how replies ended.
        missing: records that it has of other battles and not of these, by order and sample.
        one_order: battles that it answered readably in one order, where it is asked in both.
    """

    annotator: str
    asked: int
    battles: int
    whole: Consistency
    same: Estimate
    bias: Estimate
    by: dict[str, tuple[float, float]]
    unasked: int
    unreadable: int
    unanswered: int
    declined: int
    cut: int | None
    missing: int
    one_order: int


def by_order(records: Records) -> ByOrder:
    """The battles that an annotator answered readably in both orders."""
    kept = records.readable & (records.order < 2)
    battle, annotator, order, sample = (
        part[kept] for part in (records.battle, records.annotator, records.order, records.sample)
    )
    keys, means = grouped(
        [battle, annotator, order, sample], records.word[kept], records.weight[kept]
    )
    keys, means = grouped(keys[:3], means)
    pair = keys[0] * len(records.annotators) + keys[1]
    first = np.flatnonzero((pair[:-1] == pair[1:]) if len(pair) else np.zeros(0, np.bool_))
    return ByOrder(keys[0][first], keys[1][first], np.stack([means[first], means[first + 1]]))


def order_reports(
    records: Records, sampling: Sampling, declined: Bools | None = None
) -> list[OrderReport]:
    """One an annotator.

    Args:
        records: the annotations.
        sampling: for intervals.
        declined: (M,) records whose annotator declined, where more is known of that than the
            protocol says.
    """
    refused = records.declined if declined is None else declined
    pairs = by_order(records)
    first, second = pairs.gaps
    bias = (first - second) / 2.0
    mine = [pairs.annotator == place for place in range(len(records.annotators))]
    same = sampling.means([(pairs.battle[rows], pairs.same[rows]) for rows in mine])
    lean = sampling.means([(pairs.battle[rows], bias[rows]) for rows in mine], -1.0, 1.0)
    return [
        _report(records, place, refused, same[place], lean[place])
        for place in range(len(records.annotators))
    ]


def one_order(records: Records, annotator: int) -> Ints:
    """The battles that an annotator who is asked in both orders answered readably in one alone."""
    mine = records.of(annotator) & (records.order < 2)
    read = np.zeros((2, records.battles), dtype=np.bool_)
    for order in range(2):
        read[order, records.battle[mine & records.readable & (records.order == order)]] = True
    both = len(np.unique(records.order[mine])) == 2
    return np.flatnonzero(read.sum(axis=0) == 1) if both else np.zeros(0, dtype=np.int64)


def _report(
    records: Records, annotator: int, refused: Bools, same: Estimate, bias: Estimate
) -> OrderReport:
    unasked = records.of(annotator) & records.unasked
    mine = records.of(annotator) & ~unasked
    ended = [text for text, own in zip(records.texts("finish"), mine, strict=True) if own]
    by = {name: _alone(records, mine, records.votes[:, c]) for c, name in enumerate(CRITERIA)}
    if records.has_verdict:
        by[VERDICT] = _alone(records, mine, records.verdict)
    silent = mine & ~records.readable
    return OrderReport(
        records.annotators[annotator],
        asked=int(mine.sum()),
        battles=len(np.unique(records.battle[mine])),
        whole=report_consistency(records.table[mine]),
        same=same,
        bias=bias,
        by=by,
        unasked=int(unasked.sum()),
        unreadable=int((silent & ~records.unanswered).sum()),
        unanswered=int((mine & records.unanswered).sum()),
        declined=int((mine & refused).sum()),
        cut=ended.count("length") if any(ended) else None,
        missing=_missing(records, mine),
        one_order=len(one_order(records, annotator)),
    )


def _alone(records: Records, mine: Bools, shares: Floats) -> tuple[float, float]:
    """Order consistency and position bias of one thing that was asked."""
    columns = {f"{CRITERIA[0]}_{vote}": shares[mine, v] for v, vote in enumerate(VOTES)}
    found = report_consistency(records.table.loc[mine, ["id", "judge", "order"]].assign(**columns))
    return found.order_consistency, found.position_bias


def _missing(records: Records, mine: Bools) -> int:
    """How many records there would be more if each battle had them in the orders, and as often, as
    any has."""
    if not mine.any():
        return 0
    keys = (records.battle[mine], records.order[mine], records.sample[mine])
    there, _ = grouped(list(keys), np.ones((int(mine.sum()), 1)))
    kinds = len(np.unique(there[1] * (int(there[2].max()) + 1) + there[2]))
    return int(len(np.unique(there[0])) * kinds - len(there[0]))


def _verdicts(shares: Floats) -> Floats:
    """(C,) as `judge.consistency` takes them: a side where it has more than the other and AB."""
    a, b, both = shares[:, 0], shares[:, 1], shares[:, 2]
    return np.asarray(np.where(np.maximum(a, b) > both, np.sign(a - b), 0.0))


def shown_orders(records: Records) -> tuple[str, ...]:
    """The orders that battles were shown in."""
    return tuple(ORDERS[place] for place in np.unique(records.order[~records.unasked]).tolist())
