"""A comparison of judges as tables and sentences for a terminal, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from judge.cli.console import clean, duration, fit, table

if TYPE_CHECKING:
    from judge.comparison import Comparison, Difference, JudgeScore

Column = tuple[str, "Callable[[JudgeScore], str]"]

# So that the widest table stays within 120 columns.
_NAME = 16


def lines(result: Comparison) -> list[str]:
    """The tables, one after the other, then what they come to."""
    from judge.comparing.verdicts import notes, verdicts

    parts = [_table(result, columns) for columns in (_losses(), _measures(), _manner(result))]
    said = [[clean(line) for line in found] for found in (verdicts(result), notes(result))]
    return "\n\n".join("\n".join(part) for part in [*parts, *said] if part).split("\n")


def as_json(result: Comparison, more: Mapping[str, object] | None = None) -> str:
    """Every figure, and what else was found; null for what cannot be said or is infinite."""
    return json.dumps(finite(asdict(result) | dict(more or {})), allow_nan=False)


def finite(value: object) -> object:
    """The same with None for NaN and infinity, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(result: Comparison, columns: Sequence[Column]) -> list[str]:
    rows = [
        [name, *(cell(score) for _, cell in columns)]
        for name, score in zip(_names(result), result.scores, strict=True)
    ]
    return table(["judge", *(head for head, _ in columns)], rows)


def _names(result: Comparison) -> list[str]:
    """Cut short as long as they stay different."""
    cut = [fit(score.name, _NAME) for score in result.scores]
    return cut if len(set(cut)) == len(cut) else [score.name for score in result.scores]


def _losses() -> list[Column]:
    return [
        ("battles", lambda s: f"{s.battles:,}"),
        ("log loss [95 %]", lambda s: with_range(s.log_loss, s.low, s.high, ".4f")),
        ("less the prior's [95 %]", lambda s: gap(s.against_prior)),
        ("p", lambda s: p_shown(s.against_prior)),
        ("less the best's [95 %]", lambda s: gap(s.against_best)),
        ("p", lambda s: p_shown(s.against_best)),
    ]


def _measures() -> list[Column]:
    return [
        ("Brier", lambda s: _number(s.brier, ".4f")),
        ("RPS", lambda s: _number(s.ranked_probability, ".4f")),
        ("accuracy", lambda s: _number(s.accuracy, ".3f")),
        ("decided", lambda s: _number(s.decided_accuracy, ".3f")),
        ("F1", lambda s: _number(s.macro_f1, ".3f")),
        ("kappa", lambda s: _number(s.kappa, ".3f")),
        ("alpha", lambda s: _number(s.alpha, ".3f")),
        ("ECE", lambda s: _number(s.calibration_error, ".4f")),
        ("by chance", lambda s: _number(s.calibration_error_by_chance, ".4f")),
        ("equal mass", lambda s: _number(s.calibration_error_adaptive, ".4f")),
        ("class-wise", lambda s: _number(s.calibration_error_classwise, ".4f")),
    ]


def _manner(result: Comparison) -> list[Column]:
    """How a judge is, right or wrong; what is known of none has no column."""
    always: list[Column] = [
        ("entropy", lambda s: _number(s.entropy, ".3f")),
        ("largest P", lambda s: _number(s.confidence, ".3f")),
        ("lean to A", lambda s: _number(s.lean, "+.3f")),
    ]
    perhaps: list[Column] = [
        ("length", lambda s: _number(s.length_correlation, "+.3f")),
        ("orders agree", lambda s: _number(s.order.order_consistency if s.order else None, ".1%")),
        ("first", lambda s: _number(s.order.position_bias if s.order else None, "+.3f")),
        ("time a battle", lambda s: _time(s.effort.seconds)),
        ("$ a thousand", lambda s: _number(1000 * s.effort.cost, ",.2f")),
    ]
    told = [column for column in perhaps if any(column[1](score) != "-" for score in result.scores)]
    return [*always, *told]


def _number(value: float | None, form: str) -> str:
    """Never "-0.000", which would be read for a sign."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:{form}}"
    return text if float(text.strip("%").replace(",", "")) else f"{0.0:{form}}".replace("+", "")


def with_range(value: float, low: float, high: float, form: str) -> str:
    """A figure with its interval."""
    if math.isnan(value):
        return "-"
    span = "[-]" if math.isnan(low) else f"[{_number(low, form)}, {_number(high, form)}]"
    return f"{_number(value, form)} {span}"


def gap(difference: Difference | None, form: str = "+.4f") -> str:
    """A difference with its interval."""
    if difference is None:
        return "-"
    return with_range(difference.value, difference.low, difference.high, form)


def p_shown(difference: Difference | None) -> str:
    """Its corrected p-value."""
    if difference is None or math.isnan(difference.p_holm):
        return "-"
    return "<.001" if difference.p_holm < 0.001 else f"{difference.p_holm:.3f}"


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    return f"{1e3 * seconds:.2g} ms" if seconds < 0.0995 else duration(seconds)
