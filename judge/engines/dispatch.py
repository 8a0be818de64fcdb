"""Which call goes where and when. Works on one event loop, in one thread.

A call waits in a queue until a server has room, the rates allow it and the budget has the money. It
comes back to the queue when it could not be answered, after a wait of its own, and leaves with a
reply: `judge.engines.outcomes` sees to that. Nothing here blocks, and no failure of one call is
felt by another.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from judge.engines import wire
from judge.engines.base import BUDGET, Reply, Statistics
from judge.engines.jobs import Attempt, Job, Run
from judge.engines.limits import Budget, Rate
from judge.engines.outcomes import Outcomes
from judge.engines.servers import Pool, Server
from judge.engines.settings import EndpointSettings
from judge.engines.transport import Secrets, Target, Transport
from judge.errors import ArenaJudgeError

_HANDED = 256  # so many are handed over at once

Deliver = Callable[[Run, list[tuple[Job, Reply]] | Exception], None]


class Dispatcher:
    """Sends jobs and hands over their replies.

    Args:
        settings: how to ask.
        targets: whom to ask.
        transport: what posts; made on the running loop.
        secrets: to be kept out of what servers say.
        statistics: counted up.
        notes: added to.
        deliver: takes batches of replies; must not block.
        linger: seconds that replies gather before they are handed over together; with 0 each is
            handed over at once.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        targets: Sequence[Target],
        transport: Transport,
        secrets: Secrets,
        statistics: Statistics,
        notes: list[str],
        deliver: Deliver,
        linger: float = 0.0,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._statistics = statistics
        self._deliver = deliver
        self._linger = linger
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(targets, settings.concurrency)
        self._queue: deque[Job] = deque()
        self._sent: dict[asyncio.Task[None], Job] = {}
        self._runs: set[Run] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._requests = _rate(settings.requests_per_minute)
        self._tokens = _rate(settings.tokens_per_minute)
        self._budget = Budget(settings.max_cost)
        self._spent_up = False
        self._outcomes = Outcomes(
            settings,
            self._pool,
            secrets,
            statistics,
            notes,
            self._budget,
            self._tokens,
            random.Random(settings.seed),
            self._finish,
            self._again,
        )

    # In and out.

    def accept(self, run: Run, jobs: Iterable[Job]) -> None:
        """Takes jobs of a run."""
        if run.cancelled:
            return
        self._runs.add(run)
        self._queue.extend(jobs)
        self._dispatch()

    async def cancel(self, run: Run) -> None:
        """Ends what a run has under way and hands over what was answered."""
        run.cancelled = True
        self._queue = deque(job for job in self._queue if job.run is not run)
        tasks = [task for task, job in self._sent.items() if job.run is run]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        self._hand_over(run)
        self._runs.discard(run)
        self._dispatch()

    async def close(self) -> None:
        """Ends everything."""
        for run in list(self._runs):
            await self.cancel(run)
        if self._timer is not None:
            self._timer.cancel()
        await self._transport.close()

    def _finish(self, job: Job, reply: Reply) -> None:
        self._statistics.count(reply)
        run = job.run
        run.answered.append((job, reply))
        if not self._linger or len(run.answered) >= _HANDED:
            self._hand_over(run)
        elif run.handover is None:
            run.handover = self._loop.call_later(self._linger, self._hand_over, run)

    def _hand_over(self, run: Run) -> None:
        if run.handover is not None:
            run.handover.cancel()
            run.handover = None
        if run.answered:
            batch, run.answered = run.answered, []
            self._deliver(run, batch)

    def _abort(self, error: Exception) -> None:
        """Ends every run: no call can succeed."""
        self._queue.clear()
        for run in self._runs:
            run.cancelled = True
            self._hand_over(run)
            self._deliver(run, error)

    # Which call goes next.

    def _dispatch(self) -> None:
        """Sends what may be sent now, and sees to it that it is called again when more may be."""
        now = self._loop.time()
        while self._queue and len(self._sent) < self._settings.concurrency:
            job = self._queue[0]
            hopeless = self._hopeless(job, now)
            if hopeless is not None:
                self._queue.popleft()
                self._outcomes.fail(job, hopeless)
                continue
            server = self._pool.choose(job.model, job.request.prefix, job.avoid, now)
            if server is None:
                self._call_at(self._pool.next_change(now))
                return  # or when a call comes back, which makes room
            wait = max(self._requests.wait(1, now), self._tokens.wait(job.tokens, now))
            if wait > 0:
                self._call_at(now + wait)
                return
            share = self._budget.share(job.promised)
            if share is None:
                if self._sent:
                    return  # they may turn out cheaper than was set aside for them
                self._spent_up = True
                continue
            self._queue.popleft()
            job.held = share
            self._send(job, server)
        if not self._sent:
            for run in self._runs:
                self._hand_over(run)  # nothing else will come that it could wait for

    def _hopeless(self, job: Job, now: float) -> str | None:
        """Why a job need not be sent, if so."""
        if self._spent_up:
            return BUDGET
        if not self._pool.known(job.model):
            return f"no server takes calls of {job.model}"
        patience = self._settings.patience
        if self._pool.down_for(job.model, now) > patience:
            why = self._pool.denial and f" ({self._pool.denial})"
            return f"no server answered for {patience:g} seconds{why}"
        return None

    def _call_at(self, time: float | None) -> None:
        if time is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(time, self._dispatch)

    def _send(self, job: Job, server: Server) -> None:
        self._requests.take(1)
        self._tokens.take(job.tokens)
        self._budget.hold(job.held)
        server.outstanding += 1
        self._sent[self._loop.create_task(self._attempt(job, server))] = job

    async def _attempt(self, job: Job, server: Server) -> None:
        features = server.dialect(job.model).features(job.request.parameters)
        attempt = Attempt(job, server, features, self._loop.time())
        try:
            body = wire.body(job.request, features)
            await self._outcomes.take(attempt, self._transport.post(server.target, body))
        except ArenaJudgeError as error:
            self._abort(error)
        except Exception as error:  # one failed call never ends a run, whatever it failed of
            self._outcomes.fail(
                job, wire.one_line(f"the call failed ({type(error).__name__}: {error})")
            )
        finally:
            server.outstanding -= 1
            self._budget.hold(-job.held)
            job.held = 0.0
            task = asyncio.current_task()
            assert task is not None
            del self._sent[task]
            self._dispatch()

    def _again(self, job: Job, wait: float) -> None:
        if wait > 0:
            self._loop.call_later(wait, self._requeue, job)
        else:
            self._requeue(job)

    def _requeue(self, job: Job) -> None:
        if not job.run.cancelled:
            self._queue.appendleft(job)  # it has waited longest
            self._dispatch()


def _rate(a_minute: float | None) -> Rate:
    return Rate(math.inf if a_minute is None else a_minute)
