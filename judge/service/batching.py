"""Requests that arrive together are judged together.

While a batch is being judged, others arrive, and they are the next batch: under load batches grow
by themselves, and a lone request waits for nobody. Only right after a batch of several, when those
who were answered are about to ask again, the next one waits for them, for a few milliseconds at
most: a batch has a cost of its own, whatever its size.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from judge.service.judging import Outcome
from judge.service.limits import Limits
from judge.service.metrics import Metrics
from judge.service.refusals import Refused, stopping
from judge.service.requests import Asked
from judge.service.worker import Worker

_log = logging.getLogger(__name__)

# A batch takes no more requests once it has so many characters: its memory goes with them.
_BATCH_CHARACTERS = 2_000_000
# How much the last batch says about the rate at which battles are judged.
_FRESH = 0.2
_LONGEST_RETRY = 60


@dataclass(eq=False, slots=True)
class Job:
    """A request on its way; `waiting` while it is in no batch yet."""

    asked: Asked
    outcome: asyncio.Future[Outcome]
    waiting: bool = True


class Batcher:
    """A bounded queue before a judge that is called with one batch at a time.

    Args:
        work: gives each request of a batch its outcome; called in a thread.
        limits: of the queue and of batches.
        metrics: told of batches.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], list[Outcome]],
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._work, self._limits, self._metrics = work, limits, metrics
        self._jobs: deque[Job] = deque()
        self._judged: list[Job] = []
        self._waiting = 0
        self._enough = 1
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._last = 0
        self._answered_at = -math.inf
        self._rate = 0.0
        self._task: asyncio.Task[None] | None = None
        self.stopping = False

    @property
    def waiting(self) -> int:
        """Battles that are in no batch yet."""
        return self._waiting

    def start(self) -> None:
        """Begins to judge; to be called where an event loop runs."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def check(self, battles: int = 1) -> None:
        """Whether so many battles can be taken now.

        Raises:
            Refused: the queue is full (429) or the service stops (503).
        """
        if self.stopping:
            raise stopping()
        if self._waiting + battles > self._limits.queue:
            message = f"{self._waiting:,} battles are waiting already"
            raise Refused(429, "busy", message, mend="ask later", retry_after=self._retry_after())

    def submit(self, asked: Asked) -> Job:
        """Puts a request into the queue; its outcome comes when its turn has come.

        Raises:
            Refused: it is not taken.
        """
        self.check(len(asked))
        job = Job(asked, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._waiting += len(asked)
        self._empty.clear()
        if self._waiting >= self._enough:
            self._arrived.set()
        return job

    def withdraw(self, job: Job) -> None:
        """Takes a request out of the queue if it is still there: nobody wants to know any more."""
        job.outcome.cancel()
        if job.waiting:
            self._jobs.remove(job)
            self._leave(job)
            self._check_empty()

    async def drain(self, seconds: float) -> int:
        """Takes no more requests, judges what is waiting, and ends; after so many seconds the rest
        is refused.

        Returns:
            How many requests that were.
        """
        self.stopping = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        left = [job for job in (*self._judged, *self._jobs) if not job.outcome.done()]
        for job in left:
            job.outcome.set_result(stopping())
        while self._jobs:
            self._leave(self._jobs.popleft())
        self._judged = []
        self._empty.set()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        return len(left)

    def hurry(self) -> None:
        """Ends a drain now: whatever is still waiting is refused."""
        self._empty.set()

    # --- the loop ---

    async def _run(self) -> None:
        worker = Worker()
        try:
            while True:
                await self._gather()
                self._judged = self._take()
                if self._judged:
                    await self._judge(worker, self._judged)
                self._judged = []
                self._check_empty()
        finally:
            worker.close()

    async def _gather(self) -> None:
        """Waits for a request and, while there is a crowd, for its company."""
        await self._arrive(1)
        crowd = min(self._last, self._limits.batch)
        left = self._answered_at + self._limits.delay - time.monotonic()
        if self._waiting < crowd and left > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrive(crowd), left)

    async def _arrive(self, battles: int) -> None:
        """Waits until so many battles are waiting."""
        self._enough = battles
        while self._waiting < battles:
            self._arrived.clear()
            await self._arrived.wait()

    def _take(self) -> list[Job]:
        """The next batch: whole requests, in the order in which they came."""
        batch: list[Job] = []
        battles = characters = 0
        while self._jobs:
            asked = self._jobs[0].asked
            battles += len(asked)
            characters += asked.characters
            if batch and (battles > self._limits.batch or characters > _BATCH_CHARACTERS):
                break
            job = self._jobs.popleft()
            self._leave(job)
            batch.append(job)
        return batch

    async def _judge(self, worker: Worker, jobs: Sequence[Job]) -> None:
        requests = [job.asked for job in jobs]
        battles = sum(map(len, requests))
        started = time.monotonic()
        try:
            outcomes = await worker.call(lambda: self._work(requests))
        except Exception as error:
            _log.error("a batch failed", exc_info=error)
            fault = Refused(500, "internal", f"the server failed ({type(error).__name__})")
            outcomes = [fault] * len(requests)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if not job.outcome.done():
                job.outcome.set_result(outcome)
        self._answered_at = time.monotonic()
        seconds = self._answered_at - started
        self._last = battles
        self._rate += (battles / max(seconds, 1e-6) - self._rate) * (_FRESH if self._rate else 1.0)
        self._metrics.batches.observe(battles)
        self._metrics.judging.observe(seconds)

    # --- the queue ---

    def _leave(self, job: Job) -> None:
        job.waiting = False
        self._waiting -= len(job.asked)

    def _check_empty(self) -> None:
        if not self._jobs and not self._judged:
            self._empty.set()

    def _retry_after(self) -> int:
        """Seconds until what is waiting will have been judged, as far as one can tell."""
        if not self._rate:
            return 1
        return max(1, min(_LONGEST_RETRY, math.ceil(self._waiting / self._rate)))
