"""The prompted judge: a model fills in ballots, an aggregator counts them.

A battle becomes sheets (see `judge.judges.sheets`), and a sheet becomes a call for each question of
the prompt. Calls stream through the engine, those that share a prefix one after the other, and a
reply that cannot be read is asked for again among those that follow. What is read goes onto the
sheets, the sheets become the ballot table, and that becomes probabilities.

`judge.judges.prompted_settings` puts one together from a name and settings, `judge.judges.jury`
makes several of them one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from judge.aggregation import UNFITTED, Aggregator, Floats
from judge.chunking import fit_context
from judge.context.fitted import Fitted
from judge.encoding import BattleText, TokenCounter
from judge.engines.base import Engine, Estimate, Reply, Request
from judge.errors import ArenaJudgeError, InputError
from judge.judges.asking import MOST_SAMPLES, Asking, parameters
from judge.judges.base import Judge, Judgments
from judge.judges.sheets import Call, Reading, Run, Sheet
from judge.prompting import Prompt

if TYPE_CHECKING:
    from collections.abc import Generator

    from judge.consistency import Consistency, Counted

REFERENCE = "reference"
"""The column of reference answers, for prompts that show one."""

# How many tokens a chat template may put around a message.
_AROUND_MESSAGE = 8


class PromptedJudge(Judge):
    """Asks a model, through an engine.

    Args:
        engine: answers; is closed with the judge.
        prompt: how a battle is put to the model.
        asking: which model, in which orders, how often.
        aggregator: how votes become probabilities.
        name: how the judge is called in tables and on ballots; by default the model's name.
        counter: counts tokens where a context is to be kept; an estimate by default.
        also_close: what else ends with the judge, such as the ledger.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Prompt,
        asking: Asking,
        aggregator: Aggregator = UNFITTED,
        *,
        name: str | None = None,
        counter: TokenCounter | None = None,
        also_close: Iterable[Callable[[], None]] = (),
    ) -> None:
        self.engine, self.prompt, self.asking = engine, prompt, asking
        self.aggregator = aggregator
        self.name = name or asking.model
        self.seed = asking.seed
        self.reading = Reading()
        self.tick: Callable[[int], None] | None = None
        self._counter = counter
        self._also_close = tuple(also_close)
        self._said: deque[Counted] = deque()
        self._budget: int | None = None
        self._turn, self._telling = Lock(), Lock()
        self._stopped = False

    @property
    def prior(self) -> Floats:
        """(3,) what is said of a battle without evidence."""
        return self.aggregator.prior

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Probabilities of these battles; NaN, with the reason, where no ballot could be read.

        Several threads take turns at asking, for the engine is concurrent by itself. While one
        waits for its last replies the next asks, so that a second thread keeps the engine busy from
        one table to the next.
        """
        table, reasons = self.fill(battles)
        return judgments(table, reasons, battles, self.aggregator, ballots)

    def fill(
        self,
        battles: pd.DataFrame,
        *,
        records: bool = False,
        unasked: Mapping[int, str] | None = None,
    ) -> tuple[pd.DataFrame, dict[int, str]]:
        """The ballot table of these battles, with their places from "0" for ids, and why battles
        have no readable ballot, by their places. `records` asks for verdicts too, and for what each
        ballot took (see `judge.judges.sheets.Run.records`); `unasked` are battles, by their places,
        that nobody is to be asked about, and why."""
        run = Run(reasons=dict(unasked or {}))
        with ExitStack() as turn:
            turn.enter_context(self._turn)
            first = self._requests(self._sheets(battles, run), run)
            self._ask(chain(first, _then(turn.close)), run)
            while run.again:
                self._ask(self._requests(iter(()), run), run)
        table = run.records(self.name) if records else run.table(self.name)
        self._remember(table, run.reading)
        return table, run.unjudged()

    def _ask(self, requests: Iterator[Request], run: Run) -> None:
        """Has requests answered, whose calls are numbered anew, and reads the replies."""
        run.calls.clear()
        answers = self.engine.answer(requests)
        with closing(cast("Generator[tuple[int, Reply], None, None]", answers)) as replies:
            for number, reply in replies:
                call, run.calls[number] = run.calls[number], None
                assert call is not None
                if run.take(call, reply, self.prompt, self.asking.retries):
                    self._done(1)

    def requests(self, battles: pd.DataFrame) -> Iterator[Request]:
        """What would be asked about these battles at first, for an estimate."""
        return self._requests(self._sheets(battles, run := Run()), run)

    def estimate(self, tables: Iterable[pd.DataFrame]) -> Estimate:
        """What judging these tables would come to at most, retries left out; asks nothing."""
        requests = (request for battles in tables for request in self.requests(battles))
        by_engine = getattr(self.engine, "estimate", None)
        if by_engine is not None:
            return cast(Estimate, by_engine(requests))
        return self._estimate(requests)

    def consistency(self) -> Consistency:
        """How far the judge kept its word over everything it has judged so far."""
        from judge.consistency import report_counted

        return report_counted(list(self._said))

    def remember(self, tables: int) -> None:
        """Has `consistency` speak of the last so many tables only: whoever judges without end has
        no room for all of them."""
        self._said = deque(self._said, maxlen=tables)

    def stop(self) -> None:
        """Has `judge` end with an error in all threads that are in it, and from now on."""
        self._stopped = True
        self.engine.close()

    def close(self) -> None:
        """Ends the engine and what came with it."""
        self.engine.close()
        for close in self._also_close:
            close()

    # --- asking ---

    def _requests(self, sheets: Iterator[Sheet], run: Run) -> Iterator[Request]:
        """Requests in the order of `run.calls`; those of a sheet, which begin alike, together, and
        in between what is to be asked again by then."""
        for sheet in sheets:
            for criterion in self.prompt.questions:
                yield self._request(Call(sheet, criterion, 0), run)
            while run.again:
                yield self._request(run.again.popleft(), run)
        while run.again:
            yield self._request(run.again.popleft(), run)

    def _request(self, call: Call, run: Run) -> Request:
        if self._stopped:
            raise ArenaJudgeError(f"{self.name} was stopped while it judged")
        sheet, criterion, attempt = call
        texts, order = sheet.fitted.texts, sheet.order
        run.calls.append(call)
        return Request(
            self.prompt.render(texts, order, criterion, sheet.reference),
            parameters(self.prompt, self.asking, self.seed, attempt),
            # Numbers of their own: a draw that was made again is not the next sample.
            sheet.sample + MOST_SAMPLES * attempt,
            self.prompt.prefix(texts, order, sheet.reference),
        )

    def _sheets(self, battles: pd.DataFrame, run: Run) -> Iterator[Sheet]:
        """The sheets of each battle: part by part, within a part order by order."""
        references = self._references(battles)
        questions = len(self.prompt.questions)
        if self.asking.context is not None and len(battles):
            self._room()  # that there is none is no fault of a battle
        columns = (battles[name] for name in ("prompt", "response_a", "response_b"))
        for place, turns in enumerate(zip(*columns, strict=True)):
            if place in run.reasons:
                self._done(1)
                continue
            reference = references[place] if references is not None else None
            try:
                parts = self._fitted(BattleText(*turns), reference)
            except ArenaJudgeError as error:
                run.reasons[place] = str(error)
                self._done(1)
                continue
            sheets = [
                Sheet(place, part, reference, order, sample, questions)
                for part in parts
                for order in self.asking.orders
                for sample in range(self.asking.samples)
            ]
            run.pending[place] = len(sheets)
            for sheet in sheets:
                run.sheets.append(sheet)
                yield sheet

    def _references(self, battles: pd.DataFrame) -> list[tuple[str, ...] | None] | None:
        if not self.prompt.reference:
            return None
        if REFERENCE not in battles.columns:
            raise InputError(
                f"prompt {self.prompt.name} shows reference answers, and the battles have none",
                column=REFERENCE,
                mend="add the column, or take another --prompt",
            )
        return [reference_turns(cell) for cell in battles[REFERENCE]]

    def _fitted(self, texts: BattleText, reference: tuple[str, ...] | None) -> list[Fitted]:
        if self.prompt.reference and not (reference and any(map(str.strip, reference))):
            raise ArenaJudgeError("it has no reference answer")
        if self.asking.context is None:
            return [Fitted(texts, rounds=tuple(range(len(texts.prompt))))]
        measure = partial(self._length, reference=reference)
        return fit_context(texts, self._room(), self.asking.policy, self._count(), measure=measure)

    def _room(self) -> int:
        """How many tokens a rendered prompt may have."""
        if self._budget is None:
            context = self.asking.context
            most = context() if callable(context) else context
            assert most is not None
            self._budget = most - self.prompt.max_tokens
            empty = BattleText(("",), ("",), ("",))
            least = self._length(empty, reference=("",) if not self.prompt.reference else ("x",))
            if self._budget <= least:
                raise InputError(
                    f"a context of {most} tokens has no room for a battle: prompt "
                    f"{self.prompt.name} takes {least} and its reply {self.prompt.max_tokens}",
                    mend="raise --context",
                )
        return self._budget

    def _count(self) -> TokenCounter:
        if self._counter is None:
            from judge.encoding import load_counter

            self._counter = load_counter()
        return self._counter

    def _length(self, texts: BattleText, *, reference: tuple[str, ...] | None) -> int:
        """Tokens of the longest prompt about these texts, chat template included."""
        counter = self._count()
        return max(
            sum(
                counter.count(message.content) + _AROUND_MESSAGE
                for message in self.prompt.render(texts, "AB", criterion, reference)
            )
            for criterion in self.prompt.questions
        )

    def _estimate(self, requests: Iterable[Request]) -> Estimate:
        total = tokens = longest = 0
        counter = self._count()
        for request in requests:
            total += 1
            tokens += sum(
                counter.count(message.content) + _AROUND_MESSAGE for message in request.messages
            )
            longest += request.parameters.max_tokens
        return Estimate(total, 0, tokens, longest, None)

    # --- telling ---

    def _done(self, battles: int) -> None:
        if self.tick is not None:
            with self._telling:
                self.tick(battles)

    def _remember(self, table: pd.DataFrame, reading: Reading) -> None:
        from judge.consistency import count_consistency

        counted = count_consistency(table)
        with self._telling:
            self._said.append(counted)
            self.reading.replies += reading.replies
            self.reading.unreadable += reading.unreadable


def judgments(
    table: pd.DataFrame,
    reasons: Mapping[int, str],
    battles: pd.DataFrame,
    aggregator: Aggregator,
    ballots: bool,
) -> Judgments:
    """Counts a table whose ids are places: the battles' own may repeat."""
    proba = aggregator.aggregate(table, [str(place) for place in range(len(battles))])
    empty = np.flatnonzero(np.isnan(proba[:, 0])).tolist()
    found = {place: reasons.get(place, "no ballot could be read") for place in empty}
    if not ballots:
        return Judgments(proba, found)
    named = battles["id"].to_numpy(dtype=object)[table["id"].astype(np.int64).to_numpy()]
    return Judgments(proba, found, table.assign(id=pd.Series(named, dtype="str")))


def reference_turns(cell: object) -> tuple[str, ...] | None:
    """A reference answer as a file has it: text, or a list of turns, perhaps as JSON."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            turns = json.loads(cell)
        except ValueError:
            return (cell,)
        cell = turns if isinstance(turns, list) else cell
    if isinstance(cell, str):
        return (cell,)
    if isinstance(cell, list | tuple | np.ndarray):
        return tuple("" if turn is None else str(turn) for turn in cell)
    return None


def _then(do: Callable[[], None]) -> Iterator[Request]:
    """Nothing; does something when it is asked for."""
    do()
    yield from ()
