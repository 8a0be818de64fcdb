"""What becomes of a call that was sent: a reply, another attempt, or the reason why there is none.

Here an engine learns what its servers take. Works on the loop of `judge.engines.dispatch`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from judge.engines import wire
from judge.engines.base import Reply, Statistics
from judge.engines.complaints import (
    Complaint,
    Kind,
    complaint_of,
    judged,
    read_complaint,
    status_within,
)
from judge.engines.jobs import Attempt, Job
from judge.engines.limits import Budget, Rate, asked_wait, backoff
from judge.engines.servers import Pool, Server
from judge.engines.settings import EndpointSettings
from judge.engines.transport import Answer, Broken, Secrets, Unreachable, plain_name
from judge.errors import ArenaJudgeError

_TRIES_OF_FORMAT = 3  # server errors after which a schema is suspected of causing them
_TRIES_OF_FOREIGN = 3  # answers after which what is no reply is taken for all that a server has
_DENIALS = 3  # calls in a row that a server may not want to serve before it is left out
_SHOWN = 3  # servers whose reasons stand in one message


@dataclass
class Outcomes:
    """Takes what servers answer.

    Attributes:
        settings: how to ask.
        pool: the servers, which it keeps informed.
        secrets: to be kept out of what servers say.
        statistics: counted up.
        notes: added to.
        budget, tokens: what calls are paid from.
        draws: for waits.
        finish: takes a job's reply.
        again: takes a job that is to be sent again, after so many seconds.
    """

    settings: EndpointSettings
    pool: Pool
    secrets: Secrets
    statistics: Statistics
    notes: list[str]
    budget: Budget
    tokens: Rate
    draws: random.Random
    finish: Callable[[Job, Reply], None]
    again: Callable[[Job, float], None]

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def take(self, attempt: Attempt, answering: Awaitable[Answer]) -> None:
        """Waits for an answer and does what is to be done about it.

        Raises:
            ArenaJudgeError: no call can succeed.
        """
        try:
            self._receive(attempt, await answering)
        except Unreachable as error:
            self._unreachable(attempt.job, attempt.server, str(error))
        except Broken as error:
            attempt.server.limit.refused(attempt.sent, self._loop.time())
            self._fault(attempt.job, attempt.server, str(error))

    def fail(self, job: Job, error: str) -> None:
        """There is no reply, and why."""
        self.finish(job, Reply.failed(self.secrets.scrubbed(error)))

    def _receive(self, attempt: Attempt, answer: Answer) -> None:
        if 200 <= answer.status < 300:
            seconds = self._loop.time() - attempt.sent
            try:
                reply = wire.read_reply(answer.data, attempt.job.request, seconds, time.time())
            except wire.Garbled as error:
                self._garbled(attempt, answer, error)
            else:
                self._answered(attempt, answer, reply)
            return
        attempt.standing.foreign = 0
        features = attempt.features
        complaint = read_complaint(answer.data, list(features), wire.asked_tokens(features))
        self._complained(attempt, answer, answer.status, complaint)

    def _answered(self, attempt: Attempt, answer: Answer, reply: Reply) -> None:
        job, server, standing = attempt.job, attempt.server, attempt.standing
        server.well(attempt.sent, self._loop.time())
        self.pool.well(self._loop.time())
        standing.denials = 0
        if not standing.proven:
            standing.proven = True
            self._look_closely(attempt, answer, reply)
        if reply.finish == "length":
            self._see_whether_cut(attempt, answer, reply)
        if job.price is not None:
            reply = replace(reply, cost=job.price.cost(reply.usage))
        # Put together from pieces, it may say what none of them did.
        text = self.secrets.scrubbed(reply.text)
        if text != reply.text:
            reply = replace(reply, text=text, logprobs=None)
        self.budget.pay(reply.cost, job.promised)
        if job.tokens:
            self.tokens.take(reply.usage.prompt + reply.usage.completion - job.tokens)
        self.finish(job, reply)

    def _look_closely(self, attempt: Attempt, answer: Answer, reply: Reply) -> None:
        """At a server's first reply, which shows what it passes over in silence."""
        job, place = attempt.job, attempt.server.place
        if other := wire.another_model(answer.data, job.model):
            self._note(f"{place} answers as {other} when asked for {job.model}")
        for feature in wire.ignored(reply, job.request.parameters, attempt.features):
            if feature == "logprobs":
                attempt.dialect.dropped.add(feature)
            self._note(f"{place} does not heed {feature} for {job.model}")

    def _see_whether_cut(self, attempt: Attempt, answer: Answer, reply: Reply) -> None:
        """There are servers that let no reply be as long as it was asked to be, and do not say."""
        asked = wire.asked_tokens(attempt.features)
        if attempt.dialect.cuts or (at := wire.cut_at(answer.data, reply, asked)) is None:
            return
        attempt.dialect.cuts = True
        self._note(
            f"{attempt.server.place} cuts replies at {at:,} tokens, fewer than the {asked:,} asked "
            f"for, of {attempt.job.model}"
        )

    def _garbled(self, attempt: Attempt, answer: Answer, error: wire.Garbled) -> None:
        """What came with a 200 is no reply."""
        job, server, standing = attempt.job, attempt.server, attempt.standing
        page, words = wire.is_page(answer.data), str(error)
        if isinstance(error, wire.Foreign):
            complaint = complaint_of(
                error.content, list(attempt.features), wire.asked_tokens(attempt.features)
            )
            status = status_within(error.content)
            if status is not None:
                self._complained(attempt, answer, status, complaint)
                return
            if isinstance(error.content, dict) and error.content.get("error"):
                words = f"{server.name} answered with an error: {complaint.text}"
        standing.foreign = standing.foreign + 1 if page or isinstance(error, wire.Foreign) else 0
        if standing.proven or standing.foreign < _TRIES_OF_FOREIGN:
            self._fault(job, server, words)
            return
        if page:
            words = f"{server.name} answered with a web page"
        elif words == str(error):
            words = f"{server.name} answered with something else than a chat completion"
        self._refused(job, server, words, "see that its base URL is right")

    def _complained(
        self, attempt: Attempt, answer: Answer, status: int, complaint: Complaint
    ) -> None:
        job, server = attempt.job, attempt.server
        target = plain_name(answer.headers.get("Location", "")).removesuffix("/chat/completions")
        verdict = judged(
            status,
            complaint,
            f"{server.name} answered {status}" + (complaint.text and f": {complaint.text}"),
            model=job.model,
            key=server.target.variable,
            target=target,
        )
        if verdict.kind is Kind.REFUSED:
            self._refused(job, server, verdict.words, verdict.mend)
        elif verdict.kind is Kind.BUSY:
            self._busy(attempt, answer, verdict.words)
        elif verdict.kind is Kind.FAULT:
            self._suspect(attempt)
            self._fault(job, server, verdict.words, asked_wait(answer.headers))
        elif verdict.kind is Kind.LEARN:
            self._learn(attempt, complaint, verdict.words)
        else:
            self.fail(job, verdict.words)

    def _busy(self, attempt: Attempt, answer: Answer, words: str) -> None:
        job, server, now = attempt.job, attempt.server, self._loop.time()
        server.busy(attempt.sent, now)
        self.statistics.refused += 1
        asked = asked_wait(answer.headers)
        if asked is None:
            wait = self._backoff(job.refusals)
        else:  # those that were told the same moment do not all come at it, and none at once
            spread = max(min(1.0, asked / 8), self.settings.first_backoff)
            wait = asked + self.draws.uniform(0, spread)
        job.refusals += 1
        if math.isnan(job.since):
            job.since = now
        over = now + wait - job.since > self.settings.patience
        if over or not self.pool.worth_waiting(job.model):
            self.pool.tired(job.model, job.since)
            self.fail(job, f"{words}, for {self.settings.patience:g} seconds and longer")
            return
        if server.overrun or not attempt.standing.proven:
            server.pause(now + wait)
        self._again(job, server, wait)

    def _fault(self, job: Job, server: Server, words: str, asked: float | None = None) -> None:
        server.faulty(self._loop.time(), self.draws)
        if job.faults >= self.settings.retries:
            tried = f" ({job.faults + 1} attempts)" if job.faults else ""
            self.fail(job, f"{words}{tried}")
            return
        wait = max(self._backoff(job.faults), min(asked or 0.0, self.settings.patience))
        job.faults += 1
        self._again(job, server, wait)

    def _suspect(self, attempt: Attempt) -> None:
        """There are servers that answer a schema with a 500."""
        standing = attempt.standing
        if standing.proven or "response_format" not in attempt.features:
            return
        standing.failures += 1
        if standing.failures % _TRIES_OF_FORMAT == 0 and attempt.dialect.give_up(
            "response_format", attempt.features
        ):
            self._note(f"{attempt.server.place} fails with response_format; it is served without")

    def _learn(self, attempt: Attempt, complaint: Complaint, words: str) -> None:
        """The call is put in another way, and those after it."""
        job, dialect = attempt.job, attempt.dialect
        if attempt.stale():  # another has found out what there was to find
            self._again(job, None, 0.0)
            return
        place, asked = attempt.server.place, wire.asked_tokens(attempt.features)
        if complaint.stream and dialect.learn_stream():
            self._again(job, None, 0.0)
            return
        if complaint.cap is not None:
            if not dialect.learn_cap(complaint.cap):
                self.fail(job, words)
                return
            if not dialect.cuts:
                dialect.cuts = True
                self._note(
                    f"{place} gives replies of {job.model} {complaint.cap:,} tokens at most, fewer "
                    f"than the {asked:,} asked for"
                )
        elif (
            complaint.feature is not None
            and dialect.give_up(complaint.feature, attempt.features)
            and complaint.feature not in ("stream", "stream_options")
        ):
            self._note(f"{job.model} is served without {complaint.feature}: {words}")
        if attempt.stale():
            self._again(job, None, 0.0)
        else:
            self.fail(job, words)

    def _refused(self, job: Job, server: Server, words: str, mend: str) -> None:
        """The server will not serve this model, now or later."""
        standing = server.standing(job.model)
        if standing.proven:
            self._denied(job, server, words)
            return
        standing.refusal = words
        if self.pool.known(job.model):
            self._note(f"{words}; it is left out for {job.model}")
            self._again(job, server, 0.0)
        elif self.pool.proven(job.model):
            self.fail(job, words)
        else:
            lines = [*self._refusals(job.model, server), words, mend]
            raise ArenaJudgeError(self.secrets.scrubbed("; ".join(lines)))

    def _refusals(self, model: str, besides: Server) -> list[str]:
        """Why servers do not serve a model, for a message."""
        others = (other for other in self.pool.servers if other is not besides)
        found = [words for other in others if (words := other.standing(model).refusal)]
        more = len(found) - _SHOWN
        return [*found[:_SHOWN], f"{more} more like these"] if more > 0 else found

    def _denied(self, job: Job, server: Server, words: str) -> None:
        """A server would not serve this call, and has served others: it may be the call, the key
        may have been revoked, or the account be empty."""
        others = len(self.pool.open_to(job.model))
        if others < 2:
            self.fail(job, words)
            return
        standing = server.standing(job.model)
        standing.denials += 1
        if standing.denials >= _DENIALS:
            server.rest(self._loop.time(), self.draws)
            self.pool.denial = words
        if standing.denials == _DENIALS:
            self._note(f"{words}; it is left out, and tried again now and then")
        wait = 0.0
        if server in job.denied:  # the others have no room
            wait = self._backoff(job.faults)
            job.faults += 1
        else:
            job.denied = (*job.denied, server)
        if len(job.denied) >= others or job.faults > self.settings.retries:
            self.fail(job, words)
        else:
            self._again(job, server, wait)

    def _unreachable(self, job: Job, server: Server, words: str) -> None:
        server.rest(self._loop.time(), self.draws)
        if self.pool.down(job.model) and not self.pool.heard(job.model):
            left = self.pool.open_to(job.model)
            names = ", ".join(dict.fromkeys(other.place for other in left))
            lines = [
                f"no server answers at {names} ({words}); start it or name another base URL",
                *self._refusals(job.model, server),
            ]
            raise ArenaJudgeError(self.secrets.scrubbed("; ".join(lines)))
        self._note(f"{server.place} cannot be reached ({words}); it is tried again now and then")
        self._again(job, server, 0.0)

    def _again(self, job: Job, avoid: Server | None, wait: float) -> None:
        self.statistics.retries += 1
        job.avoid = avoid
        self.again(job, wait)

    def _backoff(self, attempt: int) -> float:
        settings = self.settings
        return backoff(attempt, self.draws, settings.first_backoff, settings.longest_backoff)

    def _note(self, text: str) -> None:
        line = self.secrets.scrubbed(text)
        if line not in self.notes:
            self.notes.append(line)
