"""Markdown out of what files say: whatever a name or a reason holds is shown and does nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_LONGEST = 200
# What begins or ends something within a line of Markdown, in the extensions of GitHub and Hugging
# Face, or in the HTML that they let through. An underline within a word does neither.
_ACTIVE = re.compile(r"([\\`*\[\]<>#|~$&@]|:(?=\S)|(?<![^\W_])_|_(?![^\W_]))")
_WEB = re.compile(r"\bwww\.", re.IGNORECASE)


def plain(text: object, longest: int = _LONGEST) -> str:
    """A text on one line without control and format characters, cut where it is long."""
    shown = str(text)[: 8 * longest]
    kept = "".join(
        character if unicodedata.category(character)[0] != "C" else " " * character.isspace()
        for character in shown
    )
    line = " ".join(kept.split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def escaped(text: object, longest: int = _LONGEST) -> str:
    """A text as it stands within a line of Markdown."""
    line = _ACTIVE.sub(r"\\\1", plain(text, longest))
    return _WEB.sub(lambda found: found[0][:-1] + r"\.", line)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table; the header is ours, the cells are anybody's."""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    lines += [f"| {' | '.join(escaped(cell) or '-' for cell in row)} |" for row in rows]
    return lines
