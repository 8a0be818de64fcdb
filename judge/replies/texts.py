"""What a reply says besides its votes: reasons, and a critique of each response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from judge.ballots import CRITERIA, VERDICT
from judge.replies.blocks import block_texts
from judge.replies.items import criterion_of
from judge.replies.strict import members

_REASON = ("reason", "reasoning", "explanation", "rationale", "justification")
_CRITIQUES = {"critiquea": "A", "critiqueb": "B"}
_PLAIN = frozenset((*CRITERIA, VERDICT, "reason", "critique_a", "critique_b"))


@dataclass(frozen=True)
class Texts:
    """The free text of a reply, as it is written: in order BA, its A is the battle's B.

    Attributes:
        reason: one for all votes; empty for none.
        reasons: by criterion, those that are there.
        critiques: by the response's letter, those that are there.
    """

    reason: str
    reasons: dict[str, str]
    critiques: dict[str, str]


def read_texts(reply: str) -> Texts:
    """The texts in the JSON of a reply, where several blocks have some those of the last."""
    plain = members(reply)
    if plain is not None and all(key in _PLAIN for key in plain):
        return _plain_texts(plain)
    found = Texts("", {}, {})
    for leaves in block_texts(reply, max(0, reply.rfind("</think>"))):
        reason, reasons, critiques = "", {}, {}
        for path, value in leaves.items():
            name = criterion_of(path[-2]) if len(path) > 1 else ""
            letters = "".join(filter(str.isalpha, path[-1]))
            if path[-1] in _REASON and name:
                reasons[name] = value.strip()
            elif path[-1] in _REASON and len(path) == 1:
                reason = value.strip()
            elif letters in _CRITIQUES:
                critiques[_CRITIQUES[letters]] = value.strip()
        if reason or reasons or critiques:
            found = Texts(reason, reasons, critiques)
    return found


def _plain_texts(found: dict[str, Any]) -> Texts:
    """Of a reply whose members have the names that were asked for."""
    reasons = {}
    for criterion in CRITERIA:
        said = found.get(criterion)
        reason = dict(said).get("reason") if isinstance(said, list) else None
        if isinstance(reason, str):
            reasons[criterion] = reason.strip()
    critiques = {side: found.get(f"critique_{side.lower()}") for side in "AB"}
    reason = found.get("reason")
    return Texts(
        reason.strip() if isinstance(reason, str) else "",
        reasons,
        {side: said.strip() for side, said in critiques.items() if isinstance(said, str)},
    )
