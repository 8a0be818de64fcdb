"""A board of models: scores, what is sure of them, and everything a chart of them needs.

Scores are on Elo's scale: 400 points are odds of ten to one. The average of the models is 1000,
or one model is fixed at a score of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SCALE = 400.0 / float(np.log(10.0))
MEAN = 1000.0


@dataclass(frozen=True)
class LeftOut:
    """Battles that no board can count, each under the first that fits.

    Attributes:
        unnamed: without the name of one model or both.
        own: of a model with itself.
        unjudged: without a verdict: unjudged by the judge, or unlabelled.
    """

    unnamed: int
    own: int
    unjudged: int


@dataclass(frozen=True)
class StyleEffect:
    """What style alone does to a verdict.

    Attributes:
        name: of the difference between the responses (see `judge.leaderboard.style`).
        value: log-odds of winning for one standard deviation of it; `low` to `high` is its 95 %
            interval.
        score: the same on the board's scale.
        deviation: the standard deviation of the difference, about zero.
    """

    name: str
    value: float
    low: float
    high: float
    score: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """M models by strength, best first; where there are islands, the largest first.

    Attributes:
        name: whose verdicts these are: "labels" or a judge's name.
        models: their names as the file has them, which may be hostile.
        scores: (M,) with their 95 % intervals `low` to `high`, NaN from a single prompt.
        covariance: (M, M) of the scores by the sandwich formula, clustered by prompt; `errors` are
            the standard errors.
        ranks: (M,) by score within the island; from `rank_low` to `rank_high` cannot be ruled out.
        win_probability: (M,) expected share won against each other model of the island in turn, a
            tie counting half.
        islands: (M,) from 1; scores on different islands cannot be compared.
        battles, won, tied: (M, M) battles of each pair, those (or the shares of them) that the row
            won, and those tied.
        better: (M, M) whether the row is better than the column: the 95 % interval of the paired
            difference is above zero, without regard to how many pairs there are.
        tiers: names of neighbours of whom none can be told from another.
        style: effects held constant; empty on a plain board. `constant` are those that could not be
            measured since all responses are alike in them.
        samples: (R, M) scores in each round of the bootstrap; R is 0 without one.
        counted: battles on the board, about so many `prompts`; `left_out` were not.
        anchor: the model at a fixed score, and that score; None for a mean of 1000.
        prior, intervals, rounds, seed: as they were asked for.
    """

    name: str
    models: tuple[str, ...]
    scores: Floats
    low: Floats
    high: Floats
    covariance: Floats
    ranks: Ints
    rank_low: Ints
    rank_high: Ints
    win_probability: Floats
    islands: Ints
    battles: Floats
    won: Floats
    tied: Floats
    better: Bools
    tiers: tuple[tuple[str, ...], ...]
    style: tuple[StyleEffect, ...]
    constant: tuple[str, ...]
    samples: Floats
    counted: int
    prompts: int
    left_out: LeftOut
    anchor: tuple[str, float] | None
    prior: float
    intervals: str
    rounds: int
    seed: int

    @property
    def errors(self) -> Floats:
        """(M,) standard errors of the scores by the sandwich formula, NaN from a single prompt."""
        return np.asarray(np.sqrt(np.maximum(np.diag(self.covariance), 0.0)))

    @property
    def win_rates(self) -> Floats:
        """(M, M) the share of its battles with the column that the row won, a tie counting half;
        NaN where they never met."""
        with np.errstate(invalid="ignore"):
            return np.asarray((self.won + self.tied / 2) / self.battles)

    def to_frame(self) -> pd.DataFrame:
        """One row a model, best first."""
        battles, won = self.battles.sum(axis=1), self.won.sum(axis=1)
        tied = self.tied.sum(axis=1)
        return pd.DataFrame(
            {
                "model": pd.Series(self.models, dtype=object),
                "rank": self.ranks,
                "rank_low": self.rank_low,
                "rank_high": self.rank_high,
                "score": self.scores,
                "low": self.low,
                "high": self.high,
                "standard_error": self.errors,
                "win_probability": self.win_probability,
                "battles": battles.astype(np.int64),
                "won": won,
                "tied": tied,
                "lost": np.maximum(battles - won - tied, 0.0),
                "win_rate": (won + tied / 2) / battles,
                "island": self.islands,
            }
        )

    def to_dict(self) -> dict[str, object]:
        """Everything but the samples, in lists and numbers that JSON has words for but NaN."""
        plain: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            plain[field.name] = value.tolist() if isinstance(value, np.ndarray) else value
        del plain["samples"]
        plain["errors"] = self.errors.tolist()
        plain["win_rates"] = self.win_rates.tolist()
        plain["style"] = [vars(effect) for effect in self.style]
        plain["left_out"] = vars(self.left_out)
        return plain


def win_probabilities(scores: Floats, island: Ints) -> Floats:
    """(M,) the mean over the other models of the island of P(win) + P(tie) / 2."""
    gap = (scores[:, None] - scores) / SCALE
    chance = 0.5 + 0.5 * np.tanh(0.5 * gap)
    others = (island[:, None] == island) & ~np.eye(len(scores), dtype=bool)
    return np.asarray((chance * others).sum(axis=1) / others.sum(axis=1))
