"""Whether a judge keeps its word: the same verdict in both orders, no favour for what stands first,
replies that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.aggregation import Floats, vote_shares
from judge.ballots import UNANSWERED

_NORMAL = 1.959964
_WEIGHTS = ("ballots", "pairs")


@dataclass(frozen=True)
class Consistency:
    """What a run's ballots say about the judge itself.

    Attributes:
        ballots: in all; `unreadable` of them have a reply and no vote, `unanswered` no reply.
        pairs: battles that a judge was asked about in both orders and answered readably.
        order_consistency: share of the pairs with the same verdict (A, B or tie) in both orders;
            NaN without pairs.
        position_bias: from -1 (all for what is shown second) to 1 (all for what is shown first):
            half the difference of P(A) - P(B) between the orders, mean over the pairs, so that
            which response is better cancels out; `low`, `high` is its 95 % interval. NaN without
            pairs.
        first: share of what is shown first among the ballots that decide for a side; where only
            one order was asked for, better responses may simply stand first.
    """

    ballots: int
    unreadable: int
    pairs: int
    order_consistency: float
    position_bias: float
    low: float
    high: float
    first: float
    unanswered: int = 0

    @property
    def answered(self) -> int:
        """Ballots that there is a reply to."""
        return self.ballots - self.unanswered

    @property
    def unreadable_rate(self) -> float:
        """Of those answered, from 0 to 1; NaN without any."""
        return self.unreadable / self.answered if self.answered else float("nan")

    def lines(self) -> list[str]:
        """For people."""
        found = [f"{self.unreadable:,} of {self.answered:,} ballots unreadable"]
        if self.answered:
            found[0] += f" ({self.unreadable_rate:.1%})"
        if self.unanswered:
            found[0] += f"; {self.unanswered:,} more without a reply"
        if self.pairs:
            known = self.low == self.low
            interval = f" [{max(self.low, -1):+.3f}, {min(self.high, 1):+.3f}]" if known else ""
            found.append(
                f"asked in both orders about {self.pairs:,}: the same verdict in "
                f"{self.order_consistency:.1%}; position bias {self.position_bias:+.3f}"
                f"{interval} (+ favours what is shown first)"
            )
        elif self.first == self.first:
            found.append(
                f"{self.first:.1%} of the decided ballots for what is shown first; "
                "whether that is bias takes both orders"
            )
        return found


@dataclass(frozen=True)
class Counted:
    """What is kept of a ballot table for its part in the report: a number a battle, and sums.

    Attributes:
        ballots: in all; `unreadable` of them have a reply and no vote, `unanswered` no reply.
        same: pairs with the same verdict in both orders.
        bias: (P,) of each pair, half the difference of P(A) - P(B) between the orders.
        decided: ballots that decide for a side; `first` of them for what is shown first.
    """

    ballots: int
    unreadable: int
    unanswered: int
    same: int
    bias: Floats
    decided: int
    first: int


def report_consistency(ballots: pd.DataFrame) -> Consistency:
    """Order consistency, position bias and unreadable replies of a ballot table."""
    return report_counted([count_consistency(ballots)])


def report_counted(tables: Sequence[Counted]) -> Consistency:
    """The same of several tables that have no battle in common, in whatever order."""
    half = np.concatenate([table.bias for table in tables] or [np.empty(0)])
    pairs, decided = len(half), sum(table.decided for table in tables)
    mean = spread = same = float("nan")
    if pairs:
        same = sum(table.same for table in tables) / pairs
        mean = fsum(half) / pairs  # exact, so that the order of the tables is nothing to it
    if pairs > 1:
        spread = _NORMAL * sqrt(fsum((half - mean) ** 2) / (pairs - 1) / pairs)
    return Consistency(
        ballots=sum(table.ballots for table in tables),
        unreadable=sum(table.unreadable for table in tables),
        pairs=pairs,
        order_consistency=same,
        position_bias=mean,
        low=mean - spread,
        high=mean + spread,
        first=sum(table.first for table in tables) / decided if decided else float("nan"),
        unanswered=sum(table.unanswered for table in tables),
    )


def count_consistency(ballots: pd.DataFrame) -> Counted:
    """A ballot table's part in the report."""
    shares = vote_shares(ballots)
    asked = ~np.isnan(shares[..., 0])
    readable = asked.any(axis=1)
    number = np.maximum(asked.sum(axis=1), 1)[:, None]
    means = np.where(asked[..., None], shares, 0.0).sum(axis=1) / number  # (M, 4)
    order = ballots["order"].astype(object).to_numpy()
    table = pd.DataFrame(
        {
            "id": ballots["id"].to_numpy(),
            "judge": ballots["judge"].to_numpy(),
            "order": order,
            "a": means[:, 0],
            "b": means[:, 1],
            "both": means[:, 2],
        }
    )[readable & np.isin(order, ("AB", "BA"))]
    gap = (table["a"] - table["b"]).to_numpy() * np.where(table["order"] == "AB", 1.0, -1.0)
    same, bias = _pairs(table)
    unanswered = ~readable & _unanswered(ballots)
    return Counted(
        ballots=len(ballots),
        unreadable=int((~readable & ~unanswered).sum()),
        unanswered=int(unanswered.sum()),
        same=same,
        bias=bias,
        decided=int((gap != 0).sum()),
        first=int((gap > 0).sum()),
    )


def pooled(words: Sequence[Consistency]) -> Consistency:
    """Several judges' as one: means over all their pairs and ballots."""
    ballots, pairs = (np.array([getattr(one, name) for one in words]) for name in _WEIGHTS)
    spread = np.array([one.high - one.low for one in words]) / 2.0
    share = pairs / max(int(pairs.sum()), 1)
    bias = _mean(words, "position_bias", pairs)
    half = float(np.sqrt(np.where(pairs > 0, (share * spread) ** 2, 0.0).sum()))
    return Consistency(
        ballots=int(ballots.sum()),
        unreadable=sum(one.unreadable for one in words),
        pairs=int(pairs.sum()),
        order_consistency=_mean(words, "order_consistency", pairs),
        position_bias=bias,
        low=bias - half,
        high=bias + half,
        first=_mean(words, "first", ballots),
        unanswered=sum(one.unanswered for one in words),
    )


def _unanswered(ballots: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """(M,) whether a ballot's reason is that there was no reply."""
    if "reason" not in ballots.columns:
        return np.zeros(len(ballots), dtype=np.bool_)
    reasons = ballots["reason"].astype(object)
    return np.array([str(reason).startswith(UNANSWERED) for reason in reasons], dtype=np.bool_)


def _mean(words: Sequence[Consistency], name: str, weights: npt.NDArray[np.int64]) -> float:
    """Of those that are known; NaN if none is."""
    values = np.array([getattr(one, name) for one in words], dtype=np.float64)
    known = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else float("nan")


def _pairs(table: pd.DataFrame) -> tuple[int, Floats]:
    """How many pairs have the same verdict, and the bias of each."""
    orders = [
        table[table["order"] == order].groupby(["id", "judge"])[["a", "b", "both"]].mean()
        for order in ("AB", "BA")
    ]
    wide = pd.concat(orders, axis=1, join="inner").to_numpy(dtype=np.float64)
    sides = [wide[:, :3], wide[:, 3:]]
    gaps = [side[:, 0] - side[:, 1] for side in sides]
    same = _verdicts(sides[0]) == _verdicts(sides[1])
    return int(same.sum()), (gaps[0] - gaps[1]) / 2.0


def _verdicts(means: Floats) -> Floats:
    """(N,) 1 for A, -1 for B, 0 for a tie, from (N, 3) mean votes for A, B and both."""
    a, b, both = means.T
    decided = np.maximum(a, b) > both
    return np.asarray(np.where(decided, np.sign(a - b), 0.0))
