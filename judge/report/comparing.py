"""The page of `arena-judge compare`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from judge.comparing.verdicts import notes, verdicts
from judge.metrics import CLASSES
from judge.report.charts import Chart, Point, Row, Series, Table, forest, grid, lines, reliability
from judge.report.drawing import number
from judge.report.page import Fact, Page, Section

if TYPE_CHECKING:
    from judge.comparing.ceiling import Ceiling
    from judge.comparing.covering import Covered
    from judge.comparing.reliability import Curve
    from judge.comparing.scores import Comparison, JudgeScore
    from judge.comparing.slices import Slices
    from judge.report.leaning import Lean

_MOST_DIAGRAMS = 12  # judges whose curves are drawn; all are in `--json`


def comparison_page(
    result: Comparison,
    *,
    source: str,
    slices: Slices | None = None,
    ceiling: Ceiling | None = None,
    leans: Sequence[Lean] = (),
    sets: Sequence[Covered] = (),
    share: float = math.nan,
    warnings: Sequence[str] = (),
    origin: Sequence[str] = (),
) -> Page:
    """What a comparison found.

    Args:
        result: the comparison.
        source: what the labelled battles are called.
        slices, ceiling: more of it, where there is more.
        leans: how judges and people lean with the difference in length.
        sets: how often sets of outcomes hold the label, which was to be `share` of the time.
        warnings: what makes figures better than they are, such as leaks.
        origin: how the page was made, a line each.
    """
    known = Section("What to know of these figures", (*warnings, *notes(result)))
    sections = [_losses(result, ceiling), known, _measures(result)]
    judged = [one for one in result.scores[1:] if one.battles]
    sections.append(_calibration(judged[:_MOST_DIAGRAMS]))
    sections.append(_confusion(judged[:_MOST_DIAGRAMS]))
    if leans or any(one.order is not None for one in judged):
        sections.append(_bias(judged, leans, result.length_correlation))
    if slices is not None and slices.slices:
        sections.append(_slices(slices))
    if sets:
        sections.append(_coverage(sets, share))
    words = verdicts(result)
    return Page(
        title=f"Judges compared on {source}",
        lead=" ".join(words[:2]),
        facts=_facts(result, ceiling),
        sections=tuple(sections),
        origin=tuple(origin),
    )


def _facts(result: Comparison, ceiling: Ceiling | None) -> tuple[Fact, ...]:
    best = next(one for one in result.scores if one.name == result.best)
    prior = result.scores[0]
    facts = [
        Fact("best log loss", number(best.log_loss), best.name),
        Fact("class prior", number(prior.log_loss), "the best constant for these labels"),
        Fact("labelled battles", f"{result.battles:,}", f"{result.prompts:,} prompts"),
    ]
    if ceiling is not None:
        row = ceiling.rows[0]
        facts.append(Fact(row.name, number(row.log_loss), "no judge can expect less"))
    return tuple(facts)


def _losses(result: Comparison, ceiling: Ceiling | None) -> Section:
    rows = [
        Row(one.name, one.log_loss, one.low, one.high, _kind(one, result)) for one in result.scores
    ]
    if ceiling is not None:
        rows += [Row(one.name, one.log_loss, one.low, one.high, "quiet") for one in ceiling.rows]
    prior = result.scores[0].log_loss
    charts = [
        forest(
            "Log loss",
            "Less is better; what is left of the class prior has learned something.",
            rows,
            "log loss, nats a battle",
            reference=(prior, "class prior"),
        )
    ]
    gaps = [
        Row(one.name, one.against_best.value, one.against_best.low, one.against_best.high)
        for one in result.scores
        if one.against_best is not None
    ]
    if gaps:
        charts.append(
            forest(
                f"Log loss less that of {result.best}",
                "Paired, battle by battle; an interval that crosses zero leaves it open who is "
                "better.",
                gaps,
                "difference in log loss, nats",
                reference=(0.0, result.best),
                sign=True,
            )
        )
    return Section("Which judge is better", tuple(verdicts(result)), tuple(charts))


def _kind(score: JudgeScore, result: Comparison) -> str:
    if score.name == result.best:
        return "best"
    return "quiet" if score is result.scores[0] else ""


_MEASURES = (
    ("battles", "battles", 0),
    ("unjudged", "unjudged", 0),
    ("accuracy", "accuracy", 3),
    ("decided", "decided_accuracy", 3),
    ("macro-F1", "macro_f1", 3),
    ("kappa", "kappa", 3),
    ("alpha", "alpha", 3),
    ("Brier", "brier", 4),
    ("RPS", "ranked_probability", 4),
    ("ECE", "calibration_error", 3),
    ("ECE by chance", "calibration_error_by_chance", 3),
    ("entropy", "entropy", 3),
    ("lean to A", "lean", 3),
)


def _measures(result: Comparison) -> Section:
    rows = [
        (one.name, *(_cell(getattr(one, name), digits) for _, name, digits in _MEASURES))
        for one in result.scores
    ]
    table = Table(("judge", *(title for title, _, _ in _MEASURES)), tuple(rows))
    said = (
        "Accuracy counts ties as a third answer, decided leaves them out; kappa and alpha are "
        "agreement beyond chance; RPS is the ranked probability score; ECE is the calibration "
        "error of the verdict, and beside it what a faultless judge would show on as many battles."
    )
    return Section("Every measure", (said,), table=table)


def _cell(value: float, digits: int) -> str:
    return f"{value:,}" if isinstance(value, int) else number(value, digits)


def _calibration(judged: Sequence[JudgeScore]) -> Section:
    charts = tuple(
        reliability(
            f"Does {one.name} keep its word?",
            f"Calibration error {number(one.calibration_error, 3)}, where chance alone would show "
            f"{number(one.calibration_error_by_chance, 3)}. On the diagonal what was called 70 % "
            "came true 70 times in a hundred.",
            [(curve.of, curve_points(curve)) for curve in one.reliability],
        )
        for one in judged
    )
    said = (
        "Across: the probability that was said. Up: how often it came true. Battles are grouped by "
        "the probability they were given; bands are 95 % intervals, larger dots more battles."
    )
    return Section("Calibration", (said,), charts)


def curve_points(curve: Curve) -> list[Point]:
    """A reliability curve as a chart wants it."""
    return [Point(b.probability, b.frequency, b.low, b.high, b.battles) for b in curve.bins]


def _confusion(judged: Sequence[JudgeScore]) -> Section:
    charts = []
    for one in judged:
        sums = [sum(row) for row in one.confusion]
        shares = [
            [cell / total if total else math.nan for cell in row]
            for row, total in zip(one.confusion, sums, strict=True)
        ]
        names = [f"people: {name}" for name in CLASSES]
        charts.append(
            grid(
                f"Verdicts of {one.name}",
                "Of the battles that people called A, B or a tie, how many the judge thinks most "
                "probable to be which.",
                names,
                [f"judge: {name}" for name in CLASSES],
                shares,
            )
        )
    return Section("Where verdicts go wrong", (), tuple(charts))


def _bias(judged: Sequence[JudgeScore], leans: Sequence[Lean], labels: float) -> Section:
    charts: list[Chart] = []
    if leans:
        series = [Series(one.name, one.points) for one in leans[:4]]
        charts.append(
            lines(
                "Length",
                "How far verdicts lean to A as A gets longer than B. A judge above people's line "
                "on the right takes length for quality.",
                series,
                "how much longer A is than B, natural logarithm of the ratio",
                "P(A) less P(B)",
                level=0.0,
            )
        )
    known = [one for one in judged if math.isfinite(one.length_correlation)]
    if known:
        charts.append(
            forest(
                "Rank correlation of P(A) less P(B) with the difference in length",
                f"That of people's votes is {number(labels, 3)}.",
                [Row(one.name, one.length_correlation, math.nan, math.nan) for one in known],
                "Spearman's rho",
                reference=(labels, "people") if math.isfinite(labels) else None,
                digits=3,
            )
        )
    asked = [one for one in judged if one.order is not None and one.order.pairs]
    if asked:
        rows = [
            Row(one.name, one.order.position_bias, one.order.low, one.order.high)
            for one in asked
            if one.order is not None
        ]
        charts.append(
            forest(
                "Position bias",
                "Above zero the judge favours what is shown first.",
                rows,
                "from −1 to 1",
                reference=(0.0, "none"),
                digits=3,
                sign=True,
            )
        )
    return Section("Bias", (), tuple(charts))


def _slices(slices: Slices) -> Section:
    charts = []
    for by in dict.fromkeys(part.by for part in slices.slices):
        rows = list(_slice_rows(slices, by))
        charts.append(
            forest(
                f"By {by}",
                "Log loss less that of the class prior of all battles, slice by slice.",
                rows,
                "difference in log loss, nats",
                reference=(0.0, "class prior"),
                sign=True,
            )
        )
    said = (
        f"Slices of fewer than {slices.least} battles are pooled. Whoever looks at many slices "
        "finds some that stand out by chance; a single interval off zero proves little."
    )
    return Section("By slice", (said,), tuple(charts))


def _slice_rows(slices: Slices, by: str) -> Iterable[Row]:
    for part in slices.slices:
        if part.by != by:
            continue
        size = f"{part.name} ({part.battles:,})"
        if len(part.scores) > 1:
            yield Row(size, math.nan, math.nan, math.nan, "head")
        for score in part.scores:
            gap = score.against_prior
            several = len(part.scores) > 1
            kind = "best" if several and score.name == slices.best else ""
            yield Row(score.name if several else size, gap.value, gap.low, gap.high, kind)


def _coverage(sets: Sequence[Covered], share: float) -> Section:
    charts = []
    for by in dict.fromkeys(one.by for one in sets):
        rows = [
            Row(
                f"{one.judge} · {one.slice}" if one.slice else one.judge,
                one.found.covered,
                one.found.low,
                one.found.high,
            )
            for one in sets
            if one.by == by
        ]
        charts.append(
            forest(
                "How often sets hold the label" + ("" if by == "all" else f", by {by}"),
                "Right of the line is more than was promised; a promise holds over all battles and "
                "not for each kind of them.",
                rows,
                "share of labels that lie in their set",
                reference=(share, f"{share:.0%}"),
                digits=3,
            )
        )
    whole = [one for one in sets if one.by == "all"]
    table = Table(
        ("judge", "outcomes a set", "decided", "right where decided"),
        tuple(
            (
                one.judge,
                number(one.found.size, 2),
                f"{one.found.answered:.1%}",
                number(100 * one.found.right, 1) + " %",
            )
            for one in whole
        ),
    )
    return Section("Saying what it does not know", (), tuple(charts), table)
