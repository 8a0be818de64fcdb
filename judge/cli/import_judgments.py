"""`arena-judge import`: judgments that other tools have recorded, as ballots."""

from __future__ import annotations

from pathlib import Path

import click

from judge.cli import options, outputs
from judge.cli.console import clean, count, say


@click.command("import")
@click.argument("file")
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "votes", "alpaca_eval", "arena_hard", "mt_bench"]),
    default="auto",
    show_default=True,
    help="What the file is; auto looks at its first row.",
)
@click.option(
    "-o",
    "--output",
    default="ballots.parquet",
    show_default=True,
    metavar="FILE",
    help="The ballots: .csv, .jsonl or .parquet.",
)
@click.option("--judge", metavar="NAME", help="The judge's name, where the rows do not say it.")
@click.option(
    "--id",
    "ids",
    metavar="TEMPLATE",
    help="How a battle's id is made of a row's fields, as in '{question_id}-{turn}'.",
)
@click.option(
    "--battles",
    metavar="FILE",
    help="Write AlpacaEval's pairs as battles as well: .csv, .jsonl or .parquet.",
)
@click.option("--replies", is_flag=True, help="Keep the judges' replies.")
@options.force
def import_judgments(
    file: str,
    form: str,
    output: str,
    judge: str | None,
    ids: str | None,
    battles: str | None,
    replies: bool,
    force: bool,
) -> None:
    """Read the judgments in FILE and write them as ballots.

    FILE is a table of votes (id, vote, perhaps judge, order, reply), AlpacaEval's annotations.json,
    arena-hard-auto's judgments or MT-Bench's pairwise judgments. Replies that could not be read
    become ballots without votes, with their reason, and never ties.

    \b
    Example:
      arena-judge import votes.csv -o ballots.parquet
      arena-judge import gpt-4_pair.jsonl --id '{question_id}' -o ballots.csv
      arena-judge import annotations.json --battles pairs.jsonl
    """
    target = outputs.target(output, outputs.BALLOTS, inputs=[file], force=force)
    pairs = None
    if battles is not None:
        pairs = outputs.target(battles, _BATTLES, inputs=[file, output], force=force)

    from judge.ballot_files import write_ballots
    from judge.consistency import report_consistency
    from judge.recorded import read_alpaca_battles, read_judgments

    table = read_judgments(file, form, ids=ids, judge=judge, replies=replies)
    found = read_alpaca_battles(file, ids=ids) if pairs is not None else None
    write_ballots(target, table)
    if pairs is not None and found is not None:
        write_ballots(pairs, found)
    judges = sorted(set(table["judge"]))
    named = ", ".join(map(clean, judges[:5])) + (", …" if len(judges) > 5 else "")
    say(
        f"{count(len(table), 'ballot')} on {count(table['id'].nunique(), 'battle')} "
        f"by {count(len(judges), 'judge')} ({named})"
    )
    for line in report_consistency(table).lines():
        say(line)
    for path in (target, pairs):
        if path is not None:
            say(f"{Path(path)}: written")


_BATTLES = ("id", "model_a", "model_b", "prompt", "response_a", "response_b")
