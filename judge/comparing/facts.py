"""What a battle is like, whatever a judge says of it: what judges are compared by slices of.

    read_labelled(file, judges, facts=battle_facts)

keeps these columns of every battle, a batch at a time; the texts themselves are let go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.battles import MODELS
from judge.comparing.language import UNKNOWN, language, named
from judge.files.labelling import VOTES
from judge.files.rows import as_text

Turns = tuple[str, ...]

CATEGORY = "category"
LANGUAGE = "language"
_LONGEST_NAME = 80

# How much of a text is looked at for code, and of a response for its language.
_CODE_CHARACTERS = 4000
_HEAD = 300
_FENCE = "```"
_LINES = 3
# Lines that are set in and end as a line of code does.
_SET_IN = re.compile(r"^(?: {2,}|\t)[^\n]*[;{}:(,\])]$", re.MULTILINE)
_STATEMENT = re.compile(
    r"^[ \t]*(?:def \w+\(|class \w+[:({ ]|import \w|from [\w.]+ import |#include\s*[<\"]|"
    r"(?:public|private|static) |function \w*\(|(?:const|let|var) \w+ ?=|SELECT [^\n]* FROM |"
    r"return [^\n]*;|for ?\(|if ?\(|while ?\(|</?(?:html|div|script|body|head)\b|\$ sudo )",
    re.MULTILINE,
)
_ASKS = (
    "python javascript typescript java kotlin golang rust ruby php perl haskell matlab scala sql "
    "mysql postgres postgresql sqlite html css json xml yaml regex bash powershell dockerfile "
    "kubernetes react django flask numpy pandas pytorch tensorflow leetcode coding programming "
    "refactor debug c++ c#"
)
_CODE = re.compile(r"(\w*)\s*\bcode\b")
_OTHERS = "dress zip postal bar morse qr area promo penal building civil"
_ASKED, _OTHER_CODES = frozenset(_ASKS.split()), frozenset(_OTHERS.split())
_TOKEN = re.compile(r"[a-z]+[+#]*")


def battle_facts(battles: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """What is known of each battle of a batch.

    Args:
        battles: a battle table (see `judge.battles`).
        columns: further columns of the file to keep, as text.

    Returns:
        A row a battle, with

        - `turns`: how many;
        - `prompt_characters`, `a_characters`, `b_characters`;
        - `length_difference`: log of A's characters over B's (each plus one), above 0 where A is
          the longer; swapping the responses changes its sign;
        - `language`: an ISO 639-1 code, from the file's column if it has one, else by the prompt,
          and where that tells nothing by the responses;
        - `code`: whether the battle is about code;
        - `category`, `model_a`, `model_b`: text or None, None throughout where the file has none;
        - `votes_a`, `votes_b`, `votes_tie`: how many people chose each, NaN where nobody says;
        - the further columns, None throughout where the file has none.
    """
    texts = [battles[name].tolist() for name in ("prompt", "response_a", "response_b")]
    facts: dict[str, npt.NDArray[Any]] = {"turns": np.array([*map(len, texts[0])], dtype=np.int64)}
    for side, column in zip(("prompt", "a", "b"), texts, strict=True):
        facts[f"{side}_characters"] = _lengths(column)
    a, b = facts["a_characters"], facts["b_characters"]
    facts["length_difference"] = np.log1p(a) - np.log1p(b)
    facts[LANGUAGE] = _languages(battles, texts)
    facts["code"] = np.array([about_code(*battle) for battle in zip(*texts, strict=True)], bool)
    for name in dict.fromkeys((CATEGORY, *MODELS, *columns)):
        if name not in facts:
            facts[name] = _names(battles, name)
    for name in VOTES:
        facts[name] = _numbers(battles, name)
    # Objects stay objects: what pandas would make of one batch may differ from the next.
    return pd.DataFrame(
        {name: pd.Series(values, dtype=values.dtype) for name, values in facts.items()}
    )


def lengths_and_votes(battles: pd.DataFrame) -> pd.DataFrame:
    """Of all that `battle_facts` tells, what costs next to nothing: `a_characters`, `b_characters`,
    `length_difference` and the votes."""
    a, b = (_lengths(battles[name].tolist()) for name in ("response_a", "response_b"))
    facts: dict[str, npt.NDArray[Any]] = {"a_characters": a, "b_characters": b}
    facts["length_difference"] = np.log1p(a) - np.log1p(b)
    return pd.DataFrame(facts | {name: _numbers(battles, name) for name in VOTES})


def about_code(prompt: Turns, response_a: Turns, response_b: Turns) -> bool:
    """Whether a prompt asks about code, or a text has some: a fence, or lines that look like it."""
    if any(_asks_for_code(turn[:_CODE_CHARACTERS].lower()) for turn in prompt):
        return True
    return any(_has_code(turn) for text in (prompt, response_a, response_b) for turn in text)


def _asks_for_code(text: str) -> bool:
    if not _ASKED.isdisjoint(_TOKEN.findall(text)):
        return True
    if "code" not in text:
        return False
    return any(found[1] not in _OTHER_CODES for found in _CODE.finditer(text))


def _has_code(text: str) -> bool:
    if _FENCE in text:
        return True
    head = text[:_CODE_CHARACTERS]
    if "\n" not in head:
        return False
    found = _at_least(_STATEMENT.finditer(head), _LINES)
    return found or _at_least(_SET_IN.finditer(head), 2 * _LINES)


def _at_least(found: Iterable[object], number: int) -> bool:
    return any(place == number for place, _ in enumerate(found, 1))


def _lengths(texts: Sequence[Turns]) -> npt.NDArray[np.int64]:
    return np.array([sum(map(len, turns)) for turns in texts], dtype=np.int64)


def _languages(battles: pd.DataFrame, texts: Sequence[Sequence[Turns]]) -> npt.NDArray[np.object_]:
    """What the file says, or the texts."""
    stated = _names(battles, LANGUAGE)
    found = [
        _of_battle(*battle) if said is None else named(said)
        for said, *battle in zip(stated, *texts, strict=True)
    ]
    return np.array(found, dtype=object)


def _of_battle(prompt: Turns, response_a: Turns, response_b: Turns) -> str:
    """Of the prompt; where it is too short to tell, of the responses if they agree."""
    asked = language("\n".join(prompt)) if prompt else UNKNOWN
    if asked != UNKNOWN:
        return asked
    answered = {language("\n".join(turn[:_HEAD] for turn in r)) for r in (response_a, response_b)}
    answered.discard(UNKNOWN)
    return answered.pop() if len(answered) == 1 else UNKNOWN


def _names(battles: pd.DataFrame, column: str) -> npt.NDArray[np.object_]:
    """(N,) a column's cells as text, None where there is nothing."""
    names = np.full(len(battles), None, dtype=object)
    if column in battles.columns:
        for place, cell in enumerate(battles[column].tolist()):
            text = as_text(cell)
            names[place] = (text or "").strip()[:_LONGEST_NAME] or None
    return names


def _numbers(battles: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    if column not in battles.columns:
        return np.full(len(battles), np.nan)
    return battles[column].to_numpy(dtype=np.float64)
