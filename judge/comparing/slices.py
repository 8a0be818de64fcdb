"""How judges do on parts of the battles: by turns, length, language, code, category, model.

Every part is measured as the whole is, on prompts resampled within it. Whoever looks at many parts
finds some that stand out by chance: p-values are corrected for all that were asked for together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.comparing.bootstrap import Means, Tallies, group_codes
from judge.comparing.differences import ALPHA, Difference, holm, more_battles, p_value
from judge.comparing.slicing import Part, parts, slicings
from judge.errors import InputError
from judge.metrics import class_prior, log_loss_rows

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAST = 50


@dataclass(frozen=True)
class JudgeSlice:
    """A judge on a slice.

    Attributes:
        name: of the judge.
        battles: labelled battles of the slice that it judged; `unjudged` are those it left out.
        log_loss: mean, in nats, with its 95 % interval `low` to `high`; NaN where it judged none.
        against_prior: less that of the class prior of all battles, where it judged.
        against_best: less that of the judge that is best over all, where both judged; None for
            itself.
    """

    name: str
    battles: int
    unjudged: int
    log_loss: float
    low: float
    high: float
    against_prior: Difference
    against_best: Difference | None


@dataclass(frozen=True)
class Slice:
    """Judges on a slice of the labelled battles.

    Attributes:
        by, name: what it is a slice by, and which.
        battles, prompts: how many.
        pooled: names of the slices that were too small for a row of their own.
        prior: log loss of the class prior of all battles.
        scores: one a judge.
    """

    by: str
    name: str
    battles: int
    prompts: int
    pooled: tuple[str, ...]
    prior: float
    scores: tuple[JudgeSlice, ...]


@dataclass(frozen=True)
class Slices:
    """Judges on all slices that were asked for.

    Attributes:
        slices: in the order asked for.
        best: the judge that the others are compared with.
        least: slices of fewer battles were pooled.
        tests: how many differences the p-values are corrected for: those against the prior, and
            apart from them those against the best judge.
        alone: what the battles were not sliced by, since all are alike, with the one name there is.
        small: what they were not sliced by, since each slice is too small, with how many there are.
    """

    slices: tuple[Slice, ...]
    best: str
    least: int
    tests: tuple[int, int]
    alone: tuple[tuple[str, str], ...]
    small: tuple[tuple[str, int], ...]

    def to_frame(self) -> pd.DataFrame:
        """A row for each judge and slice."""
        nothing = Difference(*[float("nan")] * 4)
        rows = []
        for part in self.slices:
            for score in part.scores:
                row: dict[str, object] = {"by": part.by, "slice": part.name}
                row |= {"judge": score.name, "battles": score.battles, "prompts": part.prompts}
                row |= {"unjudged": score.unjudged, "log_loss": score.log_loss}
                row |= {"low": score.low, "high": score.high}
                for name in ("against_prior", "against_best"):
                    gap = asdict(getattr(score, name) or nothing)
                    row[name] = gap.pop("value")
                    row |= {f"{name}_{key}": value for key, value in gap.items()}
                rows.append(row)
        return pd.DataFrame(rows)


def compare_slices(
    labels: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    facts: pd.DataFrame,
    *,
    best: str,
    groups: npt.ArrayLike,
    by: Sequence[str] = (),
    least: int = LEAST,
    rounds: int = 2000,
    seed: int = 0,
) -> Slices:
    """Measures judges on slices of the same battles.

    Args:
        labels: (N, 3), NaN rows unlabelled.
        predictions: (N, 3) of each judge, NaN rows unjudged.
        facts: of the battles, see `judge.comparing.facts`.
        best: the judge that the others are compared with.
        groups: (N,) equal for battles about the same prompt.
        by: what to slice by (see `judge.comparing.slicing`); empty takes all that the battles have.
        least: slices of fewer labelled battles are pooled.
        rounds, seed: of the bootstrap.

    Raises:
        InputError: nothing is known of the battles to slice by.
    """
    said = np.asarray(labels, dtype=np.float64)
    kept = ~np.isnan(said).any(axis=1)
    y, prompts = said[kept], np.asarray(groups)[kept]
    prior = np.tile(class_prior(y), (len(y), 1))
    losses = {name: _losses(y, np.asarray(p, np.float64)[kept]) for name, p in predictions.items()}
    reference = log_loss_rows(y, prior)
    found, alone, small = _asked(facts.iloc[np.flatnonzero(kept)].reset_index(drop=True), by, least)
    measured = [
        _measured(part, losses, reference, best, prompts, rounds=rounds, seed=seed)
        for part in found
    ]
    to_prior = _differences([gap for one in measured for gap in one.to_prior.values()])
    to_best = _differences([gap for one in measured for gap in one.to_best.values()])
    gaps = (iter(to_prior), iter(to_best))
    return Slices(
        tuple(_slice(one, *gaps) for one in measured),
        best,
        least,
        (len(to_prior), len(to_best)),
        tuple(alone),
        tuple(small),
    )


def _asked(
    facts: pd.DataFrame, by: Sequence[str], least: int
) -> tuple[list[Part], list[tuple[str, str]], list[tuple[str, int]]]:
    """The slices, what has but one, and what has none that is large enough."""
    found, alone, small = [], [], []
    for name in by or slicings():
        try:
            here = parts(facts, name, least)
        except InputError:
            if by:
                raise
            continue  # nobody asked for it by its name
        if len(here) > 1:
            found += here
        elif here[0].pooled:
            small.append((name, len(here[0].pooled)))
        else:
            alone.append((name, here[0].name))
    return found, alone, small


def _losses(y: Floats, proba: Floats) -> Floats:
    """(N,) NaN where unjudged."""
    judged = ~np.isnan(proba).any(axis=1)
    loss = np.full(len(y), np.nan)
    if judged.any():
        loss[judged] = log_loss_rows(y[judged], proba[judged])
    return loss


@dataclass(frozen=True)
class _Gap:
    """A mean difference that is still to be tested, the prompts and battles it is over."""

    value: float
    error: float
    low: float
    high: float
    prompts: int
    battles: int


@dataclass(frozen=True)
class _Measured:
    """A slice before its differences are tested; by judge."""

    part: Part
    prompts: int
    prior: float
    own: dict[str, _Gap]
    to_prior: dict[str, _Gap]
    to_best: dict[str, _Gap]


def _measured(
    part: Part,
    losses: Mapping[str, Floats],
    reference: Floats,
    best: str,
    prompts: npt.NDArray[np.generic],
    *,
    rounds: int,
    seed: int,
) -> _Measured:
    tallies = Tallies(group_codes(prompts[part.rows]))
    prior = reference[part.rows]
    own = {name: loss[part.rows] for name, loss in losses.items()}
    # Differences are summed as differences: judges that agree then differ by exactly zero.
    columns = [
        own,
        {name: loss - prior for name, loss in own.items()},
        {name: loss - own[best] for name, loss in own.items() if name != best},
    ]
    places = [
        {name: tallies.add(np.nan_to_num(c), ~np.isnan(c)) for name, c in column.items()}
        for column in columns
    ]
    means = tallies.means(rounds=rounds, seed=seed)
    found = [
        {name: _gap(means, at, int((~np.isnan(column[name])).sum())) for name, at in place.items()}
        for column, place in zip(columns, places, strict=True)
    ]
    return _Measured(part, tallies.number, float(prior.mean()), *found)


def _gap(means: Means, at: int, battles: int) -> _Gap:
    value, error = float(means.value[at]), float(means.error[at])
    low, high = float(means.low[at]), float(means.high[at])
    return _Gap(value, error, low, high, int(means.prompts[at]), battles)


def _differences(gaps: Sequence[_Gap]) -> list[Difference]:
    """All of them, tested together."""
    alone = [p_value(gap.value, gap.error, gap.low, gap.high, gap.prompts) for gap in gaps]
    found = []
    for gap, one, corrected in zip(gaps, alone, holm(alone), strict=True):
        more = 0.0
        if not corrected < ALPHA:
            more = more_battles(gap.value, gap.error, gap.battles, len(gaps))
        found.append(Difference(gap.value, gap.low, gap.high, one, corrected, gap.error, more))
    return found


def _slice(
    measured: _Measured, to_prior: Iterator[Difference], to_best: Iterator[Difference]
) -> Slice:
    battles = int(measured.part.rows.sum())
    against_prior = {name: next(to_prior) for name in measured.to_prior}
    against_best = {name: next(to_best) for name in measured.to_best}
    scores = [
        JudgeSlice(
            name,
            own.battles,
            battles - own.battles,
            own.value,
            own.low,
            own.high,
            against_prior[name],
            against_best.get(name),
        )
        for name, own in measured.own.items()
    ]
    part = measured.part
    return Slice(
        part.by,
        part.name,
        battles,
        measured.prompts,
        part.pooled,
        measured.prior,
        tuple(scores),
    )
