"""What the annotators of a plan will cost, said when it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judge.judges.prompted import PromptedJudge
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


def costs_of(plan: Plan) -> list[Cost]:
    """What each annotator will cost, none of them being asked anything; nothing of what models have
    to write first."""
    from synth.costs import annotation_cost

    with _annotators(plan.settings) as made:
        return [annotation_cost(one, plan.tables(), plan.settings.get("prices")) for one in made]


@contextmanager
def _annotators(settings: Mapping[str, Any]) -> Iterator[Sequence[PromptedJudge]]:
    """The annotators that a plan names; there may be none."""
    from judge.cli.prompted_options import Asking
    from synth.cli.annotators import annotators, settings_of

    named = settings.get("annotators")
    if not named:
        yield ()
        return
    asked = settings_of(settings, Asking({}), 0, critique=False, reference=False)
    with annotators(named, replace(asked, dry=True)) as made:
        yield made
