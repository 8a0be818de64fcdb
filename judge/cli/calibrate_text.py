"""What `arena-judge calibrate` says: tables, figures for machines, and lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from judge.cli.console import count, say, table
from judge.cli.learning import shown, spread

if TYPE_CHECKING:
    from judge.calibration import Calibrator, Part, Study
    from judge.cli.learning import Target

CANDIDATES = ("method", "log loss, cross-fitted", "less the judge's [95 %]")
PARTS = (
    "battles",
    "number",
    "nll before",
    "after",
    "better by",
    "log loss before",
    "after",
    "better by [95 %]",
    "ECE before",
    "after",
)


COVARIATES = ("looks at", "speaks on", "nats a standard deviation")

_HARDLY = 0.02  # of a temperature
_SHOWN = 8


def parts_of(result: Study) -> dict[str, float | None]:
    """The figures of both parts; None where nothing was held out."""
    found: dict[str, float | None] = dict(result.cal.figures("cal"))
    other = result.cal if result.holdout is None else result.holdout
    held = other.figures("holdout")
    return found | {key: None if result.holdout is None else held[key] for key in held}


def figures_of(result: Study) -> dict[str, object]:
    """For `--json`."""
    found = result.calibration
    held = result.holdout
    figures: dict[str, object] = {
        "method": found.calibrator.method,
        "calibrator": found.calibrator.settings(),
        "temperature": found.temperature,
        "battles_cal": found.battles,
        "prompts_cal": found.prompts,
        "battles_holdout": 0 if held is None else len(held.labels),
    }
    figures |= parts_of(result)
    figures["less_judge_cal"] = spread(result.cal.gap)
    figures["less_judge_holdout"] = None if held is None else spread(held.gap)
    figures["candidates"] = [
        {"method": c.method, "log_loss": c.log_loss, "less_judge": spread(c.gap)}
        for c in found.candidates
    ]
    return figures


def lines_of(result: Study) -> list[str]:
    """The tables."""
    found = result.calibration
    chosen = found.calibrator.method
    candidates = [
        [f"{c.method} *" if c.method == chosen else c.method, f"{c.log_loss:.4f}", shown(c.gap)]
        for c in found.candidates
    ]
    parts = [_row("learned from, cross-fitted", "cal", result.cal)]
    if result.holdout is not None:
        parts.append(_row("held out", "holdout", result.holdout))
    lines = [*table(CANDIDATES, candidates), "", *table(PARTS, parts)]
    return [*lines, *_looks(found.calibrator)]


def _looks(calibrator: Calibrator) -> list[str]:
    """What a calibrator that looks at battles makes most of."""
    from judge.calibration.context import Context

    if not isinstance(calibrator, Context):
        return []
    rows = [
        [one.name, "side" if one.sided else "tie", f"{one.weight:+.3f}"]
        for one in calibrator.strongest[:_SHOWN]
    ]
    return ["", *table(COVARIATES, rows)]


def _row(title: str, key: str, part: Part) -> list[str]:
    from judge.choosing import Gap

    f = part.figures(key)
    gap = part.gap
    better = shown(Gap(-gap.value, gap.error, gap.prompts))
    return [
        title,
        f"{len(part.labels):,}",
        *(f"{f[f'nll_{key}_{what}']:.4f}" for what in ("before", "after")),
        f"{f[f'nll_{key}_improvement']:+.4f}",
        *(f"{f[f'logloss_{key}_{what}']:.4f}" for what in ("before", "after")),
        better,
        *(f"{f[f'ece_{key}_{what}']:.4f}" for what in ("before", "after")),
    ]


def tell(result: Study, unjudged: int, target: Target | None) -> None:
    """What was learned in words, on standard error.

    Args:
        result: what was learned.
        unjudged: battles that the judge left out.
        target: where it is written.
    """
    found = result.calibration
    heat = found.temperature
    word = (
        "hardly off" if abs(heat - 1) < _HARDLY else "too sure" if heat > 1 else "not sure enough"
    )
    say(f"scaled by temperature alone it would take {heat:.3f}: as it stands it is {word}")
    if found.calibrator.method == "identity":
        say("the judge is left as it is")
    else:
        battles = count(found.battles, "battle")
        say(f"calibrated by {found.calibrator.method}, learned from {battles}")
    if unjudged:
        say(f"{count(unjudged, 'battle')} unjudged, left out")
    if target is None:
        say("nothing is written; -o FOLDER writes the calibrated judge")
    else:
        target.tell()
