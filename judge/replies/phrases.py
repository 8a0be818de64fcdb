"""The vote that a few words say: `A`, `"B"`, `Response A is better`, `Both are equally good`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from judge.replies.items import Vote

WORDS: Mapping[str, str] = {
    "a": "A",
    "b": "B",
    "ab": "AB",
    "na": "NA",
    "n/a": "NA",
    **dict.fromkeys(("both", "tie", "tied", "draw", "equal", "equally", "same"), "AB"),
    **dict.fromkeys(("neither", "none", "null"), "NA"),
}
"""The words that are votes, in lower case. Both of two is a vote for both, AB; neither is a vote
for neither, and takes evidence away as NA does."""

_OPEN = r"(?:\\(?:boxed|text)\b|[\s\"'`´‘’“”*_(\[{$])*"
_CLOSE = r"[\s\"'`´‘’“”*_)\]}$]*"
_PHRASE = re.compile(
    rf"{_OPEN}(?:"
    rf"(?:the\s+)?(?:response|assistant|answer|model|option|choice|candidate)\s+{_OPEN}(?P<side>[ab])"
    r"|(?P<pair>(?:both\s+)?a\s*(?:and|&|=)\s*b)"
    r"|(?P<void>not\s+applicable|n\.a)"
    rf"|(?:a\s+(?=tie\b|draw\b))?(?P<word>{'|'.join(sorted(WORDS, key=len, reverse=True))})"
    r")(?![\w/])",
    re.IGNORECASE,
)
# What may follow in the same breath, by the vote it follows.
_BETTER = re.compile(r"\s+(?:(?:is|was)\s+(?:the\s+)?)?(?:better|winner|wins|stronger)\b", re.I)
_ALIKE = re.compile(
    r"(?:\s+(?:are|is|responses?|answers?|of\s+them|equal(?:ly)?|good|bad|well|alike))+\b", re.I
)
_NEITHER = re.compile(r"(?:\s+(?:response|answer|of\s+them))+\b", re.IGNORECASE)
_BESIDE = {"A": _BETTER, "B": _BETTER, "AB": _ALIKE, "NA": _NEITHER}
_ONLY_MARKS = re.compile(rf"(?:[.,;:!|]|{_CLOSE[:-1]})*$")
_EXPLAINED = re.compile(
    rf"{_CLOSE}(?P<mark>[–—:;.(|,]|-(?=\s)|(?<=\s)-|\b(?:because|since|as)\b)(?P<why>.*)",
    re.IGNORECASE | re.DOTALL,
)


def phrase(value: str, at: int) -> tuple[Vote, bool] | None:
    """The vote that a phrase says, and whether it says nothing else.

    Args:
        value: a JSON value, a line, or the end of one.
        at: where it begins in the reply.
    """
    found = _PHRASE.match(value)
    if found is None:
        return None
    kind = found.lastgroup or ""
    label = {"pair": "AB", "void": "NA"}.get(kind) or WORDS[found[kind].lower()]
    vote = Vote(label, at + found.start(kind), at + found.end(kind))
    beside = _BESIDE[label].match(value, found.end())
    rest = value[beside.end() if beside else found.end() :]
    if _ONLY_MARKS.match(rest):
        return vote, True
    explained = _EXPLAINED.match(rest)
    if explained is None:
        return None
    if len(explained["why"].split()) < 3:
        # "A, B", "A -> B", "A. B." name two; "A, sometimes" takes back what it says.
        second = phrase(explained["why"].lstrip(" >"), at)
        if explained["mark"] == "," or (second and second[0].label != label):
            return None
    return vote, False
