"""What a command may say to judges, of whichever kind, and how it comes by them.

`@judge_options` gives a command the options and one argument, `judging`. What was said is of use to
one of the judges, or it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import click

from judge.cli.classifier_options import CHUNKS, Running, classifier_options
from judge.cli.prompted_options import Asking, asked_by, prompted_options

if TYPE_CHECKING:
    import pandas as pd

    from judge.judges.base import Judge, Judgments
    from judge.judges.classifier_settings import ClassifierSettings
    from judge.judges.prompted_settings import PromptedSettings

_ASK = "ask a model (endpoint:MODEL, vllm:FOLDER)"
_TUNED = "are fine-tuned (hf:MODEL, a folder that finetune made)"
# Options that both kinds of judges know, and which setting of a fine-tuned one that is.
_BOTH = {"order": "orders", "fit_context": "policy"}
_SPELT = {"base_urls": "base-url"}
# Why a fine-tuned judge may have no use for what was said.
_USELESS = {
    "order": "which is the same in either order",
    "fit_context": "which reads a battle once",
    "gpus": "which takes --device",
    "share_prompt": "whose model can share nothing",
    "template": "which keeps the one that it was trained with",
}


class Tuned(Protocol):
    """What a fine-tuned judge has that others have not, besides being a judge."""

    name: str

    def heeds(self, setting: str) -> bool: ...

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments: ...


def judge_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options; the command gets what was said as `judging`."""

    def gathered(*args: Any, asking: Asking, running: Running, **values: Any) -> None:
        command(*args, **values, judging=Judging(asking, running))

    wrapped: Callable[..., None] = update_wrapper(gathered, command)
    return prompted_options(classifier_options(wrapped))


@dataclass(frozen=True)
class Judging:
    """What the user said to the judges of a run.

    Attributes:
        asking: how models are asked.
        running: how fine-tuned judges are run.
    """

    asking: Asking
    running: Running

    @property
    def dry_run(self) -> bool:
        return self.asking.dry_run

    @property
    def said(self) -> tuple[str, ...]:
        """The options that were given, as they are spelt."""
        return tuple(spelt(name) for name in (*self.asking.said, *self.running.said))

    def settings(self, seed: int) -> tuple[PromptedSettings, ClassifierSettings]:
        """What was said, as settings of either kind."""
        policy = self.asking.said.get("fit_context")
        return self.asking.settings(seed), self.running.settings(self.asking.orders, policy)

    @contextmanager
    def judge(self, specs: tuple[str, ...], seed: int) -> Iterator[Judge]:
        """The judge that is named, or the jury; what it holds is given back at the end.

        Raises:
            click.UsageError: an option that says nothing to it, or a jury of judges that are not
                prompted.
            ArenaJudgeError: it cannot be made.
        """
        from judge.judges import load_judge

        asking, running = self.settings(seed)
        with ExitStack() as stack:
            if len(specs) > 1:
                judge = _jury(specs, asking, stack)
            else:
                judge = stack.enter_context(closing(load_judge(specs[0], asking, running)))
            self.heeded([judge])
            yield judge

    def heeded(self, judges: Sequence[Judge]) -> None:
        """Sees to it that what was said is of use to one of the judges.

        Raises:
            click.UsageError: something is not.
        """
        tuned = tuned_within(judges)
        for name in (*self.asking.said, *self.running.said):
            of_asking = name in self.asking.said
            of_running = not of_asking or name in _BOTH
            if of_asking and any(map(asked_by, judges)):
                continue
            if not (of_running and self._heeds(name, tuned)):
                kinds = [_ASK] * of_asking + [_TUNED] * of_running
                raise _useless(name, " or ".join(kinds), judges, tuned)

    def _heeds(self, name: str, tuned: Sequence[Tuned]) -> bool:
        """Whether a fine-tuned judge has a use for an option."""
        if self.asking.said.get(name) == CHUNKS:
            return False
        if self.running.said.get(name) is False:
            return bool(tuned)  # what cannot be done is not done
        return any(one.heeds(_BOTH.get(name, name)) for one in tuned)

    def to_keep(self, judges: Sequence[Judge], folder: Path, seed: int) -> dict[str, object]:
        """What judge.yaml in `folder` is to say of how these judges, which it is made of, are asked
        and run; what was not said is left out."""
        from judge.judges import classifier_settings, prompted_settings

        asking, running = self.settings(seed)
        kept: dict[str, object] = {}
        if any(map(asked_by, judges)) and (asked := prompted_settings.to_keep(asking, folder)):
            kept["asking"] = asked
        if tuned_within(judges) and (run := classifier_settings.to_keep(running)):
            kept["running"] = run
        return kept


def spelt(name: str) -> str:
    """An option's name as it is on the command line."""
    return "--" + _SPELT.get(name, name).replace("_", "-")


def tuned_within(judges: Sequence[Judge]) -> list[Tuned]:
    """The fine-tuned judges among judges and among those that they are made of."""
    from judge.judges.leaves import leaves

    return [cast(Tuned, one) for one in leaves(judges) if hasattr(one, "heeds")]


def votes_expected(judge: Judge) -> None:
    """Sees to it, before battles are read, that a judge is not one of those that never vote.

    Raises:
        ArenaJudgeError: it is made of fine-tuned judges alone.
    """
    from judge.errors import ArenaJudgeError
    from judge.judges.leaves import leaves

    if len(tuned_within([judge])) == len(leaves([judge])):
        raise ArenaJudgeError(f"{judge.name} is fine-tuned and fills in no ballots")


def _useless(
    name: str, who: str, judges: Sequence[Judge], tuned: Sequence[Tuned]
) -> click.UsageError:
    names = ", ".join(judge.name for judge in judges) or "none is named"
    if name in _USELESS and tuned:
        own = ", ".join(one.name for one in tuned)
        return click.UsageError(f"{spelt(name)} says nothing to {own}, {_USELESS[name]}")
    return click.UsageError(f"{spelt(name)} is for judges that {who}: {names}")


def _jury(specs: tuple[str, ...], settings: PromptedSettings, stack: ExitStack) -> Judge:
    from judge.judges.jury import Jury
    from judge.judges.prompted_settings import is_prompted, make_prompted

    other = next((spec for spec in specs if not is_prompted(spec)), None)
    if other is not None:
        raise click.UsageError(
            f"a jury has judges endpoint:MODEL and vllm:FOLDER only, and {other} is none"
        )
    return Jury([stack.enter_context(closing(make_prompted(spec, settings))) for spec in specs])
