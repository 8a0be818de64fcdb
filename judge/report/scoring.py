"""The page of `arena-judge score`: what a judge said of a file of battles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.ballots import CRITERIA, VOTES
from judge.comparing.reliability import reliability as reliability_curves
from judge.metrics import CLASSES, calibration_error, class_prior, log_loss
from judge.report.charts import Chart, Row, forest, histogram, reliability, stacked
from judge.report.comparing import curve_points
from judge.report.drawing import number
from judge.report.page import Fact, Page, Section

Floats = npt.NDArray[np.float64]

_BINS = 20
_MOST_REASONS = 12
NAN = float("nan")


class Scored:
    """What the page needs, gathered batch by batch: three numbers a battle and sums of votes."""

    def __init__(self) -> None:
        self._proba: list[Floats] = []
        self._labels: list[Floats] = []
        self.reasons: dict[str, int] = {}
        self.votes = np.zeros((len(CRITERIA), len(VOTES)))
        self.ballots = np.zeros(len(CRITERIA))

    def add(
        self,
        proba: Floats,
        labels: Floats | None,
        reasons: Mapping[int, str],
        ballots: pd.DataFrame | None,
    ) -> None:
        """Takes in a batch: (N, 3) probabilities and labels, reasons by place, its ballots."""
        self._proba.append(proba)
        self._labels.append(np.full_like(proba, np.nan) if labels is None else labels)
        for reason in reasons.values():
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if ballots is not None:
            for place, name in enumerate(CRITERIA):
                shares = ballots[[f"{name}_{vote}" for vote in VOTES]].to_numpy(dtype=np.float64)
                read = ~np.isnan(shares).any(axis=1)
                self.votes[place] += shares[read].sum(axis=0)
                self.ballots[place] += read.sum()

    @property
    def proba(self) -> Floats:
        """(N, 3), NaN rows unjudged."""
        return np.concatenate(self._proba) if self._proba else np.empty((0, 3))

    @property
    def labels(self) -> Floats:
        """(N, 3), NaN rows unlabelled."""
        return np.concatenate(self._labels) if self._labels else np.empty((0, 3))


def score_page(
    scored: Scored,
    *,
    judge: str,
    source: str,
    words: Sequence[str] = (),
    origin: Sequence[str] = (),
) -> Page:
    """What a judge said.

    Args:
        scored: of all battles.
        judge: its name.
        source: what the battles are called.
        words: the summary, a sentence each.
        origin: how the page was made, a line each.
    """
    proba, labels = scored.proba, scored.labels
    judged = ~np.isnan(proba).any(axis=1)
    sections = [Section("Summary", tuple(words))]
    if judged.any():
        sections.append(_said(proba[judged]))
    if scored.ballots.any():
        sections.append(_votes(scored))
    both = judged & ~np.isnan(labels).any(axis=1)
    if both.any():
        sections.append(_measured(labels[both], proba[both]))
    if not judged.all():
        sections.append(_unjudged(scored.reasons))
    mean = proba[judged].mean(axis=0) if judged.any() else np.full(3, np.nan)
    facts = [
        Fact("battles", f"{len(proba):,}", f"{int((~judged).sum()):,} unjudged"),
        *(
            Fact(f"mean P({name})", number(float(value), 3))
            for name, value in zip(CLASSES, mean, strict=True)
        ),
    ]
    if both.any():
        prior = np.tile(class_prior(labels[both]), (int(both.sum()), 1))
        loss, constant = log_loss(labels[both], proba[both]), log_loss(labels[both], prior)
        facts.append(Fact("log loss", number(loss), f"class prior {number(constant)}"))
    lead = f"What {judge} says of {len(proba):,} battles."
    return Page(f"{source} judged by {judge}", lead, tuple(facts), tuple(sections), tuple(origin))


def _said(proba: Floats) -> Section:
    top = proba.max(axis=1)
    verdict = np.bincount(proba.argmax(axis=1), minlength=3) / len(proba)
    edges = np.linspace(1 / 3, 1, _BINS + 1)
    counts = np.histogram(np.clip(top, edges[0], 1), bins=edges)[0]
    lean = np.histogram(proba[:, 0] - proba[:, 1], bins=np.linspace(-1, 1, _BINS + 1))[0]
    charts = (
        stacked(
            "Verdicts and probabilities",
            "How often each outcome is the most probable one, and the mean of its probability.",
            [("most probable", verdict.tolist()), ("on average", proba.mean(axis=0).tolist())],
            CLASSES,
        ),
        histogram(
            "How sure the judge is",
            "The probability of the most probable outcome; a third is no idea at all.",
            edges.tolist(),
            counts.tolist(),
            "largest probability",
        ),
        histogram(
            "Which side it leans to",
            "Were A and B shown in random order, both halves would be alike.",
            np.linspace(-1, 1, _BINS + 1).tolist(),
            lean.tolist(),
            "P(A) less P(B)",
        ),
    )
    return Section("What it says", (), charts)


def _votes(scored: Scored) -> Section:
    shares = scored.votes / np.maximum(scored.ballots, 1)[:, None]
    rows = [
        (name.replace("_", " "), row)
        for name, row, count in zip(CRITERIA, shares.tolist(), scored.ballots, strict=True)
        if count
    ]
    chart = stacked(
        "Votes by criterion",
        "A or B is better, AB both alike, NA cannot be said. Criteria that look the same may be "
        "one judgement said five times.",
        rows,
        VOTES,
    )
    return Section("How it votes", (), (chart,))


def _measured(labels: Floats, proba: Floats) -> Section:
    curves = reliability_curves(labels, proba)
    chart = reliability(
        "Does it keep its word?",
        f"Calibration error {number(calibration_error(labels, proba), 3)} on {len(labels):,} "
        "labelled battles; on the diagonal what was called 70 % came true 70 times in a hundred.",
        [(curve.of, curve_points(curve)) for curve in curves],
    )
    return Section("Against the labels", (), (chart,))


def _unjudged(reasons: Mapping[str, int]) -> Section:
    most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:_MOST_REASONS]
    chart: Chart = forest(
        "Why battles are unjudged",
        "The most frequent reasons; the list beside the predictions has each battle.",
        [Row(reason, count, NAN, NAN) for reason, count in most],
        "battles",
        reference=(0.0, ""),
        digits=0,
    )
    return Section("Unjudged", (), (chart,))
