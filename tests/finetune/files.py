"""Small files of battles to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Words enough that texts made of different ones are not near to one another.
_WORDS = """
amber brisk cedar delta ember fjord grove haven inlet jolly knoll lunar maple north
ocean piper quiet river stone tulip umber vivid willow xenon yield zephyr
"""


def say(number: int, words: int = 24) -> str:
    """A text that no other number has."""
    found, known = [], _WORDS.split()
    for place in range(words):
        number = (number * 6364136223846793005 + 1442695040888963407 + place) % 2**63
        found.append(known[(number >> 33) % len(known)])
    return " ".join(found)


def battle(number: int, label: Any = None, **more: Any) -> dict[str, Any]:
    """A row about a prompt that no other number has."""
    row = {
        "id": f"n{number}",
        "prompt": say(3 * number),
        "response_a": say(3 * number + 1),
        "response_b": say(3 * number + 2),
    }
    if label is not None:
        row["winner"] = label
    return row | more


def write(file: Path, rows: Iterable[dict[str, Any]]) -> str:
    """JSON lines; the path as text."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)
