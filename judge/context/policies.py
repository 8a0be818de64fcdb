"""What to keep of a conversation that is too long: policies, one small object each in `POLICIES`.

Each keeps its room to the token and gives A and B the same treatment. Those that are `Planned`
need to know no more than how long the texts are, so they serve text (see `judge.chunking`) and
token ids (see `judge.classifier.tokens`) alike.
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


Lengths = tuple[int, int, int]
"""How many tokens the prompt, A and B have in a round."""


class Plan(NamedTuple):
    """How many tokens each text of a round gets, and which end of a text too long is kept."""

    tokens: Lengths
    keep: tuple[str, str, str]


Plans = dict[int, Plan]
"""By the number of the round; rounds without one are left out."""


class Planned(Policy):
    """A policy that asks only for the lengths of texts."""

    @abstractmethod
    def plan(self, lengths: Sequence[Lengths], room: int, turn_overhead: int) -> Plans:
        """What each round gets of `room` tokens; for the rest see `fit`.

        Where a response is left one token more than the other could be, nobody gets it; all other
        room is used, but for what is too little for a round.
        """

    def fit(
        self, rounds: Sequence[Round], room: int, turn_overhead: int, counter: TokenCounter
    ) -> list[Fitted]:
        del counter
        return _carried_out(
            rounds, self.plan([turn.lengths for turn in rounds], room, turn_overhead)
        )


# A question may stand at either end of a prompt; an answer is read from its beginning.
_READ = (ENDS, HEAD, HEAD)


def _carried_out(rounds: Sequence[Round], plans: Plans) -> list[Fitted]:
    """The conversation as planned."""
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


def _three(lengths: Lengths, room: int) -> Lengths:
    prompt, a, b = shares(lengths, _WEIGHTS, room)
    return prompt, a, b


def _planned(
    tokens: dict[int, Lengths], lengths: Sequence[Lengths], room: int, keep: tuple[str, str, str]
) -> Plans:
    """Plans with what equal shares leave over given out too: to prompts, then to both responses of
    a round at once, then to one where the other is whole."""
    plans = {}
    room -= sum(map(sum, tokens.values()))
    for at, (prompt, a, b) in tokens.items():
        asked, one, other = lengths[at]
        more = max(0, min(room, asked - prompt))
        room -= more
        tokens[at] = prompt + more, a, b
        if room > 1 and a < one and b < other:
            both = min(room // 2, one - a, other - b)
            room -= 2 * both
            tokens[at] = prompt + more, a + both, b + both
    for at, (prompt, a, b) in tokens.items():
        _, one, other = lengths[at]
        if room > 0 and (a < one) != (b < other):
            more = min(room, one - a + other - b)
            room -= more
            tokens[at] = (prompt, a + more, b) if a < one else (prompt, a, b + more)
        plans[at] = Plan(tokens[at], keep)
    return plans


def _without_middle(
    lengths: Sequence[Lengths], room: int, cost: Callable[[Lengths], int], fewest: int
) -> list[int]:
    """The rounds left when those in the middle go one by one until the costs keep to the room."""
    kept = list(range(len(lengths)))
    total = sum(map(cost, lengths))
    while total > room and len(kept) > fewest:
        total -= cost(lengths[kept.pop((len(kept) - 1) // 2)])
    return kept


@dataclass(frozen=True)
class HeadTail(Planned):
    """Keeps the first and last rounds, and the beginning and end of texts still too long.

    Args:
        rounds: how many rounds to keep at each end, if it takes leaving others out.
    """

    name: ClassVar[str] = "head-tail"
    rounds: int = 2

    def plan(self, lengths: Sequence[Lengths], room: int, turn_overhead: int) -> Plans:
        def whole(turn: Lengths) -> int:
            return sum(turn) + turn_overhead

        kept = _without_middle(lengths, room, whole, 2 * self.rounds)
        left = _worthwhile([lengths[at] for at in kept], room, turn_overhead)
        kept = [kept[at] for at in left]
        room -= turn_overhead * len(kept)
        counts = [count for at in kept for count in lengths[at]]
        tokens = shares(counts, _WEIGHTS * len(kept), room)
        threes = zip(tokens[0::3], tokens[1::3], tokens[2::3], strict=True)
        return _planned(dict(zip(kept, threes, strict=True)), lengths, room, (ENDS, ENDS, ENDS))


def _worthwhile(lengths: Sequence[Lengths], room: int, turn_overhead: int) -> list[int]:
    """The rounds for each of which there is room for so much of it that it is worth reading."""
    return _without_middle(
        lengths, room, lambda turn: min(sum(turn), LEAST_ROUND) + turn_overhead, fewest=1
    )


@dataclass(frozen=True)
class Proportional(Planned):
    """Keeps rounds from the first on; the one that overflows is shared by prompt, A and B 20/40/40.

    What one of them does not need the others get. The rounds after it are left out, and so is it
    where fewer than `least` tokens remain for it, unless it is the first.
    """

    name: ClassVar[str] = "proportional"
    least: int = LEAST_ROUND

    def plan(self, lengths: Sequence[Lengths], room: int, turn_overhead: int) -> Plans:
        return _in_turn(lengths, range(len(lengths)), room, turn_overhead, self.least, _READ)


@dataclass(frozen=True)
class Recent(Planned):
    """Keeps the last rounds; of the oldest of them only the end, where it does not fit whole.

    It is left out where fewer than `least` tokens remain for it, unless it is the only one.
    """

    name: ClassVar[str] = "recent"
    least: int = LEAST_ROUND

    def plan(self, lengths: Sequence[Lengths], room: int, turn_overhead: int) -> Plans:
        order = range(len(lengths) - 1, -1, -1)
        return _in_turn(lengths, order, room, turn_overhead, self.least, (TAIL, TAIL, TAIL))


def _in_turn(
    lengths: Sequence[Lengths],
    order: Sequence[int],
    room: int,
    turn_overhead: int,
    least: int,
    keep: tuple[str, str, str],
) -> Plans:
    """Whole rounds in an order, and of the first that does not fit as much as there is room for."""
    plans: Plans = {}
    for at in order:
        room -= turn_overhead
        turn = lengths[at]
        if sum(turn) > room:
            if room >= least or not plans:
                plans |= _planned({at: _three(turn, room)}, lengths, room, keep)
            break
        plans[at] = Plan(turn, keep)
        room -= sum(turn)
    return plans


@dataclass(frozen=True)
class LongestFirst(Planned):
    """Trims the longer response until both are equally long, then both, then the prompt.

    The prompt is cut only once the responses are down to what they have under `proportional`, 80
    percent of the room. Within a side the longest turns are trimmed first.
    """

    name: ClassVar[str] = "longest-first"

    def plan(self, lengths: Sequence[Lengths], room: int, turn_overhead: int) -> Plans:
        kept = _worthwhile(lengths, room, turn_overhead)
        room -= turn_overhead * len(kept)
        prompts, *sides = zip(*(lengths[at] for at in kept), strict=True)
        asked = sum(prompts)
        answered = shares([sum(side) for side in sides], (1, 1), room - min(asked, room // 5))
        totals = (room - sum(answered), *answered)
        tokens = [
            shares(side, [1] * len(kept), total)
            for side, total in zip((prompts, *sides), totals, strict=True)
        ]
        threes = zip(*tokens, strict=True)
        return _planned(dict(zip(kept, threes, strict=True)), lengths, room, _READ)


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
