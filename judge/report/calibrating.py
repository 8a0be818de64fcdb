"""The page of `arena-judge calibrate`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from judge.comparing.reliability import reliability as reliability_curves
from judge.metrics import calibration_error, log_loss
from judge.report.charts import Chart, Row, Table, forest, reliability
from judge.report.comparing import curve_points
from judge.report.drawing import number
from judge.report.page import Fact, Page, Section

if TYPE_CHECKING:
    from judge.calibration.choosing import Candidate
    from judge.calibration.kinds import Calibrator
    from judge.calibration.measuring import Part, Study

_NORMAL = 1.959963984540054


def calibration_page(study: Study, *, judge: str, source: str, origin: Sequence[str] = ()) -> Page:
    """What calibrating a judge changed.

    Args:
        study: how it was calibrated and measured.
        judge: its name.
        source: what the labelled battles are called.
        origin: how the page was made, a line each.
    """
    found = study.calibration
    chosen = found.calibrator.method
    lead = (
        f"{judge} is left as it is: nothing beats it beyond its standard error."
        if chosen == "identity"
        else f"{judge} is calibrated by {chosen}{_and_battles(study)}. Taken alone, a temperature "
        f"of {found.temperature:.2f} would be right: it is "
        f"{'too sure' if found.temperature > 1 else 'not sure enough'}."
    )
    parts = {"Cross-fitted": study.cal}
    if study.holdout is not None:
        parts["Held out"] = study.holdout
    sections = [_choice(found.candidates, chosen, parts)]
    sections += [_part(name, part) for name, part in parts.items()]
    sections += _looks(found.calibrator)
    facts = []
    for name, part in parts.items():
        before, after = log_loss(part.labels, part.before), log_loss(part.labels, part.after)
        facts.append(Fact(f"log loss, {name.lower()}", number(after), f"{number(before)} before"))
        ece = calibration_error(part.labels, part.after)
        was = calibration_error(part.labels, part.before)
        facts.append(
            Fact(f"calibration error, {name.lower()}", number(ece, 3), f"{number(was, 3)} before")
        )
    title = f"{judge} calibrated on {source}"
    return Page(title, lead, tuple(facts), tuple(sections), tuple(origin))


def _and_battles(study: Study) -> str:
    looks = study.calibration.calibrator.average is not None
    return ", which looks at the battles beside its probabilities" if looks else ""


def _looks(calibrator: Calibrator) -> list[Section]:
    """What a calibrator that looks at battles makes of them."""
    from judge.calibration.context import Context

    if not isinstance(calibrator, Context):
        return []
    rows = [
        (one.name, "which side wins" if one.sided else "a tie", number(one.weight, 3, sign=True))
        for one in calibrator.strongest
    ]
    words = (
        "What a standard deviation of each is worth, in nats: above 0 it makes a tie likelier, or, "
        "of a difference between the responses, a win of the response that has more of it."
    )
    table = Table(("looks at", "speaks on", "nats"), tuple(rows))
    return [Section("What it sees in a battle", (words,), table=table)]


def _choice(candidates: Sequence[Candidate], chosen: str, parts: dict[str, Part]) -> Section:
    rows = [
        Row(
            one.method,
            one.gap.value,
            *_interval(one.gap.value, one.gap.error),
            "best" if one.method == chosen else "",
        )
        for one in candidates
    ]
    chart = forest(
        "What each method would change",
        "Log loss less that of the judge as it is, cross-fitted; left of zero is better. The "
        "simplest is kept unless another beats it beyond its standard error.",
        rows,
        "difference in log loss, nats",
        reference=(0.0, "as it is"),
        sign=True,
    )
    figures = tuple(
        (name, f"{len(part.labels):,}", number(part.gap.value, sign=True), number(part.gap.error))
        for name, part in parts.items()
    )
    table = Table(("", "battles", "change in log loss", "standard error"), figures)
    return Section("Which calibration", (), (chart,), table)


def _interval(value: float, error: float) -> tuple[float, float]:
    if not math.isfinite(error):
        return math.nan, math.nan
    return value - _NORMAL * error, value + _NORMAL * error


def _part(name: str, part: Part) -> Section:
    charts: list[Chart] = []
    for when, proba in (("before", part.before), ("after", part.after)):
        error = number(calibration_error(part.labels, proba), 3)
        curves = reliability_curves(part.labels, proba)
        charts.append(
            reliability(
                f"{when.capitalize()}",
                f"Calibration error {error}; on the diagonal the judge keeps its word.",
                [(curve.of, curve_points(curve)) for curve in curves],
            )
        )
    return Section(f"{name} battles", (), tuple(charts))
