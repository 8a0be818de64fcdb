"""Annotation by batch files: what waits is sent, what came back is collected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from judge.cli.console import count, fit, say, table

if TYPE_CHECKING:
    from judge.engines.batch import BatchEngine, Collected, Progress
    from judge.judges.prompted import PromptedJudge

_INCOMPLETE = 3
_SAID = 5
_HEADER = ("file", "model", "status", "requests", "answered", "failed")


def collect_batches(made: Sequence[PromptedJudge]) -> None:
    """Puts into the ledger what has come back since the last time."""
    for engine in _engines(made):
        _tell_collected(engine.collect())


def send_batches(made: Sequence[PromptedJudge], waiting: int, *, wait: bool) -> None:
    """Sends what waits, and with `wait` sees to it that it is answered; else ends the command.

    Args:
        made: the annotators.
        waiting: how many of their records wait.
        wait: for replies.

    Raises:
        click.exceptions.Exit: there is nothing more to be done now.
    """
    engines = _engines(made)
    for engine in engines:
        engine.submit()
    _tell(engines)
    came = 0
    if wait:
        for engine in engines:
            collected = engine.wait(tell=_tell_progress)
            _tell_collected(collected)
            came += collected.replies
    if not came:
        say(f"{count(waiting, 'record')} waiting; the same command again collects the replies")
        raise click.exceptions.Exit(_INCOMPLETE)


def _engines(made: Sequence[PromptedJudge]) -> list[BatchEngine]:
    from judge.engines.batch import BatchEngine

    return [one.engine for one in made if isinstance(one.engine, BatchEngine)]


def _tell(engines: Sequence[BatchEngine]) -> None:
    rows = [
        (
            each.name,
            each.model,
            each.status,
            f"{each.rows:,}",
            f"{each.completed:,}",
            f"{each.failed:,}",
        )
        for engine in engines
        for each in engine.progress().files
    ]
    if rows:
        click.echo("\n".join(table(_HEADER, rows, left=3)))
    for engine in engines:
        for note in engine.notes:
            say(f"note: {note}")
        engine.notes.clear()


def _tell_progress(progress: Progress) -> None:
    done = progress.completed + progress.failed
    said = f"{progress.pending:,} batches under way, {done:,} of {progress.total:,} requests done"
    say(said)


def _tell_collected(collected: Collected) -> None:
    if collected.replies:
        say(f"collected {count(collected.replies, 'reply').replace('replys', 'replies')}")
    for message, number in collected.errors.items():
        say(f"{count(number, 'request')} failed: {fit(message, 200)}")
    odd = {
        "could not be read": collected.garbled + collected.truncated,
        "answered what was not asked": collected.unknown,
        "answered twice": collected.duplicates,
    }
    for what, number in odd.items():
        if number:
            say(f"{count(number, 'line')} {what}")
    for fault in collected.faults[:_SAID]:
        say(fit(fault, 200))
