"""Chat messages for supervised fine-tuning of a judge that writes ballots.

A row is a conversation: what the prompted judge sends about a battle in an order, and, from the
assistant, the ballot. With a prompt that asks for one criterion a call there is a row a criterion.

The ballot is what all annotations of the battle together say (`consensus`): the same verdict in
both orders, which teaches a student to keep to it; or what the annotator replied (`reply`), a row a
reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from judge.aggregation import Aggregator
from judge.prompting import ORDERS, Prompt
from judge.replies import Texts
from synth.data import AnnotatedSet
from synth.exporting.batches import batched
from synth.exporting.counts import Tally
from synth.exporting.files import MESSAGES, TEXT, WHOLE, Kinds
from synth.exporting.records import Record, Records, Votes, asked_votes, consensus, turned
from synth.exporting.replies import NO_TEXTS, reads_back, write_reply
from synth.exporting.students import Asked, battles_asked
from synth.exporting.texts import agreeing_texts, texts_for

ENDINGS = (".jsonl", ".parquet")
TARGETS = ("consensus", "reply")
CONSENSUS, REPLY = TARGETS
COLUMNS = ("id", "order", "messages")
ASSISTANT = "assistant"
_TOO_LONG = "too long to be read back"


@dataclass(frozen=True)
class Chats:
    """How chats are made.

    Attributes:
        prompt: the student's.
        target: one of `TARGETS`.
        orders: in which battles are shown.
        tick: is told how many battles are done.
    """

    prompt: Prompt
    target: str = CONSENSUS
    orders: tuple[str, ...] = ORDERS
    tick: Callable[[int], None] | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def kinds(self) -> Kinds:
        """The columns of the file."""
        kinds = {"id": TEXT, "order": TEXT, "messages": MESSAGES}
        if self.prompt.one_by_one:
            kinds["criterion"] = TEXT
        if self.target == REPLY:
            kinds |= {"judge": TEXT, "sample": WHOLE}
        return kinds


def write_chats(
    path: Path, data: AnnotatedSet, chats: Chats, aggregator: Aggregator | None = None
) -> Tally:
    """Writes the conversations of a set, battle by battle."""
    with batched(path, chats.kinds) as file:
        for row in chat_rows(data, chats, aggregator):
            file.append(row)
        chats.tally.rows, chats.tally.battles = file.rows, file.battles
        chats.tally.check(data.name)
    return chats.tally


def chat_rows(
    data: AnnotatedSet, chats: Chats, aggregator: Aggregator | None = None
) -> Iterator[dict[str, object]]:
    """The rows of the file."""
    records = Records(data)
    if chats.target == REPLY:
        for asked in battles_asked(data, chats.prompt, chats.tick):
            yield from _replies(asked, records.of(asked.place), chats)
        return
    said = consensus(data, aggregator)
    for asked in battles_asked(data, chats.prompt, chats.tick):
        target: Votes = tuple(said[asked.place].tolist())
        yield from _agreed(asked, target, records.of(asked.place), chats)


def _agreed(
    asked: Asked, target: Votes, records: Sequence[Record], chats: Chats
) -> Iterator[dict[str, object]]:
    """What all annotations say, in each order."""
    prompt, tally = chats.prompt, chats.tally
    why = _unasked(asked, target, prompt)
    if why is not None:
        tally.leave("battle", why, asked.id)
        return
    for order in chats.orders:
        texts = agreeing_texts(prompt, target, records, order) if prompt.writes else NO_TEXTS
        if texts is None:
            why = "in an order in which no replies agree and give the reasons"
            tally.leave("ballot", why, asked.id)
            continue
        yield from _rows(asked, target, order, texts, chats)


def _replies(asked: Asked, records: Sequence[Record], chats: Chats) -> Iterator[dict[str, object]]:
    """What each reply says, in the order that it was asked in."""
    prompt, tally = chats.prompt, chats.tally
    if not records:
        tally.leave("battle", "without a readable reply", asked.id)
    elif asked.lacks_reference(prompt):
        tally.leave("battle", "without a reference answer", asked.id)
    else:
        for record in records:
            if record.order and record.order not in chats.orders:
                continue
            texts = texts_for(record, prompt, record.order) if prompt.writes else NO_TEXTS
            why = None if record.order else "in an order that nobody has noted"
            why = why or _unasked(asked, record.votes, prompt)
            why = why or ("that does not give what is to be written" if texts is None else None)
            if why is not None or texts is None:
                tally.leave("reply", str(why), asked.id)
                continue
            drawn = {"judge": record.judge, "sample": record.sample}
            for row in _rows(asked, record.votes, record.order, texts, chats):
                yield row | drawn


def _rows(
    asked: Asked, votes: Votes, order: str, texts: Texts, chats: Chats
) -> Iterator[dict[str, object]]:
    """The conversation, or one a criterion."""
    prompt = chats.prompt
    shown = turned(votes, order)
    for criterion in prompt.questions:
        if any(shown[place] < 0 for place in asked_votes(prompt, criterion)):
            chats.tally.leave("ballot", "on a criterion that nobody voted on", asked.id)
            continue
        reply = write_reply(prompt, shown, texts, criterion)
        if not reads_back(reply, prompt, shown, criterion):
            chats.tally.leave("ballot", _TOO_LONG, asked.id)
            continue
        said = {"role": ASSISTANT, "content": reply}
        messages = [*asked.messages(prompt, order, criterion), said]
        yield {"id": asked.id, "order": order, "messages": messages, "criterion": criterion}


def _unasked(asked: Asked, votes: Votes, prompt: Prompt) -> str | None:
    """Why a battle has no ballot of a prompt's form; None if it has one."""
    if asked.lacks_reference(prompt):
        return "without a reference answer"
    if all(vote < 0 for vote in votes[:-1]):
        return "without votes"
    if prompt.one_by_one:
        return None
    if any(vote < 0 for vote in votes[:-1]):
        return "without a vote on every criterion"
    return "without a verdict" if prompt.verdict and votes[-1] < 0 else None
