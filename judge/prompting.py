"""Prompts: what a model is shown of a battle, and the messages that ask it for a ballot.

    prompt = load_prompt("discriminator")        # see judge.prompt_files
    for criterion in prompt.questions:           # (None,) when one reply votes on all criteria
        messages = prompt.render(texts, "BA", criterion)

A message is put together from three texts, and each sees only what it may depend on: `system`
nothing of the battle, `battle` nothing of the question, `question` nothing of what was said. That
is what makes prefixes shared: the instructions by all battles, everything before the question by
the calls of one battle. The same prompt gives the words, the JSON schema, the choices and the
regular expression, so that what is asked for and what is decoded cannot differ.

Battle text is data. It goes in by value and is never read as Jinja; the lines around it carry a
nonce that it cannot contain; and what a chat template would take for the end of a message
(`<|im_end|>`, `</s>`) is spaced apart, because servers tokenise it as such wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import count
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from judge.ballots import CRITERIA, VERDICT, VERDICTS, VOTES
from judge.encoding import BattleText
from judge.engines.base import Message
from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

ORDERS = ("AB", "BA")
NONCE_DIGITS = 16
CRITIQUES = ("critique_a", "critique_b")
"""The members of a reply that speak of each response, where that is asked for."""

# What filling in a text may raise beside Jinja's own errors.
_FAULTS = (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, MemoryError)
# Tokens that chat templates end and begin messages with, in the spellings of the models in use.
_SPECIAL = re.compile(
    r"<(?=[|｜][^<>\n]{1,64}[|｜]>)|\[(?=\|[^\[\]\n]{1,64}\|\]|/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS)\])"
    r"|<(?=/?s>|(?:bos|eos|pad|unk|start_of_turn|end_of_turn|start_of_image|turn\||\|turn)>"
    r"|(?:SPECIAL|extra_id)_\d{1,4}>)"
)


@dataclass(frozen=True)
class Prompt:
    """How a model is asked for votes.

    Attributes:
        name: what the prompt is called in judge folders and tables.
        version: of its words.
        digest: of the file's content.
        file: where it was read, for messages.
        one_by_one: whether a call asks for one criterion; else for all of them.
        reason: whether a reply gives its reason before its votes.
        reference: whether it shows a reference answer.
        max_tokens: where a reply is cut.
        definitions: what each criterion means, in the order of `CRITERIA`.
        scale: what each vote means, in the order of `VOTES`.
        system, battle, question: Jinja text.
        reasons: whether each vote has a reason of its own before it.
        verdict: whether a reply ends with which response is better on the whole.
        critique: whether it begins with what is good and bad in each response.
        typical_tokens: how long replies mostly are, for estimates; None for `max_tokens`.
    """

    name: str
    version: str
    digest: str
    file: str
    one_by_one: bool
    reason: bool
    reference: bool
    max_tokens: int
    definitions: tuple[str, ...]
    scale: tuple[str, ...]
    system: str
    battle: str
    question: str
    reasons: bool = False
    verdict: bool = False
    critique: bool = False
    typical_tokens: int | None = None

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria that are voted on, be it in one call or one by one."""
        return CRITERIA

    @property
    def questions(self) -> tuple[str | None, ...]:
        """The criterion of each call that a battle takes in one order; None for all at once."""
        return CRITERIA if self.one_by_one else (None,)

    def check_question(self, criterion: str | None) -> None:
        """Raise a ValueError that says what to name if the prompt has no such question."""
        if criterion in self.questions:
            return
        about = "all criteria at once" if criterion is None else f"{criterion} alone"
        mend = f"name one: {', '.join(CRITERIA)}" if self.one_by_one else "name no criterion"
        raise ValueError(f"prompt {self.name} asks no question about {about}; {mend}")

    @property
    def writes(self) -> bool:
        """Whether there is free text in a reply."""
        return self.reason or self.reasons or self.critique

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The texts that a reply is one of; None where a reply is a JSON object."""
        return VOTES if self.one_by_one and not self.reason else None

    @property
    def regex(self) -> str | None:
        """What a reply matches, for engines that decode by it; None where a reason is free text."""
        if self.writes:
            return None
        vote = "(?:" + "|".join(VOTES) + ")"
        if self.one_by_one:
            return vote
        members = [f'"{name}": "{vote}"' for name in CRITERIA]
        if self.verdict:
            members.append(f'"{VERDICT}": "(?:{"|".join(VERDICTS)})"')
        return r"\{" + ", ".join(members) + r"\}"

    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of a reply, with its members in the order they are written; None where a
        reply is one of `choices`."""
        if self.choices is not None:
            return None
        text = {"type": "string"}
        vote: dict[str, Any] = {"type": "string", "enum": list(VOTES)}
        if self.reasons:
            vote = _object({"reason": text, "vote": vote})
        members: dict[str, Any] = dict.fromkeys(CRITIQUES, text) if self.critique else {}
        members |= {"reason": text} if self.reason else {}
        members |= dict.fromkeys(("vote",) if self.one_by_one else CRITERIA, vote)
        if self.verdict:
            members[VERDICT] = {"type": "string", "enum": list(VERDICTS)}
        return _object(members)

    def render(
        self,
        texts: BattleText,
        order: str = "AB",
        criterion: str | None = None,
        reference: str | Sequence[str] | None = None,
    ) -> tuple[Message, ...]:
        """The messages that ask about a battle.

        Args:
            texts: the battle as it stands in the file.
            order: BA shows response B as A.
            criterion: what is asked for where that is one thing a call.
            reference: the reference answer; one text belongs to the last turn.

        Raises:
            ArenaJudgeError: a reference is needed and there is none.
            ValueError: the criterion or the order is none of the prompt's.
        """
        self.check_question(criterion)
        given = self._given(reference)
        nonce = battle_nonce(texts, given) if "nonce" in self.question else ""
        asked = _question(self, criterion, nonce)
        messages = (Message("user", f"{_battle(self, texts, order, given)}\n{asked}"),)
        return (Message("system", self._instructions), *messages) if self.system else messages

    def prefix(
        self, texts: BattleText, order: str = "AB", reference: str | Sequence[str] | None = None
    ) -> str:
        """A short text that is the same for messages alike up to their question."""
        return f"{self.name}-{self.version}-{battle_nonce(texts, self._given(reference))}-{order}"

    def _given(self, reference: str | Sequence[str] | None) -> tuple[str, ...]:
        """The reference answers that are shown."""
        if not self.reference:
            return ()
        given = (reference,) if isinstance(reference, str) else tuple(reference or ())
        if not any(text.strip() for text in given):
            raise ArenaJudgeError(f"prompt {self.name} needs a reference answer, and there is none")
        return given

    @cached_property
    def _criteria(self) -> list[dict[str, str]]:
        return [_criterion(*entry) for entry in zip(CRITERIA, self.definitions, strict=True)]

    @cached_property
    def _scale(self) -> list[dict[str, str]]:
        return [{"vote": vote, "text": text} for vote, text in zip(VOTES, self.scale, strict=True)]

    @cached_property
    def _instructions(self) -> str:
        return self.fill("system")

    def fill(self, key: str, **values: object) -> str:
        """One of the prompt's texts with its criteria, its scale and the values given."""
        from jinja2 import TemplateError

        try:
            template = _template(getattr(self, key))
            filled: str = template.render(values, criteria=self._criteria, scale=self._scale)
        except (TemplateError, *_FAULTS) as error:
            raise bad_template(self.file, key, error) from None
        return filled


def _object(members: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def _criterion(name: str, text: str) -> dict[str, str]:
    return {"name": name, "title": name.replace("_", " "), "text": text}


def spaced(text: str) -> str:
    """A text with a space inside what a chat template would take for a special token, so that a
    server reads it as the text it is. Spacing a text again changes nothing."""
    return _SPECIAL.sub(lambda found: found[0] + " ", text)


# --- rendering ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def environment() -> ImmutableSandboxedEnvironment:
    """Where prompts are read: without files, without Python's insides, nothing undefined."""
    try:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ArenaJudgeError(
            "prompts need jinja2, which is not installed; pip install 'arena-judge[prompted]'"
        ) from None
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # the reader is a model, and battle text is shown as it is
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@lru_cache(maxsize=64)
def _template(source: str) -> Any:
    return environment().from_string(source)


def _shown(texts: BattleText, order: str) -> BattleText:
    if order not in ORDERS:
        raise ValueError(f"order {order} is neither AB nor BA")
    a, b = texts.response_a, texts.response_b
    return BattleText(texts.prompt, *((b, a) if order == "BA" else (a, b)))


def _turns(texts: BattleText, references: tuple[str, ...]) -> list[dict[str, str]]:
    """The battle turn by turn; a side that says nothing in a turn has an empty text there."""
    sides = (texts.prompt, texts.response_a, texts.response_b, references)
    number = max(len(side) for side in sides)
    rows = zip(*(side + ("",) * (number - len(side)) for side in sides), strict=True)
    names = ("prompt", "a", "b", "reference")
    return [dict(zip(names, map(spaced, row), strict=True)) for row in rows]


def bad_template(file: str, key: str, error: BaseException) -> InputError:
    """What is wrong with a Jinja text, and in which line of it."""
    line = getattr(error, "lineno", None)
    for frame, number in walk_tb(error.__traceback__):
        if frame.f_code.co_filename == "<template>":
            line = number
    where = f"{key}, line {line}" if line else key
    problem = " ".join(str(error).split())[:160] or "it takes too much memory"
    return InputError(f"bad Jinja in {where} ({problem})", file=file, mend="mend it there")


# The calls of one battle come one after the other: its text is put together once an order.
@lru_cache(maxsize=16)
def _battle(prompt: Prompt, texts: BattleText, order: str, references: tuple[str, ...]) -> str:
    shown = _shown(texts, order)
    placed = ("",) * (len(shown.prompt) - len(references)) + references
    return prompt.fill("battle", turns=_turns(shown, placed), nonce=battle_nonce(texts, references))


@lru_cache(maxsize=64)
def _question(prompt: Prompt, criterion: str | None, nonce: str) -> str:
    if criterion is None:
        return prompt.fill("question", nonce=nonce)
    text = prompt.definitions[CRITERIA.index(criterion)]
    return prompt.fill("question", nonce=nonce, criterion=_criterion(criterion, text))


@lru_cache(maxsize=16)
def battle_nonce(texts: BattleText, references: tuple[str, ...]) -> str:
    """The mark of a battle: the same in each run and in both orders, and in none of its texts."""
    responses = sorted((texts.response_a, texts.response_b))
    return draw_nonce([texts.prompt, *responses, references])


def draw_nonce(sides: Iterable[Sequence[str]], digits: int = NONCE_DIGITS) -> str:
    """Hexadecimal digits that stand in none of the texts, drawn from the texts by a keyed hash.

    A text would have to contain its own hash to hold the first draw; if it does, the next draw is
    as determined as the first.
    """
    texts = [text for side in sides for text in (*side, "")]
    drawn = blake2b(key=b"arena-judge battle nonce")
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        drawn.update(len(raw).to_bytes(8, "big") + raw)

    def nonce(draw: int) -> str:
        again = drawn.copy()
        again.update(draw.to_bytes(8, "big"))
        # Longer after a while: texts can hold every number of few digits.
        return again.hexdigest()[: digits + draw // 64]

    return next(mark for mark in map(nonce, count()) if not any(mark in text for text in texts))
