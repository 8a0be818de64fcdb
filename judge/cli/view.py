"""`arena-judge view`: a local page to browse battles, see what judges said, and label them oneself.

The battles are read once, a batch at a time, into temporary files; the page asks for what it shows.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import Progress, clean, count, duration, expected_rows, say
from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from judge.view.index import Index, Predictions
    from judge.view.votes import Votes

_NEEDED = ("fastapi", "uvicorn", "markdown_it", "nh3")
_ENDINGS = (".csv", ".jsonl", ".parquet", ".gz", ".zst", ".zip")
_LOOPBACK = "127.0.0.1"
# A long text is held several times over while it is read, so batches are short.
_BATCH = 1024


@click.command()
@click.argument("predictions", nargs=-1, required=True, metavar="[NAME=]PREDICTIONS...")
@click.argument("battles")
@click.option("--ballots", metavar="FILE", help="Show the votes by criterion in this file.")
@click.option(
    "--labels",
    "labels_file",
    default="my-labels.csv",
    show_default=True,
    metavar="FILE",
    help="Keep your own labels here.",
)
@click.option("--host", default=_LOOPBACK, show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option("--no-browser", is_flag=True, help="Only print the page's address.")
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON lines on standard output, for tools.")
def view(
    predictions: tuple[str, ...],
    battles: str,
    ballots: str | None,
    labels_file: str,
    host: str,
    port: int,
    no_browser: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Browse BATTLES in a web browser beside what was predicted of them, and label them yourself.

    The page shows both responses side by side, filters (most surprising, least sure, judges
    disagree, unjudged), searches, and takes a label by one key. Labels are saved at once;
    `arena-judge compare` reads the file.

    \b
    Example:
      arena-judge view predictions.csv battles.csv
      arena-judge view small=p1.csv large=p2.csv battles.csv --ballots votes.parquet
    """
    _check_installed()
    from judge.files.atomic import check_writable
    from judge.view.browsing import Browser
    from judge.view.label_file import LabelFile
    from judge.view.serving import serve

    named = _named(predictions)
    inputs = [battles, *(file for _, file in named), *([ballots] if ballots else [])]
    target = outputs.target(labels_file, outputs.PREDICTIONS, inputs=inputs, force=force)
    own = LabelFile(target)
    check_writable(target)
    began = time.monotonic()
    index, votes = _index(battles, named, ballots)
    say(
        f"{count(len(index), 'battle')} read in {duration(time.monotonic() - began)}; "
        f"your labels go to {target}, which has {count(len(own), 'label')}"
    )
    if host != _LOOPBACK:
        say(f"note: who can reach {host} and has the address below can read the battles")

    def announce(address: str) -> None:
        if as_json:
            click.echo(json.dumps({"url": address, "battles": len(index)}))
        else:
            click.echo(address)
            say("Ctrl-C ends it")

    browser = Browser(index, own, votes)
    try:
        serve(browser, host, port, announce, show=not no_browser)
    finally:
        index.texts.close()
    given = {"given": browser.given, "labels": len(own), "file": str(target)}
    if as_json:
        click.echo(json.dumps(given))
    total = f"{target} has {count(len(own), 'label')}" if len(own) else f"no labels in {target}"
    say(f"ended; saved {count(browser.given, 'time')}, {total}")


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name.replace("_", "-") for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ArenaJudgeError(
            f"view needs {', '.join(missing)}, not installed; pip install 'arena-judge[serve]'"
        )


def _named(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Each file of predictions with its name: NAME=FILE, or the file's own without its ending."""
    named: list[tuple[str, str]] = []
    for argument in arguments:
        name, given, file = argument.partition("=")
        # A path may hold "=" itself.
        if not (given and name and file) or os.path.exists(argument):
            name, file = Path(argument).name, argument
            for ending in reversed(Path(argument).suffixes):
                name = name.removesuffix(ending) if ending.lower() in _ENDINGS else name
        if clean(name) in [other for other, _ in named]:
            what = f"two files of predictions are called {clean(name)!r}"
            raise InputError(what, mend="tell them apart: NAME=PREDICTIONS")
        named.append((clean(name), file))
    return named


def _index(
    battles: str, named: Sequence[tuple[str, str]], ballots: str | None
) -> tuple[Index, Votes | None]:
    from judge.view.index import Index, lay_beside, read_texts, repeated

    ids, labels, texts = read_texts(_tables(battles))
    laid: list[Predictions] = []
    for name, file in named:
        laid.append(lay_beside(ids, name, file))
        missing = sum(1 for place in laid[-1].places if place < 0)
        if missing:
            say(f"{file}: {count(missing, 'battle')} not in it, shown as unjudged")
    votes = _votes(ballots, ids) if ballots else None
    twice = repeated(ids)
    if twice:
        say(
            f"note: {count(len(twice), 'id')} stand for more than one battle; such battles cannot "
            "be labelled"
        )
    return Index(battles, ids, twice, labels, tuple(laid), texts), votes


def _tables(battles: str) -> Iterator[pd.DataFrame]:
    from judge.battles import iter_battles
    from judge.files.turns import TEXTS
    from judge.predictions import COLUMNS

    try:
        with Progress("battles", *expected_rows(battles)) as progress:
            for table in iter_battles(battles, chunk_rows=_BATCH):
                yield table
                progress.advance(len(table))
    except InputError as error:
        if error.column in TEXTS and "is missing" in str(error) and _has(battles, COLUMNS):
            what = "has predictions, where battles are expected"
            mend = "the battles come last: arena-judge view PREDICTIONS... BATTLES"
            raise InputError(what, file=battles, mend=mend) from None
        raise


def _has(file: str, columns: Sequence[str]) -> bool:
    from contextlib import closing

    from judge.files.rows import stream_rows

    try:
        with closing(stream_rows(file, required=columns, chunk_rows=1)) as rows:
            return next(rows, None) is not None
    except InputError:
        return False


def _votes(file: str, ids: Sequence[str]) -> Votes:
    from judge.ballot_files import read_ballots
    from judge.view.votes import Votes

    votes = Votes(read_ballots(file), ids)
    if not len(votes):
        raise InputError(
            "none of its ids is among the battles", file=file, column="id", mend="is it the file?"
        )
    if votes.unknown:
        say(f"{file}: {count(votes.unknown, 'ballot')} for no battle here, left out")
    return votes
