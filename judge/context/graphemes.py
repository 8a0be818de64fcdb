"""Characters that belong together: a text is cut before or after them, never between."""

from __future__ import annotations

import unicodedata

_JOINER = "\u200d"
# Text that never lets a cluster end (marks heaped on one letter) is cut all the same.
_LONGEST_CLUSTER = 64


def before_cluster(text: str, position: int) -> int:
    """The last place to cut, at `position` or before it, that parts nothing."""
    for candidate in range(position, max(0, position - _LONGEST_CLUSTER), -1):
        if not _within_cluster(text, candidate):
            return candidate
    return position if position > _LONGEST_CLUSTER else 0


def after_cluster(text: str, position: int) -> int:
    """The first place to cut, at `position` or after it, that parts nothing."""
    for candidate in range(position, min(len(text), position + _LONGEST_CLUSTER)):
        if not _within_cluster(text, candidate):
            return candidate
    return position if position + _LONGEST_CLUSTER < len(text) else len(text)


def _within_cluster(text: str, position: int) -> bool:
    """Whether a cut before `position` would part what is read as one character.

    The rules of Unicode's annex 29 that text in the wild meets: line ends, marks, joined and
    toned emoji, flags, Korean syllables written in parts.
    """
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    if after < "\u0300":
        return before == "\r" and after == "\n"
    if after == _JOINER or before == _JOINER or unicodedata.category(after).startswith("M"):
        return True
    if "\U0001f1e6" <= after <= "\U0001f1ff":
        flags = 0
        while flags < position and "\U0001f1e6" <= text[position - 1 - flags] <= "\U0001f1ff":
            flags += 1
            if flags > _LONGEST_CLUSTER:
                break
        return flags % 2 == 1
    return (
        "\U0001f3fb" <= after <= "\U0001f3ff"
        or "\U000e0020" <= after <= "\U000e007f"
        or "\u1160" <= after <= "\u11ff"
        or "\ud7b0" <= after <= "\ud7ff"
    )
