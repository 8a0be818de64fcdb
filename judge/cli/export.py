"""`arena-judge export`: ballots from one form into another, and those only that are wanted."""

from __future__ import annotations

import os

import click

from judge.cli import options, outputs
from judge.cli.console import count, say
from judge.errors import InputError


@click.command()
@click.argument("ballots")
@click.option("-o", "--output", required=True, metavar="FILE", help="To .csv, .jsonl or .parquet.")
@click.option("--judge", "judges", multiple=True, metavar="NAME", help="This judge's; repeatable.")
@click.option("--order", type=click.Choice(["ab", "ba"]), help="Those shown in this order.")
@click.option(
    "--readable/--unreadable", "readable", default=None, help="Those with votes, or without."
)
@click.option("--votes-only", is_flag=True, help="Leave the distributions of the votes out.")
@options.force
def export(
    ballots: str,
    output: str,
    judges: tuple[str, ...],
    order: str | None,
    readable: bool | None,
    votes_only: bool,
    force: bool,
) -> None:
    """Write the ballots in BALLOTS, a file or the folder of a judge that has recorded ones, to
    another file.

    \b
    Example:
      arena-judge export ballots.parquet -o ballots.csv
      arena-judge export ballots.parquet --judge gpt-4 --readable -o gpt-4.parquet
    """
    source = ballot_source(ballots)
    target = outputs.target(output, outputs.BALLOTS, inputs=[source], force=force)

    from judge.ballot_files import SHARES, read_ballots, write_ballots
    from judge.ballots import CRITERIA

    table = read_ballots(source)
    missing = [name for name in judges if name not in set(table["judge"])]
    if missing:
        there = ", ".join(sorted(set(table["judge"]))[:10])
        raise InputError(f"has no ballots by {missing[0]!r}", file=ballots, mend=f"it has {there}")
    kept = table
    if judges:
        kept = kept[kept["judge"].isin(judges)]
    if order is not None:
        kept = kept[kept["order"] == order.upper()]
    if readable is not None:
        kept = kept[kept[list(CRITERIA)].notna().any(axis=1) == readable]
    if votes_only:
        kept = kept.drop(columns=list(SHARES))
    write_ballots(target, kept.reset_index(drop=True))
    say(f"{count(len(kept), 'ballot')} of {len(table):,}")
    say(f"{target}: written")


def ballot_source(name: str) -> str:
    """The file of ballots that a name stands for: itself, or the one in a judge's folder."""
    if not os.path.isdir(name):
        return name
    inside = os.path.join(name, "ballots.parquet")
    if not os.path.isfile(inside):
        mend = "name a file of ballots; arena-judge score --ballots writes one"
        raise InputError("is a folder without ballots", file=name, mend=mend)
    return inside
