"""A right and a wrong judgment of the same messages, for direct preference optimisation.

Right is what people said of the battle, or else what all annotators together say if they are sure
enough. Both judgments are replies to the battle in the same order, one that says so and one that
says something else, the contrary before a tie. Where there is no such pair, a ballot without
reasons can be turned around to be the wrong one.

The rows have the form that TRL calls a conversational preference with an explicit prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from judge.aggregation import Aggregator
from judge.ballots import VOTES
from judge.prompting import ORDERS, Prompt
from judge.replies import Texts
from synth.data import AnnotatedSet
from synth.exporting.batches import batched
from synth.exporting.chat import ASSISTANT
from synth.exporting.counts import Tally
from synth.exporting.files import MESSAGES, TEXT, Kinds
from synth.exporting.labels import TrainingLabels, margins, outcomes
from synth.exporting.records import Record, Records, Votes, asked_votes, consensus, turned
from synth.exporting.replies import NO_TEXTS, reads_back, write_reply
from synth.exporting.students import Asked, battles_asked
from synth.exporting.texts import texts_for

ENDINGS = (".jsonl", ".parquet")
REJECTED = ("replies", "flipped")
REPLIES, FLIPPED = REJECTED
COLUMNS = ("id", "order", "prompt", "chosen", "rejected")
MARGIN = 0.1
_OUTCOMES = ("A", "B", "tie")
_CONTRARY = (1, 0, None)  # a tie has no contrary: either side is as wrong
_A, _B, _AB = (VOTES.index(vote) for vote in ("A", "B", "AB"))
_MEND = "draw several replies an order (synth run --samples 3), or add --rejected flipped"


@dataclass(frozen=True)
class Pairs:
    """How pairs are made.

    Attributes:
        prompt: the student's.
        labels: what is right.
        margin: by how much the likeliest outcome must lead the next.
        rejected: one of `REJECTED`.
        orders: in which battles are shown.
        tick: is told how many battles are done.
    """

    prompt: Prompt
    labels: TrainingLabels
    margin: float = MARGIN
    rejected: str = REPLIES
    orders: tuple[str, ...] = ORDERS
    tick: Callable[[int], None] | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def kinds(self) -> Kinds:
        """The columns of the file."""
        kinds = {"id": TEXT, "order": TEXT, **dict.fromkeys(COLUMNS[2:], MESSAGES)}
        if self.prompt.one_by_one:
            kinds["criterion"] = TEXT
        return kinds | {"right": TEXT, "right_by": TEXT, "rejected_from": TEXT}


@dataclass(frozen=True)
class _Judgment:
    """A reply that can be written in the student's form: its votes, in the file's frame, which
    outcome they come to, and its texts."""

    votes: Votes
    outcome: int
    texts: Texts


def write_pairs(
    path: Path, data: AnnotatedSet, pairs: Pairs, aggregator: Aggregator | None = None
) -> Tally:
    """Writes the pairs of a set, battle by battle."""
    with batched(path, pairs.kinds) as file:
        for row in pair_rows(data, pairs, aggregator):
            file.append(row)
        pairs.tally.rows, pairs.tally.battles = file.rows, file.battles
        pairs.tally.check(data.name, _MEND)
    return pairs.tally


def pair_rows(
    data: AnnotatedSet, pairs: Pairs, aggregator: Aggregator | None = None
) -> Iterator[dict[str, object]]:
    """The rows of the file."""
    records = Records(data)
    agreed = consensus(data, aggregator)
    right = outcomes(pairs.labels.proba)
    lead = margins(pairs.labels.proba)
    for asked in battles_asked(data, pairs.prompt, pairs.tick):
        place = asked.place
        why = None
        if right[place] < 0:
            why = "without a label"
        elif lead[place] < pairs.margin:
            why = f"whose likeliest outcome leads by less than {pairs.margin:g}"
        elif asked.lacks_reference(pairs.prompt):
            why = "without a reference answer"
        if why is not None:
            pairs.tally.leave("battle", why, asked.id)
            continue
        target: Votes = tuple(agreed[place].tolist())
        every = records.of(place)
        for order in pairs.orders:
            said = _judgments(every, pairs.prompt, order)
            yield from _pair(asked, order, said, int(right[place]), target, pairs)


def outcome_of(votes: Votes, prompt: Prompt) -> int:
    """What a ballot comes to, A (0), B (1) or tie (2): its verdict where the prompt asks for one,
    else the side that more criteria are for; -1 where it says nothing."""
    if prompt.verdict:
        return {_A: 0, _B: 1, _AB: 2}.get(votes[-1], -1)
    lead = votes[:-1].count(_A) - votes[:-1].count(_B)
    if not lead:
        return 2 if any(vote in (_A, _B, _AB) for vote in votes[:-1]) else -1
    return 0 if lead > 0 else 1


def _judgments(records: Sequence[Record], prompt: Prompt, order: str) -> list[_Judgment]:
    """The replies to a battle in an order that can be written in the student's form."""
    places = range(len(prompt.criteria)) if prompt.one_by_one else asked_votes(prompt)
    found = []
    for record in records:
        if record.order != order or any(record.votes[place] < 0 for place in places):
            continue
        texts = texts_for(record, prompt, order) if prompt.writes else NO_TEXTS
        outcome = outcome_of(record.votes, prompt)
        if texts is not None and outcome >= 0:
            found.append(_Judgment(record.votes, outcome, texts))
    return found


def _pair(
    asked: Asked,
    order: str,
    said: Sequence[_Judgment],
    right: int,
    target: Votes,
    pairs: Pairs,
) -> Iterator[dict[str, object]]:
    """The pair of a battle in an order, or one a criterion."""
    places = range(len(target) - 1) if pairs.prompt.one_by_one else asked_votes(pairs.prompt)

    def agreement(one: _Judgment) -> int:
        return sum(one.votes[place] == target[place] for place in places)

    good = [one for one in said if one.outcome == right]
    bad = [one for one in said if one.outcome != right]
    # Of several the one with the votes that most others share, against the plainest contradiction.
    chosen = max(good, key=agreement, default=None)
    wrong = min(
        bad, key=lambda one: (one.outcome != _CONTRARY[right], agreement(one)), default=None
    )
    source = REPLIES
    if chosen is not None and wrong is None and pairs.rejected == FLIPPED:
        wrong, source = _flipped(chosen, right), FLIPPED
    if chosen is None or wrong is None:
        pairs.tally.leave("order", f"of a battle {_why(said, chosen, pairs)}", asked.id)
        return
    about = {"right": _OUTCOMES[right], "right_by": pairs.labels.origin[asked.place]}
    rows = list(_rows(asked, order, chosen, wrong, target, pairs))
    if not rows:
        pairs.tally.leave("order", "of a battle in which no pair can be read back", asked.id)
    for row in rows:
        yield row | about | {"rejected_from": source}


def _why(said: Sequence[_Judgment], chosen: _Judgment | None, pairs: Pairs) -> str:
    """Why there is no pair."""
    if not said:
        return "without a reply in the student's form"
    if chosen is None:
        return "of which no reply is right"
    if pairs.rejected == FLIPPED:
        return "that is a tie, which stays one turned around"
    return "of which no reply is wrong"


def _flipped(one: _Judgment, right: int) -> _Judgment | None:
    """The ballot that says the contrary; a tie has none."""
    if right not in (0, 1):
        return None
    return _Judgment(turned(one.votes, "BA"), 1 - right, NO_TEXTS)


def _rows(
    asked: Asked, order: str, chosen: _Judgment, wrong: _Judgment, target: Votes, pairs: Pairs
) -> Iterator[dict[str, object]]:
    """The pair; of a prompt that asks for one criterion a call, a pair for each on which the right
    judgment says what all say and the wrong one does not."""
    prompt = pairs.prompt
    for criterion in prompt.questions:
        if criterion is not None:
            at = prompt.criteria.index(criterion)
            if chosen.votes[at] != target[at] or wrong.votes[at] == target[at]:
                continue
        replies = []
        for one in (chosen, wrong):
            shown = turned(one.votes, order)
            reply = write_reply(prompt, shown, one.texts, criterion)
            if reads_back(reply, prompt, shown, criterion):
                replies.append([{"role": ASSISTANT, "content": reply}])
        if len(replies) == 2:
            messages = asked.messages(prompt, order, criterion)
            row = dict(zip(COLUMNS, (asked.id, order, messages, *replies), strict=True))
            yield row | {"criterion": criterion}
