"""The page of `arena-judge synth check`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from judge.ballots import CRITERIA, VOTES
from judge.metrics import CLASSES
from judge.report.charts import Chart, Row, Table, forest, grid, reliability, stacked
from judge.report.comparing import curve_points
from judge.report.drawing import number
from judge.report.page import Fact, Page, Section
from synth.checking.drops import REASONS, counts

if TYPE_CHECKING:
    from synth.checking.estimates import Estimate
    from synth.checking.findings import Verdict
    from synth.checking.humans import Humans
    from synth.checking.whole import Check


def check_page(check: Check, said: Verdict, origin: Sequence[str] = ()) -> Page:
    """What a check found.

    Args:
        check: the figures.
        said: what they come to.
        origin: how the page was made, a line each.
    """
    sections = [_findings(said), _orders(check), _criteria(check), _labels(check), _looks(check)]
    if check.humans is not None:
        sections.append(_people(check.humans))
    sections.append(_drops(check))
    return Page(
        title=f"Is {check.name} worth training on?",
        lead=said.text,
        facts=_facts(check),
        sections=tuple(one for one in sections if one is not None),
        origin=tuple(origin),
    )


def _facts(check: Check) -> tuple[Fact, ...]:
    kept = int((~check.gone).sum())
    facts = [
        Fact("battles", f"{check.battles:,}", f"{check.prompts:,} prompts"),
        Fact("fit to train on", f"{kept:,}", f"{check.battles - kept:,} to drop"),
    ]
    known = [one for one in check.by_order if one.same.known]
    if known:
        worst = min(known, key=lambda one: one.same.value)
        facts.append(Fact("the same in both orders", f"{worst.same.value:.1%}", worst.annotator))
    found = None if check.humans is None else check.humans.labels
    if found is not None:
        own = found.scores[1]
        note = f"accuracy {own.accuracy:.1%} on {own.battles:,} battles"
        facts.append(Fact("kappa with people", number(own.kappa, 3), note))
    return tuple(facts)


def _findings(said: Verdict) -> Section:
    rows = tuple((one.text, one.measure, one.severity) for one in said.findings)
    table = Table(("finding", "measure", "how bad"), rows) if rows else None
    return Section("What to know before training", (said.text,), table=table)


def _row(name: str, one: Estimate, kind: str = "") -> Row:
    return Row(name, one.value, one.low, one.high, kind)


def _orders(check: Check) -> Section:
    charts = []
    if any(one.same.known for one in check.by_order):
        charts = [
            forest(
                "The same in both orders",
                "How often an annotator says the same when the responses change places.",
                [_row(one.annotator, one.same) for one in check.by_order],
                "share of the battles",
                digits=3,
            ),
            forest(
                "Position bias",
                "Above zero what is shown first gains by it.",
                [_row(one.annotator, one.bias) for one in check.by_order],
                "from −1 to 1",
                reference=(0.0, "none"),
                digits=3,
                sign=True,
            ),
        ]
    charts += _again(check)
    header = ("annotator", "records", "unreadable", "no reply", "declined", "cut", "missing")
    rows = tuple(
        (
            one.annotator,
            *(f"{n:,}" for n in (one.asked, one.unreadable, one.unanswered, one.declined)),
            "–" if one.cut is None else f"{one.cut:,}",
            f"{one.missing:,}",
        )
        for one in check.by_order
    )
    return Section("Do annotators keep their word?", (), tuple(charts), Table(header, rows))


def _again(check: Check) -> list[Chart]:
    """Agreement of samples and of annotators."""
    rows = [_row(f"samples of {one.annotator}", one.agreed) for one in check.samples]
    both = check.annotators_agree
    if both is not None:
        rows += [_row(f"{one.first} | {one.second}", one.accuracy) for one in both.pairs]
    if not rows:
        return []
    return [
        forest(
            "Said again, and by others",
            "How often two samples in one order, or two annotators, say the same.",
            rows,
            "share of the pairs",
            digits=3,
        )
    ]


def _criteria(check: Check) -> Section | None:
    found = check.criteria
    if found.single or not found.criteria:
        return None
    names = [name.replace("_", " ") for name in CRITERIA]
    charts = (
        stacked(
            "Votes by criterion",
            "A criterion whose votes are nearly all the same tells nothing.",
            [(one.name.replace("_", " "), one.shares) for one in found.criteria],
            VOTES,
        ),
        grid(
            "Do criteria go together?",
            f"How often two criteria have the same vote; all five have it in "
            f"{_share(found.halo.value)} of the ballots.",
            names,
            names,
            found.alike,
        ),
    )
    words = [f"Verdicts against most of their own votes: {_share(found.contradicted.value)}."]
    if check.reasons is not None:
        one = check.reasons
        words.append(
            f"{one.given:,} of {one.asked:,} votes have a reason; {one.distinct:,} are different, "
            f"and {one.templated:,} stand word for word in many battles."
        )
    return Section("Five criteria, or one?", tuple(words), charts)


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "–"


def _labels(check: Check) -> Section:
    found = check.balance
    rows: list[tuple[str, tuple[float, ...]]] = [("mean label", found.soft)]
    rows.append(("likeliest outcome", found.hard))
    if found.human is not None and found.common is not None:
        rows += [("mean, where people voted", found.common), ("people's mean", found.human)]
    chart = stacked(
        "How labels fall", "The shares of A, of B and of ties in the labels.", rows, CLASSES
    )
    words = (
        f"{found.battles:,} battles have a label and {found.without:,} have none. The mean entropy "
        f"is {number(found.entropy, 2)} of 1.10 nats; {_share(found.certain.value)} of the labels "
        "are next to certain."
    )
    return Section("The labels", (words,), (chart,))


def _looks(check: Check) -> Section:
    rows: list[Row] = []
    for look in check.looks.looks:
        rows.append(Row(look.name, math.nan, math.nan, math.nan, "head"))
        rows.append(_row("annotators", look.won))
        if look.human.known:
            rows.append(_row("people", look.human, "quiet"))
    chart = forest(
        "More of it wins",
        "How often the response with more of something wins, of the decided battles.",
        rows,
        "share of the battles",
        reference=(0.5, "no matter"),
        digits=3,
    )
    words = "People go by looks, too; what counts is whether the annotators do so more than they."
    return Section("Length and style", (words,), (chart,))


def _people(found: Humans) -> Section:
    told = [one for one in (found.labels, found.votes, *found.annotators) if one is not None]
    rows = [
        Row(score.name, score.log_loss, score.low, score.high)
        for score in (one.scores[1] for one in told)
    ]
    charts: list[Chart] = []
    if told:
        prior = told[0].scores[0].log_loss
        charts.append(
            forest(
                "Log loss on people's votes",
                "Less is better. Labels that are surer than they are right are far to the right.",
                rows,
                "log loss, nats a battle",
                reference=(prior, "class prior"),
            )
        )
    if found.labels is not None:
        own = found.labels.scores[1]
        charts.append(
            reliability(
                "Do soft labels come true?",
                f"Calibration error {number(own.calibration_error, 3)}, where chance alone would "
                f"show {number(own.calibration_error_by_chance, 3)}.",
                [(curve.of, curve_points(curve)) for curve in own.reliability],
            )
        )
    cells = tuple(
        (
            one.name,
            f"{one.battles:,}",
            *(number(v, 3) for v in (one.accuracy, one.decided_accuracy, one.kappa, one.alpha)),
        )
        for one in (comparison.scores[1] for comparison in told)
    )
    header = ("", "battles", "accuracy", "decided", "kappa", "alpha")
    words = "These are the figures of arena-judge compare."
    return Section("Against people", (words,), tuple(charts), Table(header, cells))


def _drops(check: Check) -> Section:
    rows = tuple(
        (f"{name}: {REASONS[name][1]}", f"{n:,}", "yes" if name in check.rules.applied else "no")
        for name, n in counts(check.drops).items()
    )
    words = (
        f"{int(check.gone.sum()):,} of {check.battles:,} battles go. What makes a label wrong, or "
        "unfit to be trained on, is applied; what makes it merely unsure is named and kept, since "
        "soft labels are there to say so."
    )
    table = Table(("reason", "battles", "applied"), rows) if rows else None
    return Section("What to drop", (words,), table=table)
