"""Prompts: from a YAML file with Jinja text to the messages that ask a model for a ballot.

    prompt = load_prompt("discriminator")        # one of the package's own, or a path
    for criterion in prompt.questions:           # (None,) when one reply votes on all criteria
        messages = prompt.render(texts, "BA", criterion)

A message is put together from three texts, and each sees only what it may depend on: `system`
nothing of the battle, `battle` nothing of the question, `question` nothing of what was said. That
is what makes prefixes shared: the instructions by all battles, everything before the question by
the calls of one battle. The same file gives the words, the JSON schema, the choices and the regular
expression, so that what is asked for and what is decoded cannot differ.

Battle text is data. It goes in by value and is never read as Jinja; the lines around it carry a
nonce that it cannot contain; and what a chat template would take for the end of a message
(`<|im_end|>`, `</s>`) is spaced apart, because servers tokenise it as such wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from importlib import resources
from itertools import count
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import yaml

from judge.ballots import CRITERIA, VOTES
from judge.encoding import BattleText
from judge.engines.base import Message
from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

FORMAT = 1
"""The form of prompt files that this version reads."""

ORDERS = ("AB", "BA")
NONCE_DIGITS = 16

# What each text of a prompt file may speak of.
_VARIABLES = {
    "system": {"criteria", "scale"},
    "battle": {"nonce", "turns"},
    "question": {"criteria", "scale", "criterion", "nonce"},
}
_FLAGS = ("reason", "reference")
_KEYS = {
    *("format", "name", "version", "asks", "reason", "reference", "max_tokens"),
    *("criteria", "scale", "system", "battle", "question"),
}
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

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria that are voted on, be it in one call or one by one."""
        return CRITERIA

    @property
    def questions(self) -> tuple[str | None, ...]:
        """The criterion of each call that a battle takes in one order; None for all at once."""
        return CRITERIA if self.one_by_one else (None,)

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The texts that a reply is one of; None where a reply is a JSON object."""
        return VOTES if self.one_by_one and not self.reason else None

    @property
    def regex(self) -> str | None:
        """What a reply matches, for engines that decode by it; None where a reason is free text."""
        if self.reason:
            return None
        vote = "(?:" + "|".join(VOTES) + ")"
        if self.one_by_one:
            return vote
        return r"\{" + ", ".join(f'"{name}": "{vote}"' for name in CRITERIA) + r"\}"

    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of a reply, with its members in the order they are written; None where a
        reply is one of `choices`."""
        if self.choices is not None:
            return None
        vote = {"type": "string", "enum": list(VOTES)}
        members: dict[str, Any] = {"reason": {"type": "string"}} if self.reason else {}
        members |= dict.fromkeys(("vote",) if self.one_by_one else CRITERIA, vote)
        return {
            "type": "object",
            "properties": members,
            "required": list(members),
            "additionalProperties": False,
        }

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
        if criterion not in self.questions:
            raise ValueError(f"prompt {self.name} asks no question about {criterion}")
        given = self._given(reference)
        nonce = _nonce(texts, given) if "nonce" in self.question else ""
        asked = _question(self, criterion, nonce)
        messages = (Message("user", f"{_battle(self, texts, order, given)}\n{asked}"),)
        return (Message("system", self._instructions), *messages) if self.system else messages

    def prefix(
        self, texts: BattleText, order: str = "AB", reference: str | Sequence[str] | None = None
    ) -> str:
        """A short text that is the same for messages alike up to their question."""
        return f"{self.name}-{self.version}-{_nonce(texts, self._given(reference))}-{order}"

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
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise _bad_template(self.file, key, error) from None
        return filled


def _criterion(name: str, text: str) -> dict[str, str]:
    return {"name": name, "title": name.replace("_", " "), "text": text}


def spaced(text: str) -> str:
    """A text with a space inside what a chat template would take for a special token, so that a
    server reads it as the text it is. Spacing a text again changes nothing."""
    return _SPECIAL.sub(lambda found: found[0] + " ", text)


def load_prompt(name_or_path: str | Path) -> Prompt:
    """Reads a prompt: one of the package's own by its name, any other by its path.

    Raises:
        InputError: there is no such prompt, or the file is none that this version reads.
    """
    named = str(name_or_path)
    if not named.lower().endswith((".yaml", ".yml")) and Path(named).name == named:
        return _own_prompt(named)
    try:
        raw = Path(named).read_bytes()
    except OSError as error:
        why = error.strerror or "cannot be read"
        raise InputError(why, file=named, mend="name a prompt file") from None
    return _parse(raw, named)


def own_prompts() -> list[str]:
    """The names of the prompts that the package brings."""
    files = resources.files("prompts").iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith(".yaml"))


def _own_prompt(name: str) -> Prompt:
    if name not in own_prompts():
        mend = f"take one of {', '.join(own_prompts())}, or the path of a .yaml file"
        raise InputError(f"no prompt is called {name}", mend=mend)
    raw = resources.files("prompts").joinpath(f"{name}.yaml").read_bytes()
    return _parse(raw, f"{name}.yaml")


# --- reading a file -------------------------------------------------------------------------------


def _parse(raw: bytes, file: str) -> Prompt:
    """A prompt from the bytes of its file, checked to the point that rendering cannot fail."""
    found = _mapping(raw, file)
    if found.get("format") != FORMAT:
        said = found.get("format", "missing")
        raise InputError(
            f"format is {said!r:.40}, not {FORMAT}",
            file=file,
            mend="write the file in the form of docs/prompts.md",
        )
    missing = sorted(_KEYS - {"system"} - found.keys())
    unknown = sorted(str(key) for key in found.keys() - _KEYS)
    if missing or unknown:
        what = f"no {', '.join(missing)}" if missing else f"unknown key {', '.join(unknown)}"
        raise InputError(what, file=file, mend=f"the keys are {', '.join(sorted(_KEYS))}")
    if found["asks"] not in ("all", "one"):
        raise InputError("asks is neither 'all' nor 'one'", file=file, mend="write asks: all")
    for key in _FLAGS:
        if not isinstance(found[key], bool):
            raise InputError(f"{key} is neither true nor false", file=file, mend=f"{key}: false")
    longest = found["max_tokens"]
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
        raise InputError("max_tokens is no number from 1", file=file, mend="write a whole number")
    prompt = Prompt(
        name=_text(found, "name", file),
        version=_text(found, "version", file),
        digest=blake2b(raw, digest_size=8).hexdigest(),
        file=file,
        one_by_one=found["asks"] == "one",
        reason=found["reason"],
        reference=found["reference"],
        max_tokens=longest,
        definitions=_entries(found, "criteria", CRITERIA, file),
        scale=_entries(found, "scale", VOTES, file),
        system=_text(found, "system", file) if "system" in found else "",
        battle=_text(found, "battle", file),
        question=_text(found, "question", file),
    )
    _check_templates(prompt)
    return prompt


def _mapping(raw: bytes, file: str) -> dict[Any, Any]:
    try:
        found = yaml.safe_load(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError("not UTF-8", file=file, mend="save it as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or "no YAML").split())
        row = None if mark is None else mark.line + 1
        what = f"bad YAML ({problem})"
        raise InputError(what, file=file, row=row, mend="mend it there") from None
    if not isinstance(found, dict):
        raise InputError("not a mapping of keys", file=file, mend="start from one of the prompts")
    return found


def _text(found: Mapping[str, Any], key: str, file: str) -> str:
    text = found[key]
    if key == "version" and isinstance(text, int | float) and not isinstance(text, bool):
        return str(text)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{key} is no text", file=file, mend=f"write {key}: and its text")
    return text.rstrip("\n") if key != "battle" else text


def _entries(
    found: Mapping[str, Any], key: str, names: tuple[str, ...], file: str
) -> tuple[str, ...]:
    """The texts under `key`, one for each of `names`; the names are not the file's to choose."""
    entries = found[key]
    if not isinstance(entries, dict):
        raise InputError(f"{key} is no mapping", file=file, mend=f"give {', '.join(names)} a text")
    strange = [str(name)[:40] for name in entries if name not in names]
    if strange:
        word = "criterion" if key == "criteria" else "vote"
        mend = f"{key} are {', '.join(names)}" if key == "criteria" else f"use {', '.join(names)}"
        raise InputError(f"unknown {word} {', '.join(strange)}", file=file, mend=mend)
    for name in names:
        if not isinstance(entries.get(name), str) or not entries[name].strip():
            raise InputError(f"{key} has no text for {name}", file=file, mend="write one")
    return tuple(entries[name].strip() for name in names)


def _check_templates(prompt: Prompt) -> None:
    """Finds what would fail at the first battle, or show a model half of it."""
    from jinja2 import TemplateError
    from jinja2.meta import find_undeclared_variables

    for key, allowed in _VARIABLES.items():
        source = getattr(prompt, key)
        try:
            used = find_undeclared_variables(_environment().parse(source))
        except TemplateError as error:
            raise _bad_template(prompt.file, key, error) from None
        if key == "question" and not prompt.one_by_one:
            allowed = allowed - {"criterion"}
        if used - allowed:
            raise InputError(
                f"{key} speaks of {', '.join(sorted(used - allowed))}, which is undefined there",
                file=prompt.file,
                mend=f"{key} knows {', '.join(sorted(allowed))}",
            )
    shown = BattleText(("first q", "last q"), ("first a", "last a"), ("first b", "last b"))
    reference = "known answer" if prompt.reference else None
    for criterion in prompt.questions:
        text = prompt.render(shown, "AB", criterion, reference)[-1].content
    nonce = _nonce(shown, (reference,) if reference else ())
    wanted = [*shown.prompt, *shown.response_a, *shown.response_b, nonce, reference or nonce]
    lost = [part for part in wanted if part not in text]
    if lost:
        what = "the nonce" if lost[0] == nonce else "a turn of the prompt, of A or of B"
        raise InputError(
            f"battle never shows {'the reference' if lost[0] == reference else what}",
            file=prompt.file,
            mend="loop over turns with {{ nonce }} on the lines between, as in discriminator.yaml",
        )


def _bad_template(file: str, key: str, error: Exception) -> InputError:
    line = getattr(error, "lineno", None)
    for frame, number in walk_tb(error.__traceback__):
        if frame.f_code.co_filename == "<template>":
            line = number
    where = f"{key}, line {line}" if line else key
    problem = " ".join(str(error).split())[:160]
    return InputError(f"bad Jinja in {where} ({problem})", file=file, mend="mend it there")


# --- rendering ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
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
    return _environment().from_string(source)


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


# The calls of one battle come one after the other: its text is put together once an order.
@lru_cache(maxsize=16)
def _battle(prompt: Prompt, texts: BattleText, order: str, references: tuple[str, ...]) -> str:
    shown = _shown(texts, order)
    placed = ("",) * (len(shown.prompt) - len(references)) + references
    return prompt.fill("battle", turns=_turns(shown, placed), nonce=_nonce(texts, references))


@lru_cache(maxsize=64)
def _question(prompt: Prompt, criterion: str | None, nonce: str) -> str:
    if criterion is None:
        return prompt.fill("question", nonce=nonce)
    text = prompt.definitions[CRITERIA.index(criterion)]
    return prompt.fill("question", nonce=nonce, criterion=_criterion(criterion, text))


@lru_cache(maxsize=16)
def _nonce(texts: BattleText, references: tuple[str, ...]) -> str:
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
