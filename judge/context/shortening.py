"""A text too long for its room: which part stays, a note of how much went, and a fair division of
the room between several.
"""

from __future__ import annotations

from collections.abc import Sequence

from judge.encoding import Measured, shortened

# Which end of a text stays; of `ENDS` both.
HEAD, TAIL, ENDS = "head", "tail", "ends"


def _marker(keep: str, tokens: int) -> str:
    note = f"[{tokens:,} tokens left out]"
    return {HEAD: f" {note}", TAIL: f"{note} ", ENDS: f"\n{note}\n"}[keep]


def shorten(text: Measured, tokens: int, keep: str) -> tuple[str, int]:
    """A text cut to at most `tokens` tokens, what says so counted among them.

    Args:
        keep: `head`, `tail`, or `ends` for both with the middle left out.

    Returns:
        The text, and how many of its tokens are not in it.
    """
    if text.count <= tokens:
        return text.text, 0
    size = len(text.text)

    def kept(room: int) -> tuple[int, int]:
        after = room if keep == TAIL else room // 2 if keep == ENDS else 0
        return text.head_end(room - after), text.tail_start(after)

    def lost(end: int, start: int) -> int:
        return text.count - text.tokens_between(0, end) - text.tokens_between(start, size)

    def assembled(room: int) -> str:
        end, start = kept(room)
        return f"{text.text[:end]}{_marker(keep, lost(end, start))}{text.text[start:]}"

    marked = tokens - text.excess(_marker(keep, text.count), 0)
    room, piece = shortened(marked, assembled, lambda piece: text.excess(piece, tokens))
    if room:
        return piece, lost(*kept(room))
    # Too little room to say that something is missing; it is on the ballot all the same.
    piece = text.tail(tokens) if keep == TAIL else text.head(tokens)
    start = size - len(piece) if keep == TAIL else 0
    return piece, text.count - text.tokens_between(start, start + len(piece))


def shares(lengths: Sequence[int], weights: Sequence[int], room: int) -> list[int]:
    """What of a room each length gets when it is poured in by weight and none gets too much.

    Equal lengths of equal weight get equal shares, so what is left over, less than the sum of the
    weights, is nobody's.
    """
    if sum(lengths) <= room:
        return list(lengths)
    low, high = 0, max(lengths)  # every share at most level x weight; low fits, high does not
    while high - low > 1:
        level = (low + high) // 2
        if sum(map(min, lengths, (weight * level for weight in weights))) <= room:
            low = level
        else:
            high = level
    return [min(length, weight * low) for length, weight in zip(lengths, weights, strict=True)]
