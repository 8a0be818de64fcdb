"""Reasons and critiques that fit a ballot: of the same order, or such as hold in either.

What a model says in words of A and B is true in the order that it was shown. Turning a vote around
is easy, turning a sentence around is not: so texts are taken from a reply to the other order only
where they name neither response by its letter or place.
"""

from __future__ import annotations

import re

from judge.ballots import CRITERIA
from judge.prompting import Prompt
from judge.replies import Texts, read_texts
from synth.data import BALLOT_REASON
from synth.exporting.records import Record

# A letter or digit of a script that writes A and B for A and B: what stands beside them in Chinese
# or Japanese (`回答A更好`) is none.
_BESIDE = "A-Za-z0-9À-ɏА-яЁёＡ-Ｚａ-ｚ"
# In Latin, wide and Cyrillic letters. An article "A" is taken for the letter.
_LETTER = re.compile(rf"(?<![{_BESIDE}])[ABＡＢАБВ](?![{_BESIDE}])")
_PLACE = re.compile(
    rf"(?<![{_BESIDE}])(?:"
    r"(?:response|answer|assistant|model|option|candidate|reply)[\s_:#(*\"'`-]*(?:[ab12]|one|two)"
    r"|first|second|1st|2nd|former|latter|left|right-?\s?hand|previous|preceding"
    r"|erste[rns]?|zweite[rns]?|premi(?:er|ère)|seconde?|deuxième|primer[ao]?|segund[ao]"
    rf")(?![{_BESIDE}])"
    r"|第[一二12]|前者|后者|後者|перв|втор|첫|두\s?번째",
    re.IGNORECASE,
)


def names_a_side(text: str) -> bool:
    """Whether a text may speak of a response by its letter or its place; rather yes than no."""
    return _LETTER.search(text) is not None or _PLACE.search(text) is not None


def texts_for(record: Record, prompt: Prompt, order: str) -> Texts | None:
    """The texts that a prompt asks for, from a record, as they are of the battle in an order; None
    where the record has not all of them, or they speak of the other order."""
    said = read_texts(record.texts.get("reply", ""))
    if _whole(said, prompt):
        if record.order == order:
            return said
        return _from_other_order(said, record, prompt)
    columns = Texts(
        record.texts.get(BALLOT_REASON, ""),
        {c: text for c in CRITERIA if (text := record.texts.get(f"{c}_reason"))},
        {s: text for s in "AB" if (text := record.texts.get(f"critique_{s.lower()}"))},
    )
    if not _whole(columns, prompt):
        return None
    if record.order == order == "AB":
        return columns
    neutral = not any(map(names_a_side, _asked(columns, prompt)))
    return (_swapped(columns) if order == "BA" else columns) if neutral else None


def _from_other_order(said: Texts, record: Record, prompt: Prompt) -> Texts | None:
    """The texts of a reply turned around, if that can be done."""
    if any(map(names_a_side, _asked(said, prompt))):
        return None
    if not prompt.critique:
        return said
    return _swapped(said) if record.order else None  # whose critique is whose?


def _swapped(said: Texts) -> Texts:
    other = {"A": "B", "B": "A"}
    return Texts(said.reason, said.reasons, {other[s]: t for s, t in said.critiques.items()})


def _asked(said: Texts, prompt: Prompt) -> list[str]:
    """The texts that the prompt asks for; "" for those that are not there."""
    found = [said.reason] if prompt.reason and not prompt.one_by_one else []
    if prompt.reasons or (prompt.reason and prompt.one_by_one):
        found += [said.reasons.get(name, "") for name in CRITERIA]
    if prompt.critique:
        found += [said.critiques.get(side, "") for side in "AB"]
    return found


def _whole(said: Texts, prompt: Prompt) -> bool:
    return all(_asked(said, prompt))
