"""`compare --report`: the page of a comparison, from all that was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from judge.cli import outputs, scrutiny_text

if TYPE_CHECKING:
    from judge.cli.scrutiny import Findings, Measured, Scrutiny
    from judge.comparing.covering import Covered
    from judge.comparing.scores import Comparison


def draw(
    page: Path,
    result: Comparison,
    findings: Findings,
    measured: Measured,
    scrutiny: Scrutiny,
    source: str,
    sets: Sequence[Covered],
    share: float | None,
) -> None:
    """Writes the page and says so."""
    from judge.cli.scrutiny import length_difference
    from judge.report.comparing import comparison_page
    from judge.report.leaning import leaning
    from judge.report.page import origin

    battles = findings.battles
    judged = [score.name for score in result.scores[1:] if score.battles]
    leans = leaning(
        battles.labels,
        {name: battles.proba[name] for name in judged},
        length_difference(battles),
        battles.prompts,
        seed=result.seed,
    )
    drawn = comparison_page(
        result,
        source=Path(source).name,
        slices=measured.slices,
        ceiling=measured.ceiling,
        leans=leans,
        sets=sets,
        share=float("nan") if share is None else share,
        warnings=scrutiny_text.warnings(scrutiny, findings),
        origin=origin("compare", result.seed),
    )
    outputs.put_page(page, drawn)
