"""What to keep of a conversation that is too long: policies, one small object each in `POLICIES`.

Each keeps its room to the token and gives A and B the same treatment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import ClassVar, NamedTuple

from judge.context.alignment import aligned
from judge.context.fitted import Cut, Fitted, Round
from judge.context.shortening import ENDS, HEAD, TAIL, shares, shorten
from judge.encoding import BattleText, TokenCounter
from judge.errors import ArenaJudgeError

# The fewest tokens that three texts can be judged by, and the fewest that a round is worth when
# there are others.
LEAST = 48
LEAST_ROUND = 80

# How a round's room is shared by prompt, A and B: 20, 40 and 40 percent.
_WEIGHTS = (1, 2, 2)


class Policy(ABC):
    """What to keep of a conversation that is too long.

    Attributes:
        name: how it is called on the command line.
    """

    name: ClassVar[str]

    @abstractmethod
    def fit(
        self, rounds: Sequence[Round], room: int, turn_overhead: int, counter: TokenCounter
    ) -> list[Fitted]:
        """Texts of at most `room` tokens, `turn_overhead` added for each round of them.

        Args:
            rounds: the conversation, one round at least.
            room: `LEAST` and one round's overhead, or more.
        """


class _Plan(NamedTuple):
    """How many tokens each text of a round gets, and which end of a text too long is kept."""

    tokens: tuple[int, int, int]
    keep: tuple[str, str, str]


# A question may stand at either end of a prompt; an answer is read from its beginning.
_READ = (ENDS, HEAD, HEAD)


def _carried_out(rounds: Sequence[Round], plans: dict[int, _Plan]) -> list[Fitted]:
    """The conversation as planned; rounds without a plan are left out."""
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    cut = [0, 0, 0]
    for at, turn in enumerate(rounds):
        for side, text in enumerate(turn):
            if at in plans:
                shown, lost = shorten(text, plans[at].tokens[side], plans[at].keep[side])
                columns[side].append(shown)
                cut[side] += lost
            else:
                cut[side] += text.count
    texts = BattleText(*(tuple(column) for column in columns))
    return [
        Fitted(
            texts,
            Cut(cut[0], cut[1], cut[2], len(rounds) - len(plans)),
            rounds=tuple(sorted(plans)),
        )
    ]


def _three(turn: Round, room: int) -> tuple[int, int, int]:
    prompt, a, b = shares(turn.lengths, _WEIGHTS, room)
    return prompt, a, b


def _without_middle(
    rounds: Sequence[Round], room: int, cost: Callable[[Round], int], fewest: int
) -> list[int]:
    """The rounds left when those in the middle go one by one until the costs keep to the room."""
    kept = list(range(len(rounds)))
    total = sum(map(cost, rounds))
    while total > room and len(kept) > fewest:
        total -= cost(rounds[kept.pop((len(kept) - 1) // 2)])
    return kept


@dataclass(frozen=True)
class HeadTail(Policy):
    """Keeps the first and last rounds, and the beginning and end of texts still too long.

    Args:
        rounds: how many rounds to keep at each end, if it takes leaving others out.
    """

    name: ClassVar[str] = "head-tail"
    rounds: int = 2

    def fit(
        self, rounds: Sequence[Round], room: int, turn_overhead: int, counter: TokenCounter
    ) -> list[Fitted]:
        def whole(turn: Round) -> int:
            return turn.length + turn_overhead

        kept = _without_middle(rounds, room, whole, 2 * self.rounds)
        left = _worthwhile([rounds[at] for at in kept], room, turn_overhead)
        kept = [kept[at] for at in left]
        room -= turn_overhead * len(kept)
        lengths = [count for at in kept for count in rounds[at].lengths]
        tokens = shares(lengths, _WEIGHTS * len(kept), room)
        threes = zip(tokens[0::3], tokens[1::3], tokens[2::3], strict=True)
        keep = (ENDS, ENDS, ENDS)
        plans = {at: _Plan(three, keep) for at, three in zip(kept, threes, strict=True)}
        return _carried_out(rounds, plans)


def _worthwhile(rounds: Sequence[Round], room: int, turn_overhead: int) -> list[int]:
    """The rounds for each of which there is room for so much of it that it is worth reading."""
    return _without_middle(
        rounds, room, lambda turn: min(turn.length, LEAST_ROUND) + turn_overhead, fewest=1
    )


@dataclass(frozen=True)
class Proportional(Policy):
    """Keeps rounds from the first on; the one that overflows is shared by prompt, A and B 20/40/40.

    What one of them does not need the others get. The rounds after it are left out, and so is it
    where fewer than `least` tokens remain for it, unless it is the first.
    """

    name: ClassVar[str] = "proportional"
    least: int = LEAST_ROUND

    def fit(
        self, rounds: Sequence[Round], room: int, turn_overhead: int, counter: TokenCounter
    ) -> list[Fitted]:
        plans = _in_turn(rounds, range(len(rounds)), room, turn_overhead, self.least, _READ)
        return _carried_out(rounds, plans)


@dataclass(frozen=True)
class Recent(Policy):
    """Keeps the last rounds; of the oldest of them only the end, where it does not fit whole.

    It is left out where fewer than `least` tokens remain for it, unless it is the only one.
    """

    name: ClassVar[str] = "recent"
    least: int = LEAST_ROUND

    def fit(
        self, rounds: Sequence[Round], room: int, turn_overhead: int, counter: TokenCounter
    ) -> list[Fitted]:
        order = range(len(rounds) - 1, -1, -1)
        ends = (TAIL, TAIL, TAIL)
        return _carried_out(rounds, _in_turn(rounds, order, room, turn_overhead, self.least, ends))


def _in_turn(
    rounds: Sequence[Round],
    order: Sequence[int],
    room: int,
    turn_overhead: int,
    least: int,
    keep: tuple[str, str, str],
) -> dict[int, _Plan]:
    """Whole rounds in an order, and of the first that does not fit as much as there is room for."""
    plans: dict[int, _Plan] = {}
    for at in order:
        room -= turn_overhead
        turn = rounds[at]
        if turn.length > room:
            if room >= least or not plans:
                plans[at] = _Plan(_three(turn, room), keep)
            break
        plans[at] = _Plan(turn.lengths, keep)
        room -= turn.length
    return plans


@dataclass(frozen=True)
class LongestFirst(Policy):
    """Trims the longer response until both are equally long, then both, then the prompt.

    The prompt is cut only once the responses are down to what they have under `proportional`, 80
    percent of the room. Within a side the longest turns are trimmed first.
    """

    name: ClassVar[str] = "longest-first"

    def fit(
        self, rounds: Sequence[Round], room: int, turn_overhead: int, counter: TokenCounter
    ) -> list[Fitted]:
        kept = _worthwhile(rounds, room, turn_overhead)
        room -= turn_overhead * len(kept)
        prompts, *sides = zip(*(rounds[at].lengths for at in kept), strict=True)
        asked = sum(prompts)
        answered = shares([sum(side) for side in sides], (1, 1), room - min(asked, room // 5))
        totals = (room - sum(answered), *answered)
        tokens = [
            shares(side, [1] * len(kept), total)
            for side, total in zip((prompts, *sides), totals, strict=True)
        ]
        threes = zip(*tokens, strict=True)
        return _carried_out(
            rounds, {at: _Plan(three, _READ) for at, three in zip(kept, threes, strict=True)}
        )


@dataclass(frozen=True)
class Chunks(Policy):
    """Judges a long conversation in parts, nothing of the responses left out.

    Rounds that fit together make a part. A round that fits nowhere is cut into as many aligned
    parts of both responses as it takes, each shown with its prompt: the same share of the way
    through A and through B, at the nearest end of a paragraph, line, sentence or word (the
    alignment of PORTIA, arXiv 2310.01432, by position). A part weighs what its responses have of
    the tokens of all.

    Args:
        prompt_share: how much of the room a prompt may take where the responses need more too.
    """

    name: ClassVar[str] = "chunks"
    prompt_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.prompt_share <= 0.75:
            raise ValueError("prompt_share must be from 0 to 0.75")

    def fit(
        self, rounds: Sequence[Round], room: int, turn_overhead: int, counter: TokenCounter
    ) -> list[Fitted]:
        parts: list[tuple[Fitted, int]] = []
        for together in _together(rounds, room, turn_overhead):
            if len(together) > 1 or rounds[together[0]].length + turn_overhead <= room:
                parts.append(_whole(rounds, together))
            else:
                at = together[0]
                for part, tokens in self._split(rounds[at], room - turn_overhead, counter):
                    parts.append((replace(part, rounds=(at,)), tokens))
        total = sum(tokens for _, tokens in parts)
        return [
            replace(
                part,
                weight=tokens / total if total else 1 / len(parts),
                part=number,
                parts=len(parts),
            )
            for number, (part, tokens) in enumerate(parts)
        ]

    def _split(self, turn: Round, room: int, counter: TokenCounter) -> Iterator[tuple[Fitted, int]]:
        """Aligned parts of a round, and how many tokens of its responses each has."""
        responses = turn.response_a, turn.response_b
        answered = sum(text.count for text in responses)
        prompt, lost = shorten(
            turn.prompt, max(int(room * self.prompt_share), room - answered), ENDS
        )
        room -= counter.count(prompt)
        for pieces in aligned(responses, room, counter):
            tokens = sum(piece.count for piece in pieces)
            halves = shares([piece.count for piece in pieces], (1, 1), room)
            (a, lost_a), (b, lost_b) = (
                shorten(piece, half, HEAD) for piece, half in zip(pieces, halves, strict=True)
            )
            texts = BattleText((prompt,), (a,), (b,))
            yield Fitted(texts, Cut(lost, lost_a, lost_b)), tokens


def _whole(rounds: Sequence[Round], together: Sequence[int]) -> tuple[Fitted, int]:
    columns = zip(*(rounds[at] for at in together), strict=True)
    texts = BattleText(*(tuple(text.text for text in column) for column in columns))
    tokens = sum(rounds[at].length - rounds[at].prompt.count for at in together)
    return Fitted(texts, rounds=tuple(together)), tokens


def _together(rounds: Sequence[Round], room: int, turn_overhead: int) -> Iterator[list[int]]:
    """Runs of rounds that fit into one context; what is too long for that stands alone."""
    run: list[int] = []
    used = 0
    for at, turn in enumerate(rounds):
        cost = turn.length + turn_overhead
        if run and used + cost > room:
            yield run
            run, used = [], 0
        run.append(at)
        used += cost
    if run:
        yield run


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (HeadTail(), Proportional(), Recent(), LongestFirst(), Chunks())
}


def load_policy(name: str) -> Policy:
    """The policy of a name.

    Raises:
        ArenaJudgeError: there is none.
    """
    if name in POLICIES:
        return POLICIES[name]
    close = get_close_matches(name.lower(), POLICIES, n=1)
    mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(POLICIES)}"
    raise ArenaJudgeError(f"no such policy to fit a context: {name!r}; {mend}")
