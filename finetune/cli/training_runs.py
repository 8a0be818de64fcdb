"""What the commands that train have in common: how a run is watched, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from judge.cli.console import Progress, count, duration, say, table

if TYPE_CHECKING:
    from finetune.folds.folders import Course, Taught
    from finetune.measuring.scoring import Score
    from finetune.runs.making import Made
    from finetune.training.curves import Point

_NEEDED = ("torch", "transformers", "safetensors")
MEASURED = ("number", "log loss", "95 %", "accuracy")
"""Columns of what was measured; see `measured`."""


def needs() -> None:
    """Sees to it that what training takes is installed.

    Raises:
        ArenaJudgeError: something is not.
    """
    from judge.classifier.hardware import needed

    for package in _NEEDED:
        needed(package)


class Watch:
    """Shows how a run goes."""

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks
        self._progress: Progress | None = None
        self._words = ""
        self._loss = 0.0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *about: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)

    def say(self, line: str) -> None:
        """One line."""
        if self._speaks:
            say(line)

    def begin(self, tokens: int) -> None:
        """So many tokens are to come."""
        if self._speaks:
            self._progress = Progress("tokens", tokens, more=lambda: self._words)

    def __call__(self, tokens: int, point: Point, speed: float, share: float | None) -> None:
        smooth = 0.9 if self._loss else 0.0
        self._loss = smooth * self._loss + (1 - smooth) * point.loss
        used = "" if share is None else f", MFU {share:.0%}"
        self._words = f", step {point.step:,}, loss {self._loss:.3f}{used}"
        if self._progress is not None:
            self._progress.advance(tokens)
        if point.dev_log_loss is not None:
            if self._progress is not None:
                self._progress.__exit__(None, None, None)
            self.say(
                f"step {point.step:,} (epoch {point.epoch:.2f}): loss {self._loss:.4f}, "
                f"dev log loss {point.dev_log_loss:.4f}"
            )


def tell(made: Made, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Says what a run came to, and in JSON what more there is."""
    outcome = made.outcome
    if as_json:
        found = {
            "output": str(made.folder),
            "steps": outcome.steps,
            "planned": outcome.planned,
            "best_step": outcome.best_step,
            "resumed_after": outcome.resumed,
            "tokens": outcome.tokens,
            "seconds": round(outcome.seconds, 2),
            "mfu": None if outcome.share is None else round(outcome.share, 4),
            "parameters": made.parameters,
            "learning": made.learning,
            "measured": {one.name: one.settings() for one in made.scores},
            **(more or {}),
        }
        click.echo(json.dumps(found, allow_nan=False))
    elif made.scores:
        rows = [(one.name, *measured(one)) for one in made.scores]
        for line in table(("battles", *MEASURED), rows):
            click.echo(line)
    for note in made.notes:
        say(f"note: {note}")
    early = "" if outcome.steps == outcome.planned else f" of {outcome.planned:,}"
    say(
        f"{made.folder}: written; {count(outcome.steps, 'step')}{early}, the weights after "
        f"step {outcome.best_step:,}, {outcome.tokens:,} tokens in {duration(outcome.seconds)}"
    )


def measured(one: Score) -> tuple[str, ...]:
    """The cells of `MEASURED`."""
    interval = "-" if one.low != one.low else f"[{one.low:.4f}, {one.high:.4f}]"
    return f"{one.battles:,}", f"{one.log_loss:.4f}", interval, f"{one.accuracy:.1%}"


def measured_fold(one: Taught) -> tuple[str, ...]:
    """The cells of a fold's judge, its fold's name first."""
    if one.score is None:
        return (f"fold {one.fold}", "not measured", *[""] * (len(MEASURED) - 1))
    return (one.score.name, *measured(one.score))


def fold_dict(one: Taught) -> dict[str, Any]:
    """What is told of a fold's judge in JSON."""
    score = {} if one.score is None else one.score.settings()
    return {"fold": one.fold, "folder": str(one.folder), "new": one.new, **score}


def tell_rest(course: Course[Any]) -> None:
    """Says what there is to say of the judges of folds beside their table."""
    for one in course.taught:
        for note in one.notes:
            say(f"note: fold {one.fold}: {note}")
    made = sum(one.new for one in course.taught)
    left = f"; still missing: fold {', '.join(map(str, course.missing))}" if course.missing else ""
    say(
        f"{course.folder}: {count(made, 'judge')} made, {len(course.taught) - made} kept{left}"
        + ("" if course.whole is None else f"; out of fold log loss {course.whole.log_loss:.4f}")
    )
