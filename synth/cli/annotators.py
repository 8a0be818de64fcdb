"""Who annotates, as the command line and the plan say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from judge.cli.prompted_options import Asking

if TYPE_CHECKING:
    from judge.judges.prompted import PromptedJudge
    from judge.judges.prompted_settings import PromptedSettings

# What a plan may say of how to ask, and which setting that is.
_PLANNED = {"prompt": str, "orders": tuple, "samples": int, "base_urls": tuple, "prices": str}

annotator = click.option(
    "--annotator",
    "specs",
    multiple=True,
    metavar="JUDGE",
    help="Who annotates: endpoint:MODEL, vllm:FOLDER or the .yaml of a prompted judge; several "
    "annotate side by side.  [default: those of the plan]",
)


def annotation_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what may be said of annotations beside how a model is asked."""
    for option in (
        click.option(
            "--critique", is_flag=True, help="Have a critique of each response written first."
        ),
        click.option(
            "--reference",
            metavar="JUDGE",
            help="Have a reference answer written first, by endpoint:MODEL or vllm:FOLDER, and "
            "shown with the battle.",
        ),
        annotator,
    ):
        command = option(command)
    return command


def settings_of(
    planned: Mapping[str, Any], asking: Asking, seed: int, *, critique: bool, reference: bool
) -> PromptedSettings:
    """How annotators are asked: as the command line says, else the plan, else with the prompt for
    annotations."""
    settings = asking.settings(seed)
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in planned.items()
        if name in _PLANNED and name not in settings.said and value not in (None, [], "")
    }
    settings = replace(settings, **known, said=settings.said | known.keys())
    if "prompt" in settings.said:
        if critique or reference:
            other = "--critique" if critique else "--reference"
            raise click.UsageError(
                f"{other} chooses a prompt, and --prompt {settings.prompt} is chosen; leave one out"
            )
        return settings
    name = ("critiqued" if critique else "annotated") + ("_referenced" if reference else "")
    return replace(settings, prompt=name, said=settings.said | {"prompt"})


@contextmanager
def annotators(
    specs: Sequence[str],
    settings: PromptedSettings,
    budgets: Sequence[float | None] | None = None,
) -> Iterator[list[PromptedJudge]]:
    """The annotators that are named, each with what it may spend; what they hold is given back at
    the end.

    Raises:
        click.UsageError: none is named, one twice, or one that asks no model.
        ArenaJudgeError: one cannot be made.
    """
    from judge.judges import load_judge
    from judge.judges.prompted import PromptedJudge

    if not specs:
        raise click.UsageError("nobody is named to annotate; add --annotator endpoint:MODEL")
    made: list[PromptedJudge] = []
    with ExitStack() as stack:
        for spec, most in zip(specs, budgets or [settings.max_cost] * len(specs), strict=True):
            own = replace(settings, max_cost=most, batch=_folder(settings.batch, len(made), specs))
            judge = stack.enter_context(closing(load_judge(spec, own)))
            if not isinstance(judge, PromptedJudge):
                raise click.UsageError(
                    f"{spec} asks no model, so it writes no annotations; name endpoint:MODEL, "
                    "vllm:FOLDER or the .yaml of a prompted judge"
                )
            if judge.name in [one.name for one in made]:
                raise click.UsageError(f"two annotators are called {judge.name}; name each once")
            made.append(judge)
        yield made


def _folder(batch: str | None, place: int, specs: Sequence[str]) -> str | None:
    """Where an annotator's batch files are: several have a folder each."""
    return batch if batch is None or len(specs) == 1 else f"{batch}/annotator-{place + 1}"
