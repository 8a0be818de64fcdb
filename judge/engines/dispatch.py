"""Which call goes where and when, and what becomes of it. Works on one event loop, in one thread.

A call waits in a queue until a server has room, the rates allow it and the budget has the money. It
comes back to the queue when it could not be answered, after a wait of its own, and leaves with a
reply. Nothing here blocks, and no failure of one call is felt by another.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from judge.engines import wire
from judge.engines.base import BUDGET, Reply, Statistics
from judge.engines.jobs import Job, Run
from judge.engines.limits import Rate, backoff, retry_after
from judge.engines.servers import Pool, Server
from judge.engines.settings import EndpointSettings
from judge.engines.transport import Answer, Broken, Key, Transport, Unreachable, plain_name
from judge.errors import ArenaJudgeError

_HANDED = 256  # so many are handed over at once
_TRIES_OF_FORMAT = 3  # server errors after which a schema is suspected of causing them

_TRIES_OF_PAGE = 3  # web pages after which that is taken for all that a server has

_BUSY = {429, 503, 529}
_FAULTY = {408, 409, 425}  # and everything from 500 on


Deliver = Callable[[Run, list[tuple[Job, Reply]] | Exception], None]


class Dispatcher:
    """Sends jobs and hands over their replies.

    Args:
        settings: how to ask.
        transport: what posts; made on the running loop.
        key: to be kept out of what servers say.
        statistics: counted up.
        notes: added to.
        deliver: takes batches of replies; must not block.
        linger: seconds that replies gather before they are handed over together; with 0 each is
            handed over at once.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        transport: Transport,
        key: Key,
        statistics: Statistics,
        notes: list[str],
        deliver: Deliver,
        linger: float = 0.0,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._key = key
        self._statistics = statistics
        self._notes = notes
        self._deliver = deliver
        self._linger = linger
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(settings.base_urls, settings.concurrency)
        self._draws = random.Random(settings.seed)
        self._queue: deque[Job] = deque()
        self._sent: dict[asyncio.Task[None], Job] = {}
        self._runs: set[Run] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._down_since = math.nan
        self._requests = _rate(settings.requests_per_minute)
        self._tokens = _rate(settings.tokens_per_minute)
        self._spent = self._held = self._promised = 0.0
        self._spent_up = False

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

    def _fail(self, job: Job, error: str) -> None:
        self._finish(job, Reply.failed(self._key.scrubbed(error)))

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
                self._fail(job, hopeless)
                continue
            server = self._pool.choose(job.model, job.request.prefix, job.avoid, now)
            if server is None:
                self._call_at(self._pool.next_change(now))
                return  # or when a call comes back, which makes room
            wait = max(self._requests.wait(1, now), self._tokens.wait(job.tokens, now))
            if wait > 0:
                self._call_at(now + wait)
                return
            if not self._affordable(job):
                if self._sent:
                    return  # they may turn out cheaper than was set aside for them
                self._spent_up = True
                continue
            self._queue.popleft()
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
        if self._pool.down and now - self._down_since > self._settings.patience:
            return f"no server answered for {self._settings.patience:g} seconds"
        return None

    def _affordable(self, job: Job) -> bool:
        most = self._settings.max_cost
        if most is None:
            return True
        # Where estimates have been too low so far, they are raised by as much.
        short = max(1.0, self._spent / self._promised) if self._promised else 1.0
        job.held = job.promised * short
        return self._spent + self._held + job.held <= most

    def _call_at(self, time: float | None) -> None:
        if time is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(time, self._dispatch)

    def _send(self, job: Job, server: Server) -> None:
        self._requests.take(1)
        self._tokens.take(job.tokens)
        self._held += job.held
        server.outstanding += 1
        self._sent[self._loop.create_task(self._attempt(job, server))] = job

    async def _attempt(self, job: Job, server: Server) -> None:
        features = server.dialect(job.model).features(job.request.parameters)
        sent = self._loop.time()
        try:
            answer = await self._transport.post(server.url, wire.body(job.request, features))
            self._receive(job, server, features, answer, sent)
        except Unreachable as error:
            self._unreachable(job, server, str(error))
        except Broken as error:
            server.limit.refused(sent, self._loop.time())
            self._fault(job, server, str(error))
        except ArenaJudgeError as error:
            self._abort(error)
        except Exception as error:  # one failed call never ends a run, whatever it failed of
            self._fail(job, wire.one_line(f"the call failed ({type(error).__name__}: {error})"))
        finally:
            server.outstanding -= 1
            self._held -= job.held
            job.held = 0.0
            task = asyncio.current_task()
            assert task is not None
            del self._sent[task]
            self._dispatch()

    # What becomes of it.

    def _receive(
        self, job: Job, server: Server, features: Mapping[str, Any], answer: Answer, sent: float
    ) -> None:
        status = answer.status
        if 200 <= status < 300:
            try:
                reply = wire.read_reply(answer.data, job.request, self._loop.time() - sent)
            except wire.Garbled as error:
                dialect = server.dialect(job.model)
                dialect.pages += wire.is_page(answer.data)
                if not dialect.proven and dialect.pages >= _TRIES_OF_PAGE:
                    words = f"{server.name} answered with a web page"
                    self._refused(job, server, words, "see that its base URL is right")
                else:
                    self._fault(job, server, str(error))
            else:
                if not server.dialect(job.model).proven and (
                    other := wire.another_model(answer.data, job.model)
                ):
                    self._note(f"{server.name} answers as {other} when asked for {job.model}")
                self._answered(job, server, features, reply, sent)
            return
        complaint = wire.read_complaint(answer.data, list(features))
        words = f"{server.name} answered {status}" + (complaint.text and f": {complaint.text}")
        if status == 402 or complaint.no_credit:
            self._refused(job, server, words, "see to the account's credit")
        elif status in _BUSY:
            self._busy(job, server, answer, words, sent)
        elif status in _FAULTY or status >= 500:
            self._suspect(job, server, features)
            self._fault(job, server, words, _asked_wait(answer))
        elif 300 <= status < 400:
            target = plain_name(answer.headers.get("Location", "")).removesuffix(
                "/chat/completions"
            )
            self._refused(job, server, words, f"name the base URL {target} instead")
        elif status in (401, 403):
            self._refused(job, server, words, f"set {self._key.variable} to a key that it takes")
        elif status in (400, 422) and complaint.feature is not None:
            self._do_without(job, server, complaint.feature, features, words)
        elif status in (404, 405) or complaint.no_model:
            mend = f"see that it serves {job.model} and that its base URL is right"
            self._refused(job, server, words, mend)
        elif complaint.too_long:
            self._fail(job, f"the prompt is too long: {words}")
        else:
            self._fail(job, words)

    def _answered(
        self, job: Job, server: Server, features: Mapping[str, Any], reply: Reply, sent: float
    ) -> None:
        server.well(sent, self._loop.time())
        self._down_since = math.nan
        dialect = server.dialect(job.model)
        if not dialect.proven:
            dialect.proven = True
            for feature in wire.ignored(reply, job.request.parameters, features):
                if feature == "logprobs":
                    dialect.dropped.add(feature)
                self._note(f"{server.name} does not heed {feature} for {job.model}")
        if job.price is not None:
            reply = replace(reply, cost=job.price.cost(reply.usage))
        self._spent += reply.cost
        self._promised += job.promised
        if job.tokens:
            self._tokens.take(reply.usage.prompt + reply.usage.completion - job.tokens)
        self._finish(job, reply)

    def _busy(self, job: Job, server: Server, answer: Answer, words: str, sent: float) -> None:
        now = self._loop.time()
        server.busy(sent, now)
        self._statistics.refused += 1
        asked = _asked_wait(answer)
        if asked is None:
            wait = self._backoff(job.refusals)
        else:  # those that were told the same moment do not all come at it
            wait = asked + self._draws.uniform(0, min(1.0, asked / 8))
        job.refusals += 1
        if math.isnan(job.since):
            job.since = now
        if now + wait - job.since > self._settings.patience:
            self._fail(job, f"{words}, for {self._settings.patience:g} seconds and longer")
            return
        if server.overrun or not server.dialect(job.model).proven:
            server.pause(now + wait)
        self._again(job, server, wait)

    def _fault(self, job: Job, server: Server, words: str, asked: float | None = None) -> None:
        server.faulty(self._loop.time(), self._draws)
        self._see_whether_down()
        if job.faults >= self._settings.retries:
            tried = f" ({job.faults + 1} attempts)" if job.faults else ""
            self._fail(job, f"{words}{tried}")
            return
        wait = max(self._backoff(job.faults), min(asked or 0.0, self._settings.patience))
        job.faults += 1
        self._again(job, server, wait)

    def _suspect(self, job: Job, server: Server, features: Mapping[str, Any]) -> None:
        """There are servers that answer a schema with a 500."""
        dialect = server.dialect(job.model)
        if dialect.proven or "response_format" not in features:
            return
        dialect.failures += 1
        if dialect.failures % _TRIES_OF_FORMAT == 0 and dialect.give_up(
            "response_format", features
        ):
            self._note(f"{server.name} fails with response_format; it is served without")

    def _do_without(
        self,
        job: Job,
        server: Server,
        feature: str,
        features: Mapping[str, Any],
        words: str,
    ) -> None:
        dialect = server.dialect(job.model)
        current = dialect.features(job.request.parameters)
        # A call that was under way when another found this out has nothing to add.
        if current.get(feature) == features[feature] and dialect.give_up(feature, features):
            self._note(f"{job.model} is served without {feature}: {words}")
        if dialect.features(job.request.parameters) == features:
            self._fail(job, words)
        else:
            self._again(job, None, 0.0)

    def _refused(self, job: Job, server: Server, words: str, mend: str) -> None:
        """The server will not serve this model, now or later."""
        dialect = server.dialect(job.model)
        if dialect.proven:
            self._fail(job, words)
            return
        dialect.absent = True
        if self._pool.known(job.model):
            self._note(f"{words}; it is left out for {job.model}")
            self._again(job, server, 0.0)
        elif self._pool.proven(job.model):
            self._fail(job, words)
        else:
            raise ArenaJudgeError(self._key.scrubbed(f"{words}; {mend}"))

    def _unreachable(self, job: Job, server: Server, words: str) -> None:
        server.rest(self._loop.time(), self._draws)
        self._see_whether_down()
        if self._pool.down and not self._pool.heard:
            names = ", ".join(other.name for other in self._pool.servers)
            self._abort(
                ArenaJudgeError(
                    self._key.scrubbed(
                        f"no server answers at {names} ({words}); start it or name another base URL"
                    )
                )
            )
            return
        self._note(f"{server.name} cannot be reached ({words}); it is tried again now and then")
        self._again(job, server, 0.0)

    def _see_whether_down(self) -> None:
        if self._pool.down and math.isnan(self._down_since):
            self._down_since = self._loop.time()

    def _again(self, job: Job, avoid: Server | None, wait: float) -> None:
        self._statistics.retries += 1
        job.avoid = avoid
        if wait > 0:
            self._loop.call_later(wait, self._requeue, job)
        else:
            self._requeue(job)

    def _requeue(self, job: Job) -> None:
        if not job.run.cancelled:
            self._queue.appendleft(job)  # it has waited longest
            self._dispatch()

    def _backoff(self, attempt: int) -> float:
        settings = self._settings
        return backoff(attempt, self._draws, settings.first_backoff, settings.longest_backoff)

    def _note(self, text: str) -> None:
        line = self._key.scrubbed(text)
        if line not in self._notes:
            self._notes.append(line)


def _rate(a_minute: float | None) -> Rate:
    return Rate(math.inf if a_minute is None else a_minute)


def _asked_wait(answer: Answer) -> float | None:
    """Seconds that a server asks to wait."""
    try:
        return max(0.0, float(answer.headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        return retry_after(answer.headers.get("retry-after"))
