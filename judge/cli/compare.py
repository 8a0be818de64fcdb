"""`arena-judge compare`: judges and prediction files on the same labelled battles, side by side.

The battles are read once, a batch at a time, and every judge sees each batch; what is kept is ids,
labels, a hash of the prompt and the probabilities, so the text may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import coverage, options, outputs
from judge.cli.console import say
from judge.cli.judging import Judging, judge_options
from judge.cli.scrutiny import Scrutiny, length_difference, scrutiny_options

if TYPE_CHECKING:
    from judge.cli.entrants import Entrant
    from judge.cli.scrutiny import Findings, Measured
    from judge.comparing.covering import Covered
    from judge.comparing.scores import Comparison


@click.command()
@click.argument("labelled")
@click.argument("named", nargs=-1, required=True, metavar="[NAME=]JUDGE_OR_PREDICTIONS...")
@click.option(
    "--rounds",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    help="Bootstrap rounds.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("-o", "--output", metavar="FILE", help="Write the table as CSV as well.")
@scrutiny_options
@coverage.option
@options.report
@options.chunk_rows
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
@judge_options
def compare(
    labelled: str,
    named: tuple[str, ...],
    rounds: int,
    seed: int,
    output: str | None,
    coverage_share: float | None,
    report_file: str | None,
    chunk_rows: int,
    workers: int,
    force: bool,
    as_json: bool,
    scrutiny: Scrutiny,
    judging: Judging,
) -> None:
    """Compare judges, or files of what they predicted, by log loss on LABELLED battles.

    Intervals are 95 % bootstrap intervals that resample prompts; differences are paired, battle by
    battle, and negative where a judge is better; p-values are Holm's. The class prior comes first:
    what beats it has learned something. Battles that a judge learned from are found and named.
    docs/compare.md explains every column.

    \b
    Example:
      arena-judge compare battles.csv predictions.csv
      arena-judge compare battles.csv statistical old=p1.csv new=p2.csv -o table.csv
      arena-judge compare battles.csv statistical p.csv --slices turns,language --drop-leaks
      arena-judge compare battles.csv judges/* --slices all --coverage 0.9 --report report.html
      arena-judge compare battles.csv statistical --labels mine.csv --labels-only
    """
    from judge.cli.comparison_report import draw
    from judge.cli.entrants import entrants, read_with
    from judge.cli.known import known_of
    from judge.comparison import PRIOR
    from judge.comparison import compare as compare_judges

    inputs = [labelled, *(name.rpartition("=")[2] for name in named), *named, *scrutiny.read]
    target = page = None
    if output is not None:
        target = outputs.target(output, outputs.COMPARISON, inputs=inputs, force=force)
    if report_file is not None:
        page = outputs.report_target(report_file, inputs=inputs, force=force)
    others = [path for path in (target, page) if path is not None]
    lists = scrutiny.targets(inputs, force, others=others)
    with entrants(named, labelled, judging, seed=seed, taken=[PRIOR]) as field:
        if judging.dry_run:
            for one in field:
                if one.judge is not None:
                    judging.asking.tell_estimate(one.judge, labelled, chunk_rows, as_json=as_json)
            return
        learned = scrutiny.learned(field, chunk_rows=chunk_rows, workers=workers)
        battles = read_with(
            labelled,
            field,
            facts=scrutiny.facts,
            chunk_rows=chunk_rows,
            workers=workers,
            unlabelled=scrutiny.labels is not None,
        )
        known = known_of(field, battles)
        found = scrutiny.look(field, battles, learned, rounds=rounds, seed=seed)
    battles = found.battles
    result = compare_judges(
        battles.labels,
        battles.proba,
        groups=battles.prompts,
        length_difference=length_difference(battles),
        known=known,
        rounds=rounds,
        seed=seed,
    )
    more = scrutiny.measure(found, result, rounds=rounds, seed=seed)
    sets = coverage.measured(field, battles, coverage_share, more.slices)
    scrutiny.write(lists, found)
    _show(result, scrutiny, found, more, sets, coverage_share, as_json=as_json)
    _say_flattered(field, found, labelled)
    if page is not None:
        draw(page, result, found, more, scrutiny, labelled, sets, coverage_share)
    if target is not None:
        _write(target, result)


def _show(
    result: Comparison,
    scrutiny: Scrutiny,
    found: Findings,
    more: Measured,
    sets: Sequence[Covered],
    share: float | None,
    *,
    as_json: bool,
) -> None:
    """The tables and what is to be said of them, or all of it as JSON."""
    from judge.cli import scrutiny_text
    from judge.cli.comparison_table import as_json as to_json
    from judge.cli.comparison_table import lines

    if as_json:
        beside = scrutiny_text.as_dict(scrutiny, found, more) | {"coverage": coverage.as_list(sets)}
        click.echo(to_json(result, beside))
    else:
        below = [*coverage.lines(sets, share), *scrutiny_text.lines(scrutiny, found, more)]
        click.echo("\n".join([*lines(result), *below]))


def _say_flattered(field: Sequence[Entrant], found: Findings, labelled: str) -> None:
    """Names judges that learned from the very file, where no battle has said so already."""
    from judge.provenance import flattering, learned_from

    told = {one.judge for one in found.leaks if one.exact or one.near}
    for one in field:
        if one.judge is None or one.name in told:
            continue
        if learned_from(one.judge.sources, labelled):
            say(f"note: {flattering(one.name, labelled)}")


def _write(target: Path, result: Comparison) -> None:
    from judge.files.atomic import written_whole

    replaced = target.is_file()
    with written_whole(target) as file:
        file.write(result.to_frame().to_csv(index=False, lineterminator="\n").encode())
    say(f"{target}: {'replaced' if replaced else 'written'}")
