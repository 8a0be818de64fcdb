"""Token ids made to fit: the policies of the prompted judge, carried out on ids.

`judge.context.policies` says how many tokens each text gets and which end of it stays; here that is
done. Room for what says that something is missing is taken from the text it stands in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from judge.context.policies import POLICIES as ALL
from judge.context.policies import Lengths, Planned
from judge.context.shortening import ENDS, TAIL
from judge.errors import ArenaJudgeError

Ids = npt.NDArray[np.int32]
Texts = tuple[Ids, Ids, Ids]
"""The prompt's turn and both answers to it."""

POLICIES = ("longest-first", "proportional", "head-tail", "recent")

# A text so short that its mark would be more than a quarter of it does without.
_MARKED = 4


def load_planned(name: str) -> Planned:
    """The policy of a name.

    Raises:
        ArenaJudgeError: there is none, or it is one that asks for several sequences a battle.
    """
    found = ALL.get(name)
    if name not in POLICIES or not isinstance(found, Planned):
        there = ", ".join(POLICIES)
        raise ArenaJudgeError(f"a classifier has no policy {name!r}; there are {there}")
    return found


def cut_to(
    rounds: Sequence[Texts], policy: Planned, room: int, turn_overhead: int, mark: Ids
) -> tuple[list[Texts], int]:
    """The rounds that stay, in at most `room` ids with `turn_overhead` for each of them.

    Args:
        rounds: one at least; they do not fit as they are.
        policy: what stays.
        mark: stands where ids are missing within a text.

    Returns:
        What stays, and how many ids do not.
    """
    lengths: list[Lengths] = [(len(p), len(a), len(b)) for p, a, b in rounds]
    plans = policy.plan(lengths, room, turn_overhead)
    left = sum(map(sum, lengths))
    kept: list[Texts] = []
    for at in sorted(plans):
        tokens, keep = plans[at]
        texts = []
        for ids, many, end in zip(rounds[at], tokens, keep, strict=True):
            shown, stayed = shortened(ids, many, end, mark)
            texts.append(shown)
            left -= stayed
        kept.append((texts[0], texts[1], texts[2]))
    return kept, left


def shortened(ids: Ids, tokens: int, keep: str, mark: Ids) -> tuple[Ids, int]:
    """Exactly `tokens` of the ids, the mark counted among them, if there are more.

    Args:
        keep: `head`, `tail` or `ends` (see `judge.context.shortening`).
        mark: stands where ids are missing, unless that leaves too few others.

    Returns:
        The ids with the mark, and how many of them are the text's.
    """
    if len(ids) <= tokens:
        return ids, len(ids)
    if tokens <= _MARKED * len(mark):
        mark = mark[:0]
    room = tokens - len(mark)
    after = room if keep == TAIL else room // 2 if keep == ENDS else 0
    head, tail = ids[: room - after], ids[len(ids) - after :]
    return np.concatenate([head, mark, tail]), room
