"""What a student is asked: its prompt, and the messages about a battle.

The messages are those that the prompted judge sends (see `judge.judges.prompted`), so that what a
student learns to answer is what it will be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from judge.encoding import BattleText
from judge.engines.base import Message
from judge.errors import InputError
from judge.files.turns import TEXTS
from judge.judges.prompted import REFERENCE, reference_turns
from judge.prompt_files import load_prompt, own_prompts
from judge.prompting import Prompt
from synth.data import AnnotatedSet

VOTES_ONLY = "discriminator"

Reference = tuple[str, ...] | None


@dataclass(frozen=True)
class Asked:
    """A battle as a student is asked about it.

    Attributes:
        id: the battle's.
        place: in the set's table.
        texts: as they stand in the file.
        reference: the reference answer, where the prompt shows one.
    """

    id: str
    place: int
    texts: BattleText
    reference: Reference

    def messages(
        self, prompt: Prompt, order: str, criterion: str | None = None
    ) -> list[dict[str, str]]:
        """The messages that ask about it."""
        found = prompt.render(self.texts, order, criterion, self.reference)
        return [_plain(message) for message in found]

    def lacks_reference(self, prompt: Prompt) -> bool:
        """Whether it cannot be asked for want of a reference answer."""
        return prompt.reference and not any(map(str.strip, self.reference or ()))


def student_prompt(
    data: AnnotatedSet, named: str | None = None, *, votes_only: bool = False
) -> tuple[Prompt, str | None]:
    """The prompt that a student is asked with, and what there is to say of the choice.

    Args:
        data: the set.
        named: a prompt's name or file; by default the one that the annotators had, if a student
            can be asked with it, else the discriminator.
        votes_only: take no prompt by default that asks for reasons.

    Raises:
        InputError: there is no such prompt, or it shows reference answers and there are none.
    """
    if named is not None:
        prompt = load_prompt(named)
        if prompt.reference and not _has_references(data):
            what = f"prompt {prompt.name} shows reference answers, and the battles have none"
            raise InputError(what, column=REFERENCE, mend="take another --prompt")
        return prompt, None
    found = annotators_prompt(data)
    if found is None:
        return load_prompt(VOTES_ONLY), None
    name, digest = found
    instead = f"the student is asked with {VOTES_ONLY}"
    if name not in own_prompts():
        note = (
            f"the annotators' prompt {name} is a file of its own: {instead}; or name it: --prompt"
        )
        return load_prompt(VOTES_ONLY), note
    prompt = load_prompt(name)
    if prompt.reference and not _has_references(data):
        note = f"the annotators were shown reference answers, which a student has not: {instead}"
        return load_prompt(VOTES_ONLY), note
    if votes_only and prompt.writes:
        return load_prompt(VOTES_ONLY), f"only votes can be turned around: {instead}"
    if digest and digest != prompt.digest:
        return prompt, f"the prompt {name} has changed since the annotators were asked with it"
    return prompt, None


def annotators_prompt(data: AnnotatedSet) -> tuple[str, str] | None:
    """The name and digest of the prompt that most records were asked with; None if none says."""
    table = data.annotations
    if "prompt" not in table.columns:
        return None
    digests = table["prompt_digest"] if "prompt_digest" in table.columns else table["prompt"]
    pairs = zip(table["prompt"].tolist(), digests.tolist(), strict=True)
    counts: dict[tuple[str, str], int] = {}
    for name, digest in pairs:
        if isinstance(name, str) and name:
            known = digest if isinstance(digest, str) and digests is not table["prompt"] else ""
            counts[name, known] = counts.get((name, known), 0) + 1
    return max(counts, key=lambda pair: (counts[pair], pair)) if counts else None


def battles_asked(
    data: AnnotatedSet, prompt: Prompt, tick: Callable[[int], None] | None = None
) -> Iterator[Asked]:
    """The battles of a set, in their order; `tick` is told when one is done with."""
    table = data.battles
    cells = table[REFERENCE].tolist() if REFERENCE in table.columns else [None] * len(table)
    columns = (table[name].tolist() for name in ("id", *TEXTS))
    for place, (name, *turns, cell) in enumerate(zip(*columns, cells, strict=True)):
        reference = reference_turns(cell) if prompt.reference else None
        yield Asked(name, place, BattleText(*turns), reference)
        if tick is not None:
            tick(1)


def _has_references(data: AnnotatedSet) -> bool:
    if REFERENCE not in data.battles.columns:
        return False
    found = (reference_turns(cell) for cell in data.battles[REFERENCE].tolist())
    return any(any(map(str.strip, turns)) for turns in found if turns)


def _plain(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
