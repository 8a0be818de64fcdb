"""`arena-judge export`: ballots from one form into another, and a ledger's replies as a table."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import count, say
from judge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_SQLITE = b"SQLite format 3\0"
_TYPES = {
    **dict.fromkeys(("key", "model", "text", "finish"), "str"),
    **dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"), "int64"),
    **dict.fromkeys(("cost", "seconds"), "float64"),
}


@click.command()
@click.argument("source", metavar="BALLOTS|LEDGER")
@click.option("-o", "--output", required=True, metavar="FILE", help="To .csv, .jsonl or .parquet.")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="NAME",
    help="This judge's, or of a ledger this model's; repeatable.",
)
@click.option("--order", type=click.Choice(["ab", "ba"]), help="Those shown in this order.")
@click.option(
    "--readable/--unreadable", "readable", default=None, help="Those with votes, or without."
)
@click.option("--votes-only", is_flag=True, help="Leave the distributions of the votes out.")
@options.force
def export(
    source: str,
    output: str,
    judges: tuple[str, ...],
    order: str | None,
    readable: bool | None,
    votes_only: bool,
    force: bool,
) -> None:
    """Write the ballots in BALLOTS, a file or the folder of a judge that has recorded ones, to
    another file; or the replies in LEDGER, where a judge that asks a model keeps them, with what
    each cost.

    \b
    Example:
      arena-judge export ballots.parquet -o ballots.csv
      arena-judge export ballots.parquet --judge gpt-4 --readable -o gpt-4.parquet
      arena-judge export ledger.sqlite -o replies.jsonl
    """
    if is_database(source):
        if order is not None or readable is not None or votes_only:
            raise click.UsageError(
                "a ledger has replies, and no ballots to choose among; arena-judge score --ballots "
                "writes those, and asks nothing that is in the ledger"
            )
        _export_replies(source, output, judges, force)
        return
    _export_ballots(source, output, judges, order, readable, votes_only, force)


def _export_ballots(
    name: str,
    output: str,
    judges: tuple[str, ...],
    order: str | None,
    readable: bool | None,
    votes_only: bool,
    force: bool,
) -> None:
    source = ballot_source(name)
    target = outputs.target(output, outputs.BALLOTS, inputs=[source], force=force)

    from judge.ballot_files import SHARES, read_ballots, write_ballots
    from judge.ballots import CRITERIA

    table = read_ballots(source)
    missing = [name for name in judges if name not in set(table["judge"])]
    if missing:
        there = ", ".join(sorted(set(table["judge"]))[:10])
        raise InputError(f"has no ballots by {missing[0]!r}", file=name, mend=f"it has {there}")
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


def is_database(name: str) -> bool:
    """Whether a file is SQLite's, as ledgers are."""
    try:
        with open(name, "rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _export_replies(source: str, output: str, models: tuple[str, ...], force: bool) -> None:
    target = outputs.target(output, outputs.REPLIES, inputs=[source], force=force)
    if target.suffix.lower() not in outputs.ENDINGS:
        mend = f"choose a name that ends in {', '.join(outputs.ENDINGS)}"
        raise InputError("has no known ending for replies", file=output, mend=mend)

    import pandas as pd

    from judge.engines.ledger import Entry, Ledger

    there: Counter[str] = Counter()
    with Ledger(source) as ledger, outputs.table_file(target) as file:
        file.append(_replies(pd.DataFrame([], columns=list(Entry._fields))))
        for entries in ledger.entries():
            there.update(entry.model for entry in entries)
            kept = [entry for entry in entries if not models or entry.model in models]
            if kept:
                file.append(_replies(pd.DataFrame(kept)))
        missing = [name for name in models if not there[name]]
        if missing:
            known = ", ".join(sorted(there)[:10]) or "none at all"
            what = f"has no replies by {missing[0]!r}"
            raise InputError(what, file=source, mend=f"it has {known}")
    written = there.total() if not models else sum(there[name] for name in set(models))
    say(f"{_counted(written)} of {there.total():,}")
    say(f"{target}: written")


def _replies(table: pd.DataFrame) -> pd.DataFrame:
    """Entries of a ledger with types that hold even where there are none, and times as text."""
    import pandas as pd

    times = pd.to_datetime(table["time"].astype("float64"), unit="s", utc=True)
    return table.astype(_TYPES).assign(time=times.dt.strftime("%Y-%m-%dT%H:%M:%SZ").astype("str"))


def _counted(replies: int) -> str:
    return "1 reply" if replies == 1 else f"{replies:,} replies"


def ballot_source(name: str) -> str:
    """The file of ballots that a name stands for: itself, or the one in a judge's folder."""
    if not os.path.isdir(name):
        return name
    inside = os.path.join(name, "ballots.parquet")
    if not os.path.isfile(inside):
        mend = "name a file of ballots; arena-judge score --ballots writes one"
        raise InputError("is a folder without ballots", file=name, mend=mend)
    return inside
