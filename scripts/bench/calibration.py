"""Measures calibration on votes that real LLM judges gave, and prints Markdown.

    python -m scripts.bench.calibration --data FOLDER [--seed 0]

FOLDER has `recorded/judge_votes.parquet` and the labelled battles that its column `battles` names.
For each judge and set: the class prior of these very labels and one that was learned without the
prompt it is measured on; the votes as the unfitted aggregator counts them; and the same calibrated,
by the method that `arena-judge calibrate` chooses, fitted without the prompt it is measured on,
with a look at the battles and without.
Intervals are 95 %, over prompts. The calibration error is that of the largest probability in 15
bins; its interval is a percentile bootstrap over prompts, which a small error lies at the lower end
of, since resampling adds error of its own. "Of 10 seeds" says how often the method chosen was this
one. The last columns have temperature and bias whatever is chosen, with folds of prompts and with
folds of battles: prompts differ in how often they end in a tie, so where there are few of them,
thirteen in one set, what was learned from some says little of the others, however many battles.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.aggregation import aggregate
from judge.battles import labels as labels_of
from judge.battles import read_battles
from judge.calibration import Calibration, calibrate
from judge.calibration.covariates import covariates_of
from judge.choosing import Gap, cross_fit, mean_loss, paired_gap
from judge.metrics import calibration_error, log_loss, log_loss_rows
from judge.recorded import read_judgments
from scripts.bench.report import setting, table

VOTES = Path("recorded") / "judge_votes.parquet"
ROUNDS, SEEDS = 300, 10
PLAIN = "temperature+bias"
HEADER = (
    "set",
    "judge",
    "battles",
    "prompts",
    "class prior",
    "prior, out of fold",
    "unfitted",
    "method",
    "of 10 seeds",
    "temperature",
    "calibrated, out of fold, 95 %",
    "less the prior, out of fold, 95 %",
    "without a look at the battles",
    "ECE before",
    "ECE after, 95 %",
    f"{PLAIN}, new prompts",
    "ECE",
    f"{PLAIN}, known prompts",
    "ECE",
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Votes:
    """What one judge said of one set: (N, 3) labels and probabilities, (N,) prompts, (N, 27) what
    a calibrator may look at in the battles."""

    battles: str
    judge: str
    labels: Floats
    proba: Floats
    prompts: Ints
    context: Floats


def recorded(data: Path) -> Iterator[Votes]:
    """Every judge on every set, counted by the unfitted aggregator; the unreadable left out."""
    ballots = read_judgments(data / VOTES)
    sets = pd.read_parquet(data / VOTES, columns=["battles"])["battles"].unique()
    for name in sorted(sets):
        battles = read_battles(data / f"{name}.parquet")
        labels = labels_of(battles)
        if labels is None:
            raise SystemExit(f"{name} has no labels")
        prompts, context = pd.factorize(battles["prompt"])[0], covariates_of(battles)
        here = ballots[ballots["id"].isin(battles["id"])]
        for judge in sorted(here["judge"].unique()):
            proba = aggregate(here[here["judge"] == judge], battles["id"].tolist())
            kept = ~np.isnan(proba).any(axis=1)
            yield Votes(name, judge, labels[kept], proba[kept], prompts[kept], context[kept])


def prior_rows(votes: Votes, folds: int, seed: int) -> Floats:
    """(N,) the log loss of the class prior of the other folds, over the deals that calibration
    has."""

    def learner(rows: Ints):  # type: ignore[no-untyped-def]
        prior = votes.labels[rows].mean(axis=0)
        return lambda others: np.tile(prior, (len(others), 1))

    said = cross_fit({"prior": learner}, votes.prompts, folds, seed)
    return mean_loss(votes.labels, said["prior"])


def error_interval(votes: Votes, proba: Floats, seed: int) -> tuple[float, float]:
    """95 % of the calibration error, resampling prompts."""
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(votes.prompts == code) for code in np.unique(votes.prompts)]
    drawn = []
    for _ in range(ROUNDS):
        rows = np.concatenate(
            [members[k] for k in generator.integers(len(members), size=len(members))]
        )
        drawn.append(calibration_error(votes.labels[rows], proba[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def row(votes: Votes, seed: int) -> list[str]:
    """The figures of one judge on one set, as cells."""
    found = _calibrated(votes, seed)
    method = found.calibrator.method
    chosen = Counter(_calibrated(votes, s).calibrator.method for s in range(SEEDS))
    own = log_loss_rows(votes.labels, found.proba)
    level = paired_gap(own, np.zeros(len(own)), votes.prompts)
    prior = prior_rows(votes, found.folds, seed)
    best = np.tile(votes.labels.mean(axis=0), (len(own), 1))
    low, high = error_interval(votes, found.proba, seed)
    blind = calibrate(votes.labels, votes.proba, votes.prompts, seed=seed)
    plain = [
        calibrate(votes.labels, votes.proba, groups, method=PLAIN, seed=seed).proba
        for groups in (votes.prompts, None)
    ]
    return [
        votes.battles,
        votes.judge,
        f"{len(own):,}",
        f"{found.prompts:,}",
        f"{log_loss(votes.labels, best):.4f}",
        f"{prior.mean():.4f}",
        f"{log_loss(votes.labels, votes.proba):.4f}",
        method,
        f"{chosen[method]}",
        f"{found.temperature:.2f}",
        _spread(level, ".4f"),
        _spread(paired_gap(own, prior, votes.prompts), "+.4f"),
        f"{log_loss(votes.labels, blind.proba):.4f}",
        f"{calibration_error(votes.labels, votes.proba):.3f}",
        f"{calibration_error(votes.labels, found.proba):.3f} ({low:.3f} to {high:.3f})",
        *(
            f"{measure(votes.labels, proba):{form}}"
            for proba in plain
            for measure, form in ((log_loss, ".4f"), (calibration_error, ".3f"))
        ),
    ]


def _calibrated(votes: Votes, seed: int) -> Calibration:
    return calibrate(votes.labels, votes.proba, votes.prompts, context=votes.context, seed=seed)


def _spread(gap: Gap, form: str) -> str:
    return f"{gap.value:{form}} ({gap.low:{form}} to {gap.high:{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(setting("scripts.bench.calibration"), end="\n\n")
    print(table(HEADER, [row(votes, arguments.seed) for votes in recorded(arguments.data)]))


if __name__ == "__main__":
    main()
