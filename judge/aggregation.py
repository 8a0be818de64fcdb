"""From ballots to probabilities.

The ballots of a battle are pooled criterion by criterion: parts by their weight, then the mean over
samples, over orders and over judges, so that a judge that was asked five times in one order and
once in the other is not tilted by it. What comes out, per criterion, is the direction
P(A) - P(B), the share of AB and of NA, and how far the ballots disagree. Then

    f = n / (n + doubt)          n ballots a criterion: one alone is half believed
    g = h ** (abstain - 1)       h the share of the votes that is not NA
    d = f g temperature * sum over criteria of weight * direction   (+ covariates)
    t = tie + f g (both * mean AB + split * mean disagreement)      (+ covariate)

and P(A), P(B), P(tie) are those of the Davidson form (`judge.davidson`), mixed with a little of
what the aggregator says of a battle without evidence, so that nothing is impossible. With `abstain`
1 an NA counts as a vote for nobody; with 0 the criterion is left to the others. d changes its sign
and t stays when A and B are exchanged: the symmetry is exact to the last bit, and so is the
independence of the order of the ballots, because sums are taken of multiples of 2**-40.

A criterion that was not asked about counts as the mean of those that were. A judge that gives a
single verdict has it written under every criterion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.ballots import CRITERIA, VOTES
from judge.davidson import probabilities
from judge.errors import ArenaJudgeError, InputError

Floats = npt.NDArray[np.float64]

COVARIATES = (*CRITERIA, "tie")
# Beyond these a strength is a slip, not a finding: exp(10) to one.
_BOUND = 10.0
_GRAIN = float(1 << 40)


@dataclass(frozen=True)
class Aggregator:
    """How votes are counted; the numbers here are the unfitted ones.

    They were set once, by hand, to keep the hard votes of any judge, however poor, near the prior:
    a single vote moves the odds to 2 to 1, votes that agree in both orders to 2.5 to 1.

    Attributes:
        weights: of the criteria, in the order of `CRITERIA`; they sum to 1.
        temperature: the log-odds of A against B when everything speaks for A without end.
        tie: the tie strength t of a battle that nothing is known of.
        both: how much AB votes add to t.
        split: how much ballots that contradict one another add to t.
        abstain: how much evidence an NA takes away, from 0 (none: the other criteria speak for it)
            to 1 (its criterion's whole weight).
        doubt: how many ballots the distrust of few ballots is worth.
        smoothing: the share of the prior that is mixed in.
        judges: relative weights of the jurors; those not named have 1.
        covariates: weights of the statistical judge's five strengths and its tie strength.
    """

    weights: tuple[float, ...] = (0.2,) * len(CRITERIA)
    temperature: float = 1.4
    tie: float = -0.3
    both: float = 1.0
    split: float = 0.5
    abstain: float = 1.0
    doubt: float = 1.0
    smoothing: float = 0.01
    judges: Mapping[str, float] = field(default_factory=dict)
    covariates: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if not (np.isfinite(value) and low <= value <= high):
                raise ArenaJudgeError(
                    f"aggregator: {name} is {value}, not from {low:g} to {high:g}"
                )
        weights = np.array(self.weights, dtype=np.float64)
        if weights.shape != (len(CRITERIA),) or not (weights >= 0).all():
            raise ArenaJudgeError(f"aggregator: weights are no {len(CRITERIA)} numbers from 0")
        if abs(weights.sum() - 1.0) > 1e-6:
            raise ArenaJudgeError(f"aggregator: weights sum to {weights.sum():.8g}, not to 1")
        if not all(np.isfinite(value) and value >= 0 for value in self.judges.values()):
            raise ArenaJudgeError("aggregator: a juror's weight is no number from 0")
        if self.covariates is not None:
            extra = np.array(self.covariates, dtype=np.float64)
            if extra.shape != (len(COVARIATES),) or not np.isfinite(extra).all():
                raise ArenaJudgeError(f"aggregator: covariates are no {len(COVARIATES)} numbers")

    @property
    def prior(self) -> Floats:
        """(3,) what is said of a battle that has ballots but no evidence."""
        return np.asarray(probabilities(np.zeros(1), np.array([self.tie]))[0])

    def aggregate(
        self, ballots: pd.DataFrame, ids: Sequence[str], covariates: Floats | None = None
    ) -> Floats:
        """(N, 3) probabilities of the battles `ids`, NaN rows where there is no readable ballot.

        Args:
            ballots: a ballot table (see `judge.ballots`); further columns are `part` and `weight`.
                Unreadable ballots have NaN for votes. Ballots of other battles are passed over.
            ids: the battles' ids, N of them.
            covariates: (N, 6) strengths and tie strength of the statistical judge (see
                `COVARIATES`); needed where the aggregator has weights for them.

        Raises:
            ArenaJudgeError: covariates missing, or ballots that belong to several battles.
        """
        return self.count(pool(ballots, ids), covariates)

    def count(self, evidence: Evidence, covariates: Floats | None = None) -> Floats:
        """(N, 3) probabilities from evidence; arguments as for `aggregate`."""
        return self.speak(combine(evidence, self), covariates)

    def speak(self, features: Features, covariates: Floats | None = None) -> Floats:
        """(N, 3) probabilities from what was combined for this aggregator."""
        direction = (features.direction * np.array(self.weights)).sum(axis=1)
        strength = self.temperature * direction
        tie = self.tie + (self.both * features.both + self.split * features.split)
        if self.covariates is not None:
            if covariates is None:
                raise ArenaJudgeError(
                    "this aggregator also needs the statistical judge's strengths"
                )
            extra = np.asarray(covariates, dtype=np.float64) * np.array(self.covariates)
            strength = strength + extra[:, :-1].sum(axis=1)
            tie = tie + extra[:, -1]
        sharp = probabilities(strength, np.clip(tie, -_BOUND, _BOUND))
        proba = (1.0 - self.smoothing) * sharp + self.smoothing * self.prior
        return np.where(features.judged[:, None], proba, np.nan)

    def settings(self) -> dict[str, object]:
        """For a judge.yaml; `from_settings` reads it back to the last digit."""
        found: dict[str, object] = {"weights": dict(zip(CRITERIA, self.weights, strict=True))}
        for name, _, _ in _LIMITS:
            found[name] = getattr(self, name)
        if self.judges:
            found["judges"] = dict(self.judges)
        if self.covariates is not None:
            found["covariates"] = dict(zip(COVARIATES, self.covariates, strict=True))
        return found


_LIMITS = (
    ("temperature", 0.0, 100.0),
    ("tie", -_BOUND, _BOUND),
    ("both", 0.0, 100.0),
    ("split", 0.0, 100.0),
    ("abstain", 0.0, 1.0),
    ("doubt", 0.0, 1000.0),
    ("smoothing", 1e-6, 1.0),
)
UNFITTED = Aggregator()


def aggregate(
    ballots: pd.DataFrame, ids: Sequence[str], aggregator: Aggregator = UNFITTED
) -> Floats:
    """(N, 3) probabilities from ballots, by an unfitted aggregator unless one is given; see
    `Aggregator.aggregate`."""
    return aggregator.aggregate(ballots, ids)


def from_settings(settings: object, *, file: str | Path | None = None) -> Aggregator:
    """The aggregator that a judge.yaml has under `aggregator`; what it does not say is unfitted.

    Raises:
        InputError: a name or number that cannot be.
    """
    if not isinstance(settings, Mapping):
        raise InputError("aggregator is no list of names and numbers", file=file)
    known = {f.name for f in fields(Aggregator)}
    unknown = [str(name) for name in settings if name not in known]
    if unknown:
        mend = f"it may have {', '.join(sorted(known))}"
        raise InputError(f"aggregator has {unknown[0]!r}, which is unknown", file=file, mend=mend)
    values = dict(settings)
    try:
        for name, keys in (("weights", CRITERIA), ("covariates", COVARIATES)):
            if values.get(name) is not None:
                values[name] = tuple(float(values[name][key]) for key in keys)
        for name, _, _ in _LIMITS:
            if name in values:
                values[name] = float(values[name])
        judges = values.get("judges", {})
        values["judges"] = {str(name): float(value) for name, value in judges.items()}
        return Aggregator(**values)
    except ArenaJudgeError as error:
        raise InputError(str(error), file=file) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"aggregator cannot be read ({error!r})", file=file) from None


# --- pooling --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """The ballots of N battles, pooled for each of J judges and each criterion.

    Attributes:
        judges: their names, in order.
        direction: (N, J, 5) mean of P(A) - P(B); NaN where the criterion was not voted on.
        both, abstained: (N, J, 5) mean of P(AB), of P(NA).
        loud: (N, J, 5) mean over ballots of |P(A) - P(B)|, which exceeds |direction| where they
            contradict one another.
        ballots: (N, J, 5) how many there were, the parts of one counting as one.
    """

    judges: tuple[str, ...]
    direction: Floats
    both: Floats
    abstained: Floats
    loud: Floats
    ballots: Floats


@dataclass(frozen=True)
class Features:
    """What speaks in N battles: d is linear in `direction`, t in `both` and `split`.

    Attributes:
        direction: (N, 5).
        both, split: (N,).
        judged: (N,) whether there is a readable ballot.
    """

    direction: Floats
    both: Floats
    split: Floats
    judged: npt.NDArray[np.bool_]


def vote_shares(ballots: pd.DataFrame) -> Floats:
    """(M, 5, 4) the distributions over `VOTES` in a ballot table; NaN where there is no vote. A
    criterion of which the table has the votes alone has them as certainties."""
    shares = np.full((len(ballots), len(CRITERIA), len(VOTES)), np.nan)
    for c, criterion in enumerate(CRITERIA):
        names = [f"{criterion}_{vote}" for vote in VOTES]
        if all(name in ballots.columns for name in names):
            shares[:, c] = ballots[names].to_numpy(dtype=np.float64)
        elif criterion in ballots.columns:
            place = pd.Index(VOTES).get_indexer(pd.Index(ballots[criterion].astype(object)))
            shares[place >= 0, c] = np.eye(len(VOTES))[place[place >= 0]]
    shares[np.isnan(shares).any(axis=2)] = np.nan
    return shares


def pool(ballots: pd.DataFrame, ids: Sequence[str]) -> Evidence:
    """Pools the ballots of the battles `ids`; see `Aggregator.aggregate` for both."""
    index = pd.Index(pd.Series(ids, dtype=object))
    shares = vote_shares(ballots)
    named = ballots["id"].astype(object)
    if not index.is_unique:
        _check_distinct(index, named)
        index_at = {name: place for place, name in enumerate(index)}
        battle = np.array([index_at.get(name, -1) for name in named], dtype=np.int64)
    else:
        battle = np.asarray(index.get_indexer(pd.Index(named)), dtype=np.int64)
    kept = (battle >= 0) & ~np.isnan(shares[..., 0]).all(axis=1)
    judge, names = pd.factorize(ballots["judge"].astype(str), sort=True)
    return _pooled(
        shares[kept],
        _weights(ballots)[kept],
        (battle[kept], np.asarray(judge)[kept], _order(ballots)[kept], _sample(ballots)[kept]),
        (len(index), tuple(map(str, names))),
    )


def _check_distinct(index: pd.Index[str], named: pd.Series[str]) -> None:
    twice = index[index.duplicated()]
    asked = twice.isin(pd.Index(named))
    if asked.any():
        name = str(twice[asked][0])
        raise ArenaJudgeError(
            f"id {name!r} is that of several battles, so nobody can say whose ballots are whose; "
            "give every battle an id of its own"
        )


def _weights(ballots: pd.DataFrame) -> Floats:
    if "weight" not in ballots.columns:
        return np.ones(len(ballots))
    values = ballots["weight"].to_numpy(dtype=np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        raise ArenaJudgeError("a ballot's weight is no number above 0")
    return values


def _order(ballots: pd.DataFrame) -> npt.NDArray[np.int64]:
    """(M,) 0 for AB, 1 for BA, 2 where it is not known."""
    names = ballots["order"].astype(object)
    return np.select([names == "AB", names == "BA"], [0, 1], 2).astype(np.int64)


def _sample(ballots: pd.DataFrame) -> npt.NDArray[np.int64]:
    if "sample" not in ballots.columns:
        return np.zeros(len(ballots), dtype=np.int64)
    return np.asarray(pd.factorize(ballots["sample"])[0], dtype=np.int64)


def _pooled(
    shares: Floats,
    weight: Floats,
    places: tuple[npt.NDArray[np.int64], ...],
    shape: tuple[int, tuple[str, ...]],
) -> Evidence:
    battle, judge, order, sample = places
    battles, names = shape
    direction = shares[..., 0] - shares[..., 1]
    values = np.stack([direction, shares[..., 2], shares[..., 3]])  # (3, M, 5)
    samples = int(sample.max(initial=0)) + 1
    key = ((battle * len(names) + judge) * 3 + order) * samples + sample
    keys, cell = np.unique(key, return_inverse=True)
    heaviest = np.zeros(len(keys))
    np.maximum.at(heaviest, cell, weight)
    values = _means(values, weight / heaviest[cell] if len(cell) else weight, cell, len(keys))
    values = np.concatenate([values, np.abs(values[:1])])  # loud: of the ballot, parts pooled
    heard = ~np.isnan(values[0])
    place = keys // (3 * samples)
    ballots = np.stack(
        [
            np.bincount(place, column, battles * len(names)).astype(np.float64)
            for column in heard.T.astype(np.float64)
        ],
        axis=1,
    )
    keys, cell = np.unique(keys // samples, return_inverse=True)
    values = _means(values, np.ones(len(cell)), cell, len(keys))
    values = _means(values, np.ones(len(keys)), keys // 3, battles * len(names))
    form = (battles, len(names), len(CRITERIA))
    direction, both, abstained, loud = (part.reshape(form) for part in values)
    return Evidence(names, direction, both, abstained, loud, ballots.reshape(form))


def _means(values: Floats, weight: Floats, group: npt.NDArray[np.int64], size: int) -> Floats:
    """Weighted means of (K, M, 5) values over groups of rows, NaN being left out; (K, size, 5).

    Values are rounded to multiples of 2**-40. Their sums are then exact, as long as there are
    fewer than 4,096 in a group, and an exact sum knows no order.
    """
    means = np.full((len(values), size, values.shape[2]), np.nan)
    for c in range(values.shape[2]):
        heard = ~np.isnan(values[0, :, c])
        shares, rows = _rounded(weight[heard]), group[heard]
        total = np.bincount(rows, shares, size)
        for k in range(len(values)):
            sums = np.bincount(rows, _rounded(shares * values[k, heard, c]), size)
            np.divide(sums, total, out=means[k, :, c], where=total > 0)
    return means


def _rounded(values: Floats) -> Floats:
    return np.asarray(np.rint(values * _GRAIN) / _GRAIN)


def combine(evidence: Evidence, aggregator: Aggregator) -> Features:
    """The judges' evidence taken together; of the aggregator only `judges`, `abstain` and `doubt`
    are looked at."""
    juror = np.array([aggregator.judges.get(name, 1.0) for name in evidence.judges])
    asked = ~np.isnan(evidence.direction)
    share = asked * juror[None, :, None]
    # A battle that only jurors of weight 0 have voted on is judged, without evidence.
    total = share.sum(axis=1)
    direction, both, abstained, loud = (
        np.divide(
            (share * np.where(asked, values, 0.0)).sum(axis=1),
            total,
            where=total > 0,
            out=np.zeros_like(total),
        )
        for values in (evidence.direction, evidence.both, evidence.abstained, evidence.loud)
    )
    criteria = asked.any(axis=1)
    number = criteria.sum(axis=1)
    split = np.maximum(loud - np.abs(direction), 0.0)

    def mean(values: Floats) -> Floats:
        sums = np.where(criteria, values, 0.0).sum(axis=1)
        return np.asarray(np.divide(sums, number, where=number > 0, out=np.zeros(len(number))))

    direction = np.where(criteria, direction, mean(direction)[:, None])
    # A juror without weight is no ballot more.
    ballots = mean((evidence.ballots * (juror > 0)[None, :, None]).sum(axis=1))
    heard = 1.0 - mean(abstained)
    scale = np.zeros(len(number))
    some = (ballots > 0) & (heard > 0)
    believed = ballots[some] / (ballots[some] + aggregator.doubt)
    scale[some] = believed * heard[some] ** (aggregator.abstain - 1.0)
    return Features(direction * scale[:, None], mean(both) * scale, mean(split) * scale, number > 0)
