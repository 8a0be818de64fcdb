"""Whether five criteria say five things: votes that never differ, votes that always go together,
and verdicts that their own votes contradict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judge.aggregation import Floats
from judge.ballots import CRITERIA, VOTES
from synth.checking.estimates import NAN, Estimate, Sampling
from synth.checking.records import NA, TIE, Bools, Ints, Records, sides


@dataclass(frozen=True)
class Criterion:
    """The votes on one criterion.

    Attributes:
        name: of it.
        votes: readable ones.
        shares: of A, B, AB and NA among them.
        most: the commonest vote; `share` of the votes are that.
    """

    name: str
    votes: int
    shares: tuple[float, ...]
    most: str
    share: float


@dataclass(frozen=True)
class Criteria:
    """How the criteria go together.

    Attributes:
        single: whether every ballot has one and the same distribution under each criterion: a
            verdict that was written there. What is said below is then not known.
        criteria: each by itself; those that were not voted on are left out.
        alike: (5, 5) share of the ballots on which two criteria have the same vote.
        halo: share of the ballots with five votes that are all the same.
        contradicted: share of the ballots with a verdict for A or B while more criteria say the
            other, or for neither while all that decide say the same.
    """

    single: bool
    criteria: tuple[Criterion, ...]
    alike: tuple[tuple[float, ...], ...]
    halo: Estimate
    contradicted: Estimate


def criteria(records: Records, sampling: Sampling) -> Criteria:
    """How the criteria of all ballots go together."""
    chosen = sides(records.votes)  # (M, 5)
    rows = np.flatnonzero((chosen >= 0).any(axis=1))
    voted = chosen[rows]
    each = [_criterion(name, voted[:, c]) for c, name in enumerate(CRITERIA)]
    full = (voted >= 0).all(axis=1)
    same = full & (voted == voted[:, :1]).all(axis=1)
    against, told = contradictions(records)
    halo, contradicted = sampling.means(
        [
            (records.battle[rows][full], same[full]),
            (records.battle[told], against[told]),
        ]
    )
    return Criteria(
        _single(records, rows),
        tuple(one for one in each if one is not None),
        _alike(voted),
        halo,
        contradicted,
    )


def contradictions(records: Records) -> tuple[Bools, Bools]:
    """(M,) records whose verdict their votes contradict, and those of which it can be told."""
    chosen, verdict = sides(records.votes), sides(records.verdict)
    for_a, for_b = (chosen == 0).sum(axis=1), (chosen == 1).sum(axis=1)
    told = (verdict >= 0) & (verdict != NA) & (chosen >= 0).any(axis=1)
    opposed = ((verdict == 0) & (for_b > for_a)) | ((verdict == 1) & (for_a > for_b))
    heard = ((chosen >= 0) & (chosen != NA)).sum(axis=1)
    clear = (heard > 1) & ((for_a == heard) | (for_b == heard))
    return told & (opposed | ((verdict == TIE) & clear)), np.asarray(told)


def _criterion(name: str, votes: Ints) -> Criterion | None:
    counts = np.bincount(votes[votes >= 0], minlength=len(VOTES))
    if not counts.sum():
        return None
    shares = counts / counts.sum()
    most = int(counts.argmax())
    return Criterion(
        name, int(counts.sum()), tuple(shares.tolist()), VOTES[most], float(shares[most])
    )


def _alike(voted: Ints) -> tuple[tuple[float, ...], ...]:
    found = np.full((len(CRITERIA), len(CRITERIA)), NAN)
    for first in range(len(CRITERIA)):
        for second in range(len(CRITERIA)):
            both = (voted[:, first] >= 0) & (voted[:, second] >= 0)
            if both.any():
                found[first, second] = (voted[both, first] == voted[both, second]).mean()
    return tuple(tuple(row) for row in found.tolist())


def _single(records: Records, rows: Ints) -> bool:
    votes: Floats = records.votes[rows]
    return bool(len(rows)) and not records.has_verdict and bool((votes == votes[:, :1]).all())
