"""Measures the aggregation of votes on replies that real LLM judges gave, and prints Markdown.

    python -m scripts.bench.recorded --data FOLDER [--seed 0]

FOLDER has `recorded/judge_votes.parquet` and the labelled battles that its column `battles` names.
For each judge and set: what its hard votes cost when they are taken for probabilities of nearly 0
and 1 (`CLIP` for the two outcomes not voted for), the unfitted aggregator, one that was fitted and
chosen without the battles about the prompt it is measured on, and the same with the statistical
judge's strengths as covariates. Unreadable votes are left out everywhere; where both orders were
asked for, the hard vote is that of order AB.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.aggregation import aggregate, vote_shares
from judge.aggregation_fitting import fit_aggregator
from judge.battles import labels as labels_of
from judge.battles import read_battles
from judge.comparison import Comparison, JudgeScore, compare
from judge.consistency import Consistency, report_consistency
from judge.judges.covariates import shipped_statistical, statistical_covariates
from judge.recorded import read_judgments

CLIP = 1e-7
VOTES = Path("recorded") / "judge_votes.parquet"
HEADER = (
    "set",
    "judge",
    "battles",
    "class prior",
    "hard votes",
    "unfitted",
    "fitted, cross-validated",
    "less the class prior's [95 %]",
    "prior without sides, out of fold",
    "with covariates",
    "accuracy",
    "orders agree",
    "position bias",
    "unreadable",
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One judge on one set."""

    battles: str
    judge: str
    result: Comparison
    word: Consistency
    penalty: float

    def score(self, name: str) -> JudgeScore:
        return next(score for score in self.result.scores if score.name == name)


def hard_votes(ballots: pd.DataFrame, ids: Sequence[str]) -> Floats:
    """(N, 3) the votes of order AB as probabilities of nearly 0 and 1; NaN where unreadable."""
    first = ballots[ballots["order"] == "AB"]
    shares = vote_shares(first)[:, 0]
    sure = np.where(shares[:, :3] > 0.5, 1.0 - 2 * CLIP, CLIP)
    sure[np.isnan(shares[:, 0])] = np.nan
    table = pd.DataFrame(sure, index=first["id"].to_numpy())
    return table.reindex(pd.Index(ids)).to_numpy()


def sideless_prior(labels: Floats, prior: Floats) -> Floats:
    """(N, 3) cross-fitted class priors with the mean of A and B for both."""
    even = (prior[:, 0] + prior[:, 1]) / 2
    return np.column_stack([even, even, prior[:, 2]])


def measure(battles: pd.DataFrame, ballots: pd.DataFrame, name: str, seed: int) -> Measured:
    """One judge's ballots on one set."""
    labels = labels_of(battles)
    if labels is None:
        raise SystemExit(f"{name} has no labels")
    ids = battles["id"].tolist()
    prompts = pd.factorize(battles["prompt"])[0]
    fitted = fit_aggregator(ballots, ids, labels, prompts, seed=seed)
    extra = statistical_covariates(shipped_statistical(), battles)
    proba = {
        "hard": hard_votes(ballots, ids),
        "unfitted": aggregate(ballots, ids),
        "fitted": fitted.proba,
        "prior": sideless_prior(labels, fitted.prior),
        "covariates": fit_aggregator(ballots, ids, labels, prompts, extra, seed=seed).proba,
    }
    result = compare(labels, proba, groups=prompts, seed=seed)
    judge = str(ballots["judge"].iloc[0])
    return Measured(name, judge, result, report_consistency(ballots), fitted.penalty)


def row(found: Measured) -> list[str]:
    """The figures of one judge on one set, as cells."""
    fitted, prior, word = found.score("fitted"), found.result.scores[0], found.word
    gap = fitted.against_prior
    less = "-" if gap is None else f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    bias = f"{word.position_bias:+.3f} [{word.low:+.3f}, {word.high:+.3f}]" if word.pairs else "-"
    return [
        found.battles,
        found.judge,
        f"{fitted.battles:,}",
        f"{prior.log_loss:.4f}",
        f"{found.score('hard').log_loss:.2f}",
        f"{found.score('unfitted').log_loss:.4f}",
        f"{fitted.log_loss:.4f} [{fitted.low:.4f}, {fitted.high:.4f}]"
        + (" (the prior)" if np.isinf(found.penalty) else ""),
        less,
        f"{found.score('prior').log_loss:.4f}",
        f"{found.score('covariates').log_loss:.4f}",
        f"{fitted.accuracy:.3f}",
        f"{word.order_consistency:.1%} of {word.pairs}" if word.pairs else "-",
        bias,
        f"{word.unreadable_rate:.1%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    ballots = read_judgments(arguments.data / VOTES)
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    sets = pd.read_parquet(arguments.data / VOTES, columns=["battles"])["battles"].unique()
    for name in sorted(sets):
        battles = read_battles(arguments.data / f"{name}.parquet")
        here = ballots[ballots["id"].isin(battles["id"])]
        for judge in sorted(here["judge"].unique()):
            found = measure(battles, here[here["judge"] == judge], name, arguments.seed)
            print(f"| {' | '.join(row(found))} |", flush=True)


if __name__ == "__main__":
    main()
