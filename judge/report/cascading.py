"""The page of `arena-judge cascade`: what each threshold costs, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from judge.report.charts import Row, Series, forest, lines
from judge.report.drawing import number
from judge.report.page import Fact, Page, Section

if TYPE_CHECKING:
    from judge.cascading import Curve, Step


def cascade_page(
    curve: Curve, *, cheap: str, dear: str, source: str, origin: Sequence[str] = ()
) -> Page:
    """What a cascade comes to at each threshold.

    Args:
        curve: the thresholds.
        cheap, dear: the judges' names.
        source: what the labelled battles are called.
        origin: how the page was made, a line each.
    """
    best, loss = curve.best, curve.honest[0]
    lead = (
        f"Asking {dear} about {best.sent:.0%} of the battles is enough: {cheap} answers the "
        f"others, and no more than {curve.within:g} nats are lost on the best threshold."
    )
    facts = (
        Fact("log loss", number(loss), "threshold chosen on other prompts"),
        Fact("sent on", f"{best.sent:.0%}", f"where {cheap} is less sure than {_sure(best)}"),
        Fact(f"{cheap} alone", number(curve.steps[0].log_loss)),
        Fact(f"{dear} alone", number(curve.steps[-1].log_loss)),
    )
    drawn = lines(
        "Log loss by cost",
        "From asking the dear judge never, on the left, to always; the band is the 95 % interval.",
        [
            Series(
                "cascade",
                tuple((step.cost, step.log_loss, step.low, step.high) for step in curve.steps),
            )
        ],
        "cost of a battle",
        "log loss, nats",
        digits=4,
    )
    gaps = forest(
        f"Log loss less that of {dear} alone",
        "Paired, threshold by threshold; left of zero the cascade is better than the dear judge.",
        [
            Row(
                f"{step.sent:.0%} sent on, cost {step.cost:.3g}",
                step.gap,
                step.gap_low,
                step.gap_high,
                "best" if step is best else "",
            )
            for step in curve.steps
        ],
        "difference in log loss, nats",
        reference=(0.0, dear),
        sign=True,
    )
    said = (
        f"{curve.battles:,} labelled battles about {curve.prompts:,} prompts, judged by both. "
        "A threshold that is chosen and measured on the same battles flatters itself; the figure "
        "at the head is of thresholds chosen on other prompts.",
    )
    section = Section("Each threshold", said, (drawn, gaps))
    title = f"{cheap}, then {dear}: a cascade on {source}"
    return Page(title, lead, facts, (section,), tuple(origin))


def _sure(step: Step) -> str:
    return "certain" if step.sure > 1 else number(step.sure, 3)
