"""What the annotators of a plan will cost, said when it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judge.judges.prompted import PromptedJudge
    from judge.judges.prompted_settings import PromptedSettings
    from synth.costs import Cost
    from synth.plans import Plan


def checked(settings: Mapping[str, Any]) -> None:
    """Sees to it, before any work is done, that what a plan says of its annotators can be done.

    Raises:
        ArenaJudgeError: an annotator, the prompt or the prices cannot be used.
        click.UsageError: an annotator asks no model.
    """
    from judge.engines.pricing import load_prices
    from judge.prompt_files import load_prompt

    if "prompt" in settings:
        load_prompt(settings["prompt"])
    if "prices" in settings:
        load_prices(settings["prices"])
    with _annotators(settings):
        pass


def plan_costs(plan: Plan) -> list[Cost]:
    """What a plan's writers and annotators will cost, none of them being asked anything."""
    from synth.cli.todo import Todo, costs_of

    named, writers = (tuple(plan.settings.get(key) or ()) for key in ("annotators", "writers"))
    if not named:
        return []
    return costs_of(Todo(plan, plan.size, named, writers, None), _asked(plan.settings))


@contextmanager
def _annotators(settings: Mapping[str, Any]) -> Iterator[Sequence[PromptedJudge]]:
    """The annotators that a plan names; there may be none."""
    from synth.cli.annotators import annotators

    named = settings.get("annotators")
    if not named:
        yield ()
        return
    with annotators(named, replace(_asked(settings), dry=True)) as made:
        yield made


def _asked(settings: Mapping[str, Any]) -> PromptedSettings:
    """How annotators are asked, as far as a plan says it."""
    from judge.cli.prompted_options import Asking
    from synth.cli.annotators import settings_of

    return settings_of(settings, Asking({}), 0, critique=False, reference=False)
