"""Ballots on their way: sheets to be filled in, the calls that ask for them, what replies say.

A battle becomes sheets, one for each part, order and sample; a sheet becomes a call for each
question of the prompt, and more where a reply cannot be read. What is read goes onto the sheet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from judge.aggregation import Floats
from judge.ballots import UNANSWERED, ballot_table
from judge.context.fitted import Fitted
from judge.encoding import BattleText
from judge.engines.base import BUDGET, Reply
from judge.prompting import Prompt
from judge.voting import Ballot, Unreadable, fill_ballot


@dataclass(eq=False, slots=True)
class Spent:
    """What the calls of a ballot took, those that had to be made again included.

    Attributes:
        attempts: replies that came.
        finish: why the last one ended.
        time: when it came, in seconds since 1970; 0 where that is not known.
        seconds: sum.
        prompt, cached, completion: tokens.
        cost: dollars, when the calls were made.
    """

    attempts: int = 0
    finish: str = ""
    time: float = 0.0
    seconds: float = 0.0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: float = 0.0

    def count(self, reply: Reply) -> None:
        """Adds a call."""
        self.attempts += 1
        self.finish = reply.finish
        self.time = max(self.time, reply.time)
        self.seconds += reply.seconds
        self.prompt += reply.usage.prompt
        self.cached += reply.usage.cached
        self.completion += reply.usage.completion
        self.cost += reply.cost


@dataclass(eq=False, slots=True)
class Sheet:
    """A ballot to be filled in: a battle, or a part of one, in one order, drawn once.

    Attributes:
        battle: its place in the table.
        fitted: what is shown of it.
        reference: the reference answer.
        order, sample: how it is shown, which draw it is.
        left: questions without an answer yet.
        votes: (5, 4) as far as they could be read; None for none.
        replies: what was read, a line a question.
        reason: why a question has no answer.
        verdict: (4,) which response is better on the whole, where that was asked.
        unread: the last reply that nothing could be read from.
        spent: what its calls took.
    """

    battle: int
    fitted: Fitted
    reference: tuple[str, ...] | None
    order: str
    sample: int
    left: int
    votes: Floats | None = None
    replies: list[str] = field(default_factory=list)
    reason: str = ""
    verdict: Floats | None = None
    unread: str = ""
    spent: Spent = field(default_factory=Spent)


class Call(NamedTuple):
    """A question of a sheet, asked for the first time (attempt 0) or again."""

    sheet: Sheet
    criterion: str | None
    attempt: int


@dataclass
class Reading:
    """What became of replies.

    Attributes:
        replies: that came, fresh or from the ledger.
        unreadable: of these, how many no vote could be read from.
    """

    replies: int = 0
    unreadable: int = 0


@dataclass
class Run:
    """One table of battles on its way.

    Attributes:
        sheets: in the order in which they were asked about.
        reasons: why a battle has no sheet, by its place.
        calls: by the engine's number of the request.
        again: calls to be made once more.
        pending: how many sheets of a battle are not complete, by its place.
        reading: what became of the replies.
    """

    sheets: list[Sheet] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    calls: list[Call | None] = field(default_factory=list)
    again: deque[Call] = field(default_factory=deque)
    pending: dict[int, int] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)

    def take(self, call: Call, reply: Reply, prompt: Prompt, retries: int) -> bool:
        """Puts what a reply says onto its sheet, or has it asked again; whether that was the last
        that its battle waited for."""
        sheet = call.sheet
        if reply.error is not None:
            sheet.reason = _failure(reply.error)
        else:
            self.reading.replies += 1
            sheet.spent.count(reply)
            try:
                ballot = _read(reply, prompt, call.criterion, sheet.order)
            except Unreadable as error:
                self.reading.unreadable += 1
                sheet.unread = reply.text
                if call.attempt < retries:
                    self.again.append(call._replace(attempt=call.attempt + 1))
                    return False
                asked = f"{call.attempt + 1} times" if call.attempt else "once"
                sheet.reason = f"unreadable, asked {asked}: {error.reason}"
            else:
                sheet.votes = _merged(sheet.votes, ballot.votes)
                sheet.verdict = ballot.verdict
                line = reply.text if call.criterion is None else f"{call.criterion}: {reply.text}"
                sheet.replies.append(line)
        sheet.left -= 1
        if sheet.left:
            return False
        self.pending[sheet.battle] -= 1
        return not self.pending[sheet.battle]

    def table(self, judge: str) -> pd.DataFrame:
        """The ballot table of the sheets, with the battles' places for ids."""
        return _table(judge, self.sheets)

    def records(self, judge: str) -> pd.DataFrame:
        """The ballot table with verdicts and what each ballot took; a ballot that could not be read
        has its last reply, and a battle that could not be asked about a ballot in no order. Further
        columns: `attempts`, `finish`, `time`, `seconds`, `prompt_tokens`, `cached_tokens`,
        `completion_tokens`, `cost`."""
        nothing = Fitted(BattleText((), (), ()))
        unasked = [
            Sheet(place, nothing, None, "", 0, 0, reason=reason)
            for place, reason in self.reasons.items()
        ]
        sheets = [*self.sheets, *unasked]
        spent = [sheet.spent for sheet in sheets]
        replies = ["\n".join(sorted(sheet.replies)) or sheet.unread for sheet in sheets]
        return _table(judge, sheets, verdict=True).assign(
            reply=pd.Series(replies, dtype="str"),
            attempts=np.array([one.attempts for one in spent], dtype=np.int64),
            finish=pd.Series([one.finish for one in spent], dtype="str"),
            time=np.array([one.time for one in spent], dtype=np.float64),
            seconds=np.array([one.seconds for one in spent], dtype=np.float64),
            prompt_tokens=np.array([one.prompt for one in spent], dtype=np.int64),
            cached_tokens=np.array([one.cached for one in spent], dtype=np.int64),
            completion_tokens=np.array([one.completion for one in spent], dtype=np.int64),
            cost=np.array([one.cost for one in spent], dtype=np.float64),
        )

    def unjudged(self) -> dict[int, str]:
        """Why battles have no readable ballot, by their places."""
        found = dict(self.reasons)
        judged = {sheet.battle for sheet in self.sheets if sheet.votes is not None}
        for sheet in self.sheets:
            if sheet.battle not in judged:
                found.setdefault(sheet.battle, sheet.reason)
        return found


def _table(judge: str, sheets: list[Sheet], *, verdict: bool = False) -> pd.DataFrame:
    return ballot_table(
        [str(sheet.battle) for sheet in sheets],
        judge,
        [sheet.votes for sheet in sheets],
        order=[sheet.order for sheet in sheets],
        sample=[sheet.sample for sheet in sheets],
        part=[sheet.fitted.part for sheet in sheets],
        cut=[_cut(sheet.fitted) for sheet in sheets],
        reason=["" if sheet.votes is not None else sheet.reason for sheet in sheets],
        weight=[sheet.fitted.weight for sheet in sheets],
        # In one order, whichever was answered first.
        reply=["\n".join(sorted(sheet.replies)) for sheet in sheets],
        verdict=[sheet.verdict for sheet in sheets] if verdict else None,
    )


def _read(reply: Reply, prompt: Prompt, criterion: str | None, order: str) -> Ballot:
    """The ballot of a reply; its votes are not to be written to."""
    # There are few ways to write a ballot without free text, and a run has many of each.
    if reply.logprobs is None and not prompt.writes:
        return _read_text(reply.text, reply.finish, prompt, criterion, order)
    return fill_ballot(reply, prompt, criterion, order)


@lru_cache(maxsize=4096)
def _read_text(text: str, finish: str, prompt: Prompt, criterion: str | None, order: str) -> Ballot:
    return fill_ballot(Reply(text, finish), prompt, criterion, order)


def _merged(votes: Floats | None, more: Floats) -> Floats:
    """Votes on some criteria put together with votes on others."""
    return more if votes is None else np.where(np.isnan(more), votes, more)


def _failure(error: str) -> str:
    replied, asked = UNANSWERED
    return f"{asked}the budget was spent" if error == BUDGET else f"{replied}{error}"


def _cut(fitted: Fitted) -> int:
    return fitted.cut.prompt + fitted.cut.response_a + fitted.cut.response_b
