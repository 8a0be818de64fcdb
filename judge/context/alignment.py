"""Two long texts cut into parts that belong together, for policies that judge them part by part."""

from __future__ import annotations

import itertools

import numpy as np

from judge.encoding import Measured, Positions, TokenCounter
from judge.errors import ArenaJudgeError


def aligned(
    texts: tuple[Measured, Measured], room: int, counter: TokenCounter
) -> list[tuple[Measured, Measured]]:
    """Both texts in the fewest parts found, as many of each, with room for the two of a part.

    A part is over the room only where a single character is.
    """
    total = sum(text.count for text in texts)
    least = max(1, -(-total // max(room, 1)))
    if least == 1:
        return [texts]
    edges = [_edges(text, max(1, text.count // (4 * least)), counter) for text in texts]
    slack = 0
    for parts in itertools.count(least):
        cuts = [_nearest(text, edge, parts) for text, edge in zip(texts, edges, strict=True)]
        # What the parts have in the whole texts costs nothing to know, so it is asked first.
        planned = np.diff(cuts[0][1]) + np.diff(cuts[1][1])
        last = parts >= 2 * least + 8
        if not last and planned.max() > room - slack:
            continue
        pieces = [
            counter.measure([text.text[a:b] for a, b in itertools.pairwise(at)])
            for text, (at, _) in zip(texts, cuts, strict=True)
        ]
        longest = max(a.count + b.count for a, b in zip(*pieces, strict=True))
        if last or longest <= room:
            break
        slack += longest - room
    return [(a, b) for a, b in zip(*pieces, strict=True)]


def _nearest(text: Measured, edges: Positions, parts: int) -> tuple[list[int], Positions]:
    """The edges nearest to equal parts of the text, its two ends among them.

    Returns:
        The (parts + 1) characters to cut before, and how many tokens there are before each.
    """
    before = np.searchsorted(text.edges[0], edges, side="left")
    before[-1] = text.count
    wanted = np.arange(parts + 1) * (text.count / parts)
    after = np.clip(np.searchsorted(before, wanted, side="left"), 1, max(len(edges) - 1, 1))
    after = np.minimum(after, len(edges) - 1)
    earlier = np.maximum(after - 1, 0)
    nearest = np.where(wanted - before[earlier] <= before[after] - wanted, earlier, after)
    nearest[0], nearest[-1] = 0, len(edges) - 1
    return edges[nearest].tolist(), before[nearest]


# Where to cut, from best to worst; each leaves the white space with what stands before it.
_SEPARATORS = [r"\n[ \t\r]*\n", r"\n", r"(?<=[.!?…])\s+", r"(?<=[。！？])", r"\s+"]
# A piece of more characters a token than this is not worth counting to know that it is too long.
_DENSEST = 32


def _edges(text: Measured, size: int, counter: TokenCounter) -> Positions:
    """Where a text may be cut: after pieces of about `size` tokens, and at its two ends."""
    try:
        from langchain_text_splitters import RecursiveCharacterTextSplitter
    except ImportError:
        raise ArenaJudgeError(
            "the policy chunks needs langchain-text-splitters; pip install 'arena-judge[prompted]'"
        ) from None

    known = {text.text: text.count}

    def length(piece: str) -> int:
        if len(piece) > _DENSEST * size and piece not in known:
            return len(piece) // _DENSEST + 1
        if piece not in known:
            known[piece] = counter.count(piece)
        return known[piece]

    splitter = RecursiveCharacterTextSplitter(
        separators=_SEPARATORS,
        is_separator_regex=True,
        keep_separator="end",
        strip_whitespace=False,
        chunk_size=size,
        chunk_overlap=0,
        length_function=length,
    )
    ends = np.cumsum([0, *map(len, splitter.split_text(text.text))])
    # A word may be a megabyte long: what is too long for a piece is cut between its tokens.
    before = np.searchsorted(text.edges[0], ends, side="left")
    within = [
        text.head_end(token)
        for first, last in zip(before[:-1].tolist(), before[1:].tolist(), strict=True)
        for token in range(first + size, last, size)
    ]
    return np.unique(np.concatenate([ends, within, [0, len(text.text)]]).astype(np.int64))
