"""Who writes what is to be annotated before it can be: responses, and reference answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from synth.cli.annotators import annotators

if TYPE_CHECKING:
    import pandas as pd

    from judge.engines.base import Engine, Parameters
    from judge.judges.prompted_settings import PromptedSettings
    from synth.costs import Cost
    from synth.writing import Written
    from synth.writing_prompts import WritingPrompt

    Asked = tuple[Engine, Parameters]


@dataclass(frozen=True)
class Writers:
    """Models that write.

    Attributes:
        responses: by the models' names in the battles.
        reference: who writes references, if anybody does.
        response_prompt, reference_prompt: how they are asked.
    """

    responses: Mapping[str, Asked]
    reference: Asked | None
    response_prompt: WritingPrompt
    reference_prompt: WritingPrompt

    def __bool__(self) -> bool:
        return bool(self.responses) or self.reference is not None

    @property
    def engines(self) -> list[Engine]:
        """All that are asked."""
        asked = [*self.responses.values(), *([self.reference] if self.reference else [])]
        return [engine for engine, _ in asked]

    def write(self, battles: pd.DataFrame, tick: Callable[[], None] | None = None) -> Written:
        """Has written what is missing of the battles."""
        import pandas as pd

        from synth.writing import Written, write_references, write_responses

        done = write_responses(battles, self.responses, self.response_prompt, tick)
        if self.reference is None:
            return done
        more = write_references(done.battles, *self.reference, self.reference_prompt, tick)
        records = pd.concat([done.records, more.records], ignore_index=True)
        return Written(more.battles, records, more.failed | done.failed)

    def stop(self) -> None:
        """Ends what is being written, in all threads."""
        for engine in self.engines:
            engine.close()

    def costs(self, tables: Callable[[], Iterator[pd.DataFrame]], prices: str | None) -> list[Cost]:
        """What their part will cost; asks nothing."""
        from synth.writing_costs import reference_cost, writing_costs

        found: list[Cost] = []
        if self.responses:
            found += writing_costs(tables(), self.responses, self.response_prompt, prices)
        if self.reference is not None:
            prompt = self.reference_prompt
            found.append(reference_cost(tables(), *self.reference, prompt, prices))
        return found


@contextmanager
def writers(
    models: Sequence[str],
    reference: str | None,
    settings: PromptedSettings,
    budgets: Sequence[float | None] | None = None,
) -> Iterator[Writers]:
    """The models that a plan has write responses, and the one that writes references, each with
    what it may spend; what they hold is given back at the end.

    Raises:
        ArenaJudgeError: one cannot be made.
    """
    from judge.judges.prompted_settings import is_prompted
    from synth.writing_prompts import REFERENCE, RESPONSE, load_writing

    prompts = load_writing(RESPONSE), load_writing(REFERENCE)
    named = [*models, *([reference] if reference else [])]
    shares = budgets or [settings.max_cost] * len(named)
    asked: list[Asked] = []
    with ExitStack() as stack:
        for place, (name, most) in enumerate(zip(named, shares, strict=True)):
            spec = name if is_prompted(name) else f"endpoint:{name}"
            prompt = prompts[place >= len(models)]
            # A recipe's own way to be asked for ballots is nothing to a writer.
            made = annotators([spec], replace(settings, max_cost=most))
            (judge,) = stack.enter_context(made)
            parameters = prompt.parameters(judge.asking.model, seed=settings.seed)
            asked.append((judge.engine, parameters))
        responses = dict(zip(models, asked, strict=False))
        yield Writers(responses, asked[-1] if reference else None, *prompts)
