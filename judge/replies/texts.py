"""What a reply says besides its votes: reasons, and a critique of each response."""

from __future__ import annotations

from dataclasses import dataclass

from judge.replies.blocks import block_texts
from judge.replies.items import criterion_of

_REASON = ("reason", "reasoning", "explanation", "rationale", "justification")
_CRITIQUES = {"critiquea": "A", "critiqueb": "B"}


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
