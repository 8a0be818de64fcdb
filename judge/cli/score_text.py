"""What `score` says and shows: the first rows, the summary, the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import abstaining
from judge.cli.console import fit, say, table
from judge.cli.prompted_options import Report
from judge.cli.score_output import Files

if TYPE_CHECKING:
    from judge.cli.summary import Summary
    from judge.report.scoring import Scored


def show_rows(head: list[tuple[str, str, list[float]]], *, to_error: bool) -> None:
    """Prints the first predictions; wide terminals show more of the prompt."""
    room = max(20, min(100, shutil.get_terminal_size((100, 24)).columns - 48))
    rows = [
        [fit(name, 16), fit(prompt, room), *("-" if p != p else f"{p:.3f}" for p in proba)]
        for name, prompt, proba in head
    ]
    for line in table(["id", "prompt", "P(A)", "P(B)", "P(tie)"], rows, left=2):
        click.echo(line, err=to_error)


def words_of(
    summary: Summary, doubts: abstaining.Abstaining | None, asked: list[Report]
) -> list[str]:
    """The run in words, for people."""
    doubtful = [] if doubts is None else [doubts.line()]
    return [*summary.lines(), *doubtful, *(line for report in asked for line in report.lines())]


def gathered(files: Files) -> Scored | None:
    if files.report is None:
        return None
    from judge.report.scoring import Scored

    return Scored()


def draw(scored: Scored, path: Path, judge: str, battles: str, words: list[str], seed: int) -> None:
    from judge.report.page import origin, write_page
    from judge.report.scoring import score_page

    source = Path(battles).name
    write_page(
        score_page(scored, judge=judge, source=source, words=words, origin=origin("score", seed)),
        path,
    )


def tell(
    summary: Summary,
    files: Files,
    replaced: list[str],
    asked: list[Report],
    doubts: abstaining.Abstaining | None,
    words: list[str],
    as_json: bool,
) -> None:
    """The summary: lines for people on standard error, JSON for machines on standard output."""
    written = [path for path in files.all if path.exists()]
    if as_json:
        result = summary.to_dict()
        for name, path in vars(files).items():
            result[f"{name}_file"] = str(path) if path in written else None
        result["replaced"] = replaced
        if doubts is not None:
            result["abstaining"] = doubts.to_dict()
        if asked:
            result["asked"] = [report.to_dict() for report in asked]
        click.echo(json.dumps(result))
        return
    for line in words:
        say(line)
    for path in files.all:
        before = str(path) in replaced
        if path in written:
            say(f"{path}: {'replaced' if before else 'written'}")
        elif before:
            say(f"{path}: removed, nothing is unjudged now")
