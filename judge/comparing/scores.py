"""What a comparison of judges comes to: one row a judge, and how the rows differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from judge.comparing.differences import Difference, Pair
from judge.comparing.reliability import Curve
from judge.metrics import CLASSES

if TYPE_CHECKING:
    from judge.consistency import Consistency

NAN = float("nan")

Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Interval:
    """A 95 % bootstrap interval, clustered by prompt; NaN with one prompt."""

    low: float
    high: float


@dataclass(frozen=True)
class Effort:
    """What a battle takes a judge, as measured; NaN where that is not known.

    Attributes:
        seconds: of one thread, or of one battle after the other where a model is asked.
        cost: dollars, at the prices that the calls were made at.
    """

    seconds: float = NAN
    cost: float = NAN


@dataclass(frozen=True)
class JudgeScore:
    """One judge, measured on the labelled battles it judged; NaN for what cannot be said.

    Attributes:
        name: the judge's name.
        battles: labelled battles it judged; `unjudged` are those it left out.
        log_loss: mean, in nats, with its 95 % interval `low` to `high`.
        brier, ranked_probability, accuracy, decided_accuracy: see `judge.metrics`.
        macro_f1, kappa, alpha: agreement of verdicts and labels, see `judge.comparing.agreement`.
        calibration_error: of the verdict in bins of equal width; `..._adaptive` in bins of equally
            many battles, `..._classwise` the mean over A, B and tie; `..._by_chance` is what a
            judge without fault could expect on as many battles.
        entropy, confidence: sharpness: mean entropy in nats, mean of the largest probability.
        lean: mean P(A) - P(B) less the same of the labels.
        length_correlation: Spearman's, of P(A) - P(B) with how much longer A is than B.
        confusion: (3, 3) battles by label (rows) and verdict, in the order A, B, tie.
        reliability: curves of the verdict, of A, of B, of a tie.
        intervals: 95 % intervals of the means above, by name.
        against_prior, against_best: paired differences; None for the row that is itself that one,
            and for a judge that judged nothing.
        order: what its ballots say of it, where it fills in any.
        effort: time and cost of a battle, where known.
    """

    name: str
    battles: int
    unjudged: int
    log_loss: float = NAN
    low: float = NAN
    high: float = NAN
    brier: float = NAN
    ranked_probability: float = NAN
    accuracy: float = NAN
    decided_accuracy: float = NAN
    macro_f1: float = NAN
    kappa: float = NAN
    alpha: float = NAN
    calibration_error: float = NAN
    calibration_error_adaptive: float = NAN
    calibration_error_classwise: float = NAN
    calibration_error_by_chance: float = NAN
    entropy: float = NAN
    confidence: float = NAN
    lean: float = NAN
    length_correlation: float = NAN
    confusion: Matrix = ((0.0, 0.0, 0.0),) * 3
    reliability: tuple[Curve, ...] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    against_prior: Difference | None = None
    against_best: Difference | None = None
    order: Consistency | None = None
    effort: Effort = Effort()


@dataclass(frozen=True)
class Comparison:
    """Judges compared on the same labelled battles.

    Attributes:
        scores: the class prior first, then the judges, least log loss on the common battles first;
            at the end those that judged nothing.
        best: name of the judge with the least log loss on the common battles.
        battles: labelled battles; `unlabelled` were left out.
        common: battles that every judge judged, on which differences are taken; a judge that
            judged none at all has no say in it.
        prompts: groups the bootstrap resampled; `common_prompts` have common battles.
        prior: the mean label, which the class prior predicts for every battle.
        rounds, seed: of the bootstrap.
        pairs: every two judges, the one with less log loss first; tested together.
        together: runs of judges, by rising log loss, no two of which can be told apart.
        held_back_by: the judge without which there would be at least twice as many common
            battles, and how many; None where there is none.
        length_correlation: Spearman's, of the labels with how much longer A is than B: what that
            of the judges is to be measured by.
    """

    scores: tuple[JudgeScore, ...]
    best: str
    battles: int
    unlabelled: int
    common: int
    prompts: int
    common_prompts: int
    prior: tuple[float, float, float]
    rounds: int
    seed: int
    pairs: tuple[Pair, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    held_back_by: tuple[str, int] | None = None
    length_correlation: float = NAN

    def to_frame(self) -> pd.DataFrame:
        """One row a judge: its figures, `..._low` and `..._high` beside those that have an
        interval, differences as `against_prior`, `against_prior_low`, ..., battles by label and
        verdict as `label_a_verdict_b`, .... Curves are in `curves`."""
        return pd.DataFrame([_flat(score) for score in self.scores])

    def curves(self) -> pd.DataFrame:
        """The reliability curves: one row a bin, with `judge` and `of`."""
        rows = [
            {"judge": score.name, "of": curve.of, **asdict(one)}
            for score in self.scores
            for curve in score.reliability
            for one in curve.bins
        ]
        return pd.DataFrame(
            rows, columns=["judge", "of", "battles", "probability", "frequency", "low", "high"]
        )

    def pair_frame(self) -> pd.DataFrame:
        """One row for every two judges."""
        names = list(Difference.__dataclass_fields__)
        rows = [
            {"first": pair.first, "second": pair.second, **asdict(pair.difference)}
            for pair in self.pairs
        ]
        return pd.DataFrame(rows, columns=["first", "second", *names])


def _flat(score: JudgeScore) -> dict[str, object]:
    row: dict[str, object] = {}
    for name in JudgeScore.__dataclass_fields__:
        value = getattr(score, name)
        if name in ("against_prior", "against_best"):
            difference = asdict(value or Difference(NAN, NAN, NAN, NAN))
            row[name] = difference.pop("value")
            row |= {f"{name}_{key}": item for key, item in difference.items()}
        elif name == "confusion":
            for label, verdicts in zip(CLASSES, value, strict=True):
                for verdict, battles in zip(CLASSES, verdicts, strict=True):
                    row[f"label_{label.lower()}_verdict_{verdict.lower()}"] = battles
        elif name == "order":
            row["order_consistency"] = NAN if value is None else value.order_consistency
            row["position_bias"] = NAN if value is None else value.position_bias
            row["position_bias_low"] = NAN if value is None else value.low
            row["position_bias_high"] = NAN if value is None else value.high
        elif name == "effort":
            row["seconds_a_battle"], row["cost_a_battle"] = value.seconds, value.cost
        elif name not in ("reliability", "intervals"):
            row[name] = value
            if name in score.intervals:
                row[f"{name}_low"] = score.intervals[name].low
                row[f"{name}_high"] = score.intervals[name].high
    return row
