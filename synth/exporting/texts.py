"""Reasons and critiques that fit a ballot: of the same order, or such as hold in either.

What a model says in words of A and B is true in the order that it was shown. Turning a vote around
is easy, turning a sentence around is not: so a text is taken from a reply to the other order only
where it names neither response by its letter or place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from judge.ballots import CRITERIA
from judge.prompting import Prompt
from judge.replies import Texts, read_texts
from synth.data import BALLOT_REASON
from synth.exporting.records import Record, Votes, asked_votes

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
    """The texts that a prompt asks for, from one record, as they are of the battle in an order;
    None where it has not all of them."""
    said = shown_texts(record, order)
    return said if _whole(said, prompt) else None


def agreeing_texts(
    prompt: Prompt, target: Votes, records: Sequence[Record], order: str
) -> Texts | None:
    """The texts that a prompt asks for, from replies that say what they are to go with.

    They come from the reply of this order that agrees most, the first of several. Where it votes
    otherwise on a criterion, the reason for that one is of the next reply that does not; critiques
    are of a reply with the same verdict; and a reason for all votes of one with all of them. The
    other order comes after this one, with what holds in both.

    Args:
        prompt: what is asked for.
        target: the votes that the texts go with, of the battle in the file.
        records: of the battle.
        order: how it is shown.

    Returns:
        None where some of the texts are not to be had.
    """
    asked = asked_votes(prompt) if not prompt.one_by_one else tuple(range(len(CRITERIA)))

    def rank(record: Record) -> tuple[bool, int]:
        agreed = sum(record.votes[place] == target[place] for place in asked)
        return record.order != order, -agreed

    found = Texts("", {}, {})
    for record in sorted(records, key=rank):
        said = shown_texts(record, order)
        same = [record.votes[place] == target[place] for place in asked]
        for name, agrees in zip(CRITERIA, same, strict=False):
            if agrees and name in said.reasons:
                found.reasons.setdefault(name, said.reasons[name])
        critiques, reason = found.critiques, found.reason
        if not critiques and (same[-1] if prompt.verdict else all(same)):
            critiques = said.critiques if len(said.critiques) == len("AB") else {}
        found = Texts(reason or (said.reason if all(same) else ""), found.reasons, critiques)
        if _whole(found, prompt):
            return found
    return None


def shown_texts(record: Record, order: str) -> Texts:
    """The texts of a record that hold of the battle in an order, as they are of it there."""
    said = read_texts(record.texts.get("reply", ""))
    if said.reason or said.reasons or said.critiques:
        return said if record.order == order else _neutral(said, bool(record.order))
    columns = Texts(
        record.texts.get(BALLOT_REASON, ""),
        {c: text for c in CRITERIA if (text := record.texts.get(f"{c}_reason"))},
        {s: text for s in "AB" if (text := record.texts.get(f"critique_{s.lower()}"))},
    )
    if record.order == order == "AB":
        return columns
    # Critiques stand under the response in the file that they are of; what reasons call A is what
    # was shown as A, and that is not known here.
    kept = _neutral(columns, known=True)
    if order == "AB":
        return Texts(kept.reason, kept.reasons, _swapped(kept.critiques))
    return kept


def _neutral(said: Texts, known: bool) -> Texts:
    """The texts of the other order that hold in this one; `known` if whose critique is whose is."""
    return Texts(
        "" if names_a_side(said.reason) else said.reason,
        {name: text for name, text in said.reasons.items() if not names_a_side(text)},
        {s: t for s, t in _swapped(said.critiques).items() if known and not names_a_side(t)},
    )


def _swapped(critiques: dict[str, str]) -> dict[str, str]:
    return {"B" if side == "A" else "A": text for side, text in critiques.items()}


def _whole(said: Texts, prompt: Prompt) -> bool:
    """Whether all that the prompt asks for is there."""
    needed = [said.reason] if prompt.reason and not prompt.one_by_one else []
    if prompt.reasons or (prompt.reason and prompt.one_by_one):
        needed += [said.reasons.get(name, "") for name in CRITERIA]
    if prompt.critique:
        needed += [said.critiques.get(side, "") for side in "AB"]
    return all(needed)
