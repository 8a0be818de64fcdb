"""`arena-judge synth check`: is the set worth training on, and what of it should go?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import count, say

if TYPE_CHECKING:
    from synth.checking.findings import Verdict
    from synth.checking.whole import Check
    from synth.data import AnnotatedSet

DROPS = ("id", "reason", "detail", "applied")
_REASONS = (
    *("not-annotated", "unanswered", "refused", "unreadable", "no-label", "one-order"),
    *("order-flip", "verdict-contradicts-votes", "contaminated", "held-out-prompt"),
    *("near-duplicate", "samples-disagree", "annotators-disagree", "low-confidence"),
    *("templated-reasons", "both-refuse", "human-disagrees"),
)


@click.command()
@click.argument("data")
@click.option("--battles", metavar="FILE", help="The battles, where DATA is a file of ballots.")
@click.option(
    "--labels",
    metavar="FILE",
    help="People's labels (id and winner_... columns) that go before those of the battles.",
)
@click.option(
    "--held-out",
    multiple=True,
    metavar="FILE",
    help="Battles that must not be trained on, nor their prompts; repeatable.",
)
@click.option(
    "--source",
    type=click.Choice(["auto", "verdict", "votes"]),
    default="auto",
    show_default=True,
    help="What labels are made of; auto takes the verdict where there is one.",
)
@click.option(
    "--aggregator",
    metavar="JUDGE_FOLDER",
    help="Count votes as this judge does, which arena-judge fit has made.",
)
@click.option(
    "--drop",
    multiple=True,
    type=click.Choice(_REASONS),
    metavar="REASON",
    help="Drop battles for this reason, too; repeatable.",
)
@click.option(
    "--keep",
    multiple=True,
    type=click.Choice(_REASONS),
    metavar="REASON",
    help="Drop no battle for this reason alone; repeatable.",
)
@click.option(
    "--margin",
    type=options.Finite(0, 1),
    default=0.2,
    show_default=True,
    help="order-flip: how far P(A) - P(B) is from 0 in each order.",
)
@click.option(
    "--least-agreement",
    type=options.Finite(0, 1),
    default=0.5,
    show_default=True,
    help="samples-disagree, annotators-disagree: pairs that must agree.",
)
@click.option(
    "--least-confidence",
    type=options.Finite(0, 1),
    default=0.4,
    show_default=True,
    help="low-confidence: how likely the likeliest outcome must be.",
)
@click.option("-o", "--output", metavar="FILE", help="List what to drop, and why, as CSV.")
@click.option("--filter", "kept", metavar="KEPT", help="Write the set without it to this folder.")
@options.report
@click.option(
    "--rounds",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    help="Bootstrap rounds.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap."
)
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not tables.")
def check(
    data: str,
    battles: str | None,
    labels: str | None,
    held_out: tuple[str, ...],
    source: str,
    aggregator: str | None,
    drop: tuple[str, ...],
    keep: tuple[str, ...],
    margin: float,
    least_agreement: float,
    least_confidence: float,
    output: str | None,
    kept: str | None,
    report_file: str | None,
    rounds: int,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Find out whether DATA is worth training on, and name what to drop.

    DATA is an annotated set, or a file of ballots (from score --ballots, or import) with --battles.
    Measured are order consistency and position bias, agreement of samples, of annotators and with
    people, the balance of the labels, length bias, criteria and reasons that say nothing, refusals,
    contamination and near-duplicates. The figures against people are those of arena-judge compare.

    \b
    Reasons to drop a battle that are applied, unless --keep names them:
      not-annotated, unanswered, refused, unreadable, no-label, one-order, order-flip,
      verdict-contradicts-votes, contaminated, held-out-prompt, near-duplicate
    and those that are only named, unless --drop does:
      samples-disagree, annotators-disagree, low-confidence, templated-reasons, both-refuse,
      human-disagrees

    \b
    Example:
      arena-judge synth check data
      arena-judge synth check data --held-out dev.csv --filter kept -o drops.csv
      arena-judge synth check ballots.parquet --battles battles.csv --report check.html
      arena-judge synth check data --labels people.csv --drop human-disagrees --keep one-order
    """
    both = sorted(set(drop) & set(keep))
    if both:
        raise click.UsageError(f"--drop {both[0]} and --keep {both[0]} cannot both be")
    inputs = _inputs(data, battles, labels, held_out, aggregator)
    places = _places(output, kept, report_file, inputs, force)

    from synth.checking.contamination import held_out_battles
    from synth.checking.drops import DEFAULTS, Rules
    from synth.checking.findings import verdict
    from synth.checking.whole import Options
    from synth.checking.whole import check as check_set
    from synth.cli.check_text import as_json as to_json
    from synth.cli.check_text import lines
    from synth.data import read_annotated
    from synth.soft_labels import read_aggregator

    counting = None if aggregator is None else read_aggregator(aggregator)
    annotated = read_annotated(data, battles)
    applied = frozenset((DEFAULTS | set(drop)) - set(keep))
    rules = Rules(applied, margin, least_agreement, least_confidence)
    asked = Options(source, counting, labels, rules, rounds, seed)
    found = check_set(annotated, held_out_battles(held_out), asked)
    said = verdict(found)
    # First, for it says why it is that nothing may be left to write.
    click.echo(to_json(found, said) if as_json else "\n".join(lines(found, said)))
    _write(places, annotated, found, said, inputs)


@dataclass(frozen=True)
class _Places:
    """Where things go; None for what was not asked for."""

    drops: Path | None
    kept: Path | None
    page: Path | None


def _inputs(
    data: str,
    battles: str | None,
    labels: str | None,
    held_out: Sequence[str],
    aggregator: str | None,
) -> list[str]:
    """All files that are read."""
    from synth.data import ANNOTATIONS, BATTLES, FILE

    folder = Path(data)
    own = [str(folder / name) for name in (FILE, BATTLES, ANNOTATIONS)]
    files = [*(own if folder.is_dir() else [data]), battles, labels, *held_out]
    if aggregator is not None:
        files.append(str(Path(aggregator) / "judge.yaml"))
    return [file for file in files if file is not None]


def _places(
    drops: str | None, kept: str | None, page: str | None, inputs: Sequence[str], force: bool
) -> _Places:
    """Sees to it that everything can be written, before any work is done."""
    from judge.files.folders import folder_target
    from synth.data import FILE, KIND

    found = _Places(
        None if drops is None else outputs.target(drops, DROPS, inputs=inputs, force=force),
        None
        if kept is None
        else folder_target(kept, inputs=inputs, force=force, mark=FILE, kind=KIND),
        None if page is None else outputs.report_target(page, inputs=inputs, force=force),
    )
    files = [path.resolve() for path in (found.drops, found.page) if path is not None]
    if len(set(files)) < len(files):
        raise click.UsageError("two of the outputs are one file")
    if found.kept is not None and any(f.is_relative_to(found.kept.resolve()) for f in files):
        raise click.UsageError("--filter replaces its folder as a whole; write beside it")
    return found


def _write(
    places: _Places,
    data: AnnotatedSet,
    found: Check,
    said: Verdict,
    inputs: Sequence[str],
) -> None:
    """Writes what was asked for, the set last: what is beside it is of no use without it."""
    if places.kept is not None:
        from judge.judges.recipes import made_by, made_from
        from synth.checking.keeping import kept_set
        from synth.data import write_annotated

        made = {**made_by("synth check", seed=found.seed), "from": made_from(map(Path, inputs))}
        kept = kept_set(data, found, said, made)
    if places.drops is not None:
        _write_drops(places.drops, found)
    if places.page is not None:
        from judge.report.page import origin
        from synth.report import check_page

        outputs.put_page(places.page, check_page(found, said, origin("synth check", found.seed)))
    if places.kept is not None:
        replaced = places.kept.is_dir() and any(places.kept.iterdir())
        write_annotated(places.kept, kept)
        verb = "replaced" if replaced else "written"
        say(f"{places.kept}: {verb}, {count(len(kept.battles), 'battle')}")


def _write_drops(path: Path, found: Check) -> None:
    import csv
    import io

    from judge.files.atomic import explained, written_whole

    replaced = path.is_file()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(DROPS)
    for one in found.drops:
        applied = "yes" if one.reason in found.rules.applied else "no"
        name = found.labels.ids[one.battle]
        writer.writerow([name, one.reason, " ".join(one.detail.split()), applied])
    with written_whole(path) as file, explained(path):
        file.write(text.getvalue().encode("utf-8", "replace"))
    say(f"{path}: {'replaced' if replaced else 'written'}, {count(len(found.drops), 'reason')}")
