"""Whether a judge keeps its word: the same verdict in both orders, no favour for what stands first,
replies that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.aggregation import Floats, vote_shares

_NORMAL = 1.959964
_WEIGHTS = ("ballots", "pairs")


@dataclass(frozen=True)
class Consistency:
    """What a run's ballots say about the judge itself.

    Attributes:
        ballots: in all; `unreadable` of them have no vote.
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

    @property
    def unreadable_rate(self) -> float:
        """From 0 to 1; NaN without ballots."""
        return self.unreadable / self.ballots if self.ballots else float("nan")

    def lines(self) -> list[str]:
        """For people."""
        found = [f"{self.unreadable:,} of {self.ballots:,} ballots unreadable"]
        if self.ballots:
            found[0] += f" ({self.unreadable_rate:.1%})"
        if self.pairs:
            found.append(
                f"asked in both orders about {self.pairs:,}: the same verdict in "
                f"{self.order_consistency:.1%}; position bias {self.position_bias:+.3f} "
                f"[{self.low:+.3f}, {self.high:+.3f}] (+ favours what is shown first)"
            )
        elif self.first == self.first:
            found.append(
                f"{self.first:.1%} of the decided ballots for what is shown first; "
                "whether that is bias takes both orders"
            )
        return found


def report_consistency(ballots: pd.DataFrame) -> Consistency:
    """Order consistency, position bias and unreadable replies of a ballot table."""
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
    decided = gap[gap != 0]
    consistency, bias, low, high, pairs = _pairs(table)
    return Consistency(
        ballots=len(ballots),
        unreadable=int((~readable).sum()),
        pairs=pairs,
        order_consistency=consistency,
        position_bias=bias,
        low=low,
        high=high,
        first=float((decided > 0).mean()) if len(decided) else float("nan"),
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
    )


def _mean(words: Sequence[Consistency], name: str, weights: npt.NDArray[np.int64]) -> float:
    """Of those that are known; NaN if none is."""
    values = np.array([getattr(one, name) for one in words], dtype=np.float64)
    known = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else float("nan")


def _pairs(table: pd.DataFrame) -> tuple[float, float, float, float, int]:
    """Consistency, bias and its interval, and the number of pairs they are over."""
    nothing = float("nan")
    orders = [
        table[table["order"] == order].groupby(["id", "judge"])[["a", "b", "both"]].mean()
        for order in ("AB", "BA")
    ]
    wide = pd.concat(orders, axis=1, join="inner").to_numpy()
    if len(wide) == 0:
        return nothing, nothing, nothing, nothing, 0
    sides = [wide[:, :3], wide[:, 3:]]
    gaps = [side[:, 0] - side[:, 1] for side in sides]
    same = _verdicts(sides[0]) == _verdicts(sides[1])
    half = (gaps[0] - gaps[1]) / 2.0
    spread = float(half.std(ddof=1)) / np.sqrt(len(half)) if len(half) > 1 else nothing
    mean = float(half.mean())
    return float(same.mean()), mean, mean - _NORMAL * spread, mean + _NORMAL * spread, len(wide)


def _verdicts(means: Floats) -> Floats:
    """(N,) 1 for A, -1 for B, 0 for a tie, from (N, 3) mean votes for A, B and both."""
    a, b, both = means.T
    decided = np.maximum(a, b) > both
    return np.asarray(np.where(decided, np.sign(a - b), 0.0))
