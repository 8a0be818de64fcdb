"""One judge at the disposal of many askers: who may ask, what they get, what is counted."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from judge.judges.base import Judge
from judge.service.batching import Batcher
from judge.service.bodies import GoneError, read_body
from judge.service.judging import Answer, judge_batch
from judge.service.limits import Intake, Limits
from judge.service.metrics import Metrics
from judge.service.refusals import Refused, stopping
from judge.service.requests import Asked, read_request

_log = logging.getLogger(__name__)

JSON = "application/json"
HUNG_UP = 499

# Whether an asker has hung up is looked after only where an answer is long in coming: a task for
# each request costs more than it could save.
_PATIENCE = 0.25


class Service:
    """A judge, its queue and its counters.

    Args:
        judge: answers; is called in one thread, a batch at a time.
        limits: of requests and of the queue.
        key: what askers have to send as a bearer token; None for everybody.
        grace: seconds that what is waiting may take once the service is told to stop.
    """

    def __init__(
        self,
        judge: Judge,
        limits: Limits | None = None,
        *,
        key: str | None = None,
        grace: float = 30.0,
    ) -> None:
        self.judge, self.grace = judge, grace
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self._key = None if key is None else key.encode()
        self._intake = Intake(self.limits.held)
        self._batcher = Batcher(partial(judge_batch, judge), self.limits, self.metrics)
        self.metrics.watch(lambda: self._batcher.waiting)
        self._reading: set[asyncio.Timeout] = set()
        self.unanswered = 0

    @property
    def has_key(self) -> bool:
        """Whether askers have to send one."""
        return self._key is not None

    @property
    def waiting(self) -> int:
        """Battles in the queue."""
        return self._batcher.waiting

    @property
    def stopping(self) -> bool:
        """Whether new requests are refused."""
        return self._batcher.stopping

    def start(self) -> None:
        """Begins to judge; to be called where an event loop runs."""
        self._batcher.start()

    def refuse_new(self) -> None:
        """Takes no more requests; may be called from a signal handler."""
        self._batcher.stopping = True

    async def stop(self) -> None:
        """Answers what is waiting, as far as `grace` allows; waits for no more text."""
        self.refuse_new()
        for patience in self._reading:
            patience.reschedule(asyncio.get_running_loop().time())
        self.unanswered += await self._batcher.drain(self.grace)

    def hurry(self) -> None:
        """Lets the grace end now."""
        self._batcher.hurry()

    def check_key(self, request: Request) -> None:
        """Raises:
        Refused: a key is asked for, and this request has not got it (401).
        """
        if self._key is None:
            return
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(sent.strip().encode("utf-8", "replace"), self._key)
        if scheme.lower() != "bearer" or not right:
            mend = "send the header Authorization: Bearer KEY"
            raise Refused(401, "unauthorized", "the key is missing or wrong", mend=mend)

    async def answer(self, request: Request) -> Response:
        """The reply to POST /v1/judge, whatever was sent."""
        started = time.monotonic()
        try:
            answer = await self._answer(request)
        except Refused as refused:
            return self._replied(refused.status, refused.body(), refused.headers())
        except GoneError:
            return self._replied(HUNG_UP, b"", {})
        except Exception as error:
            _log.error("a request failed", exc_info=error)
            fault = Refused(500, "internal", f"the server failed ({type(error).__name__})")
            return self._replied(fault.status, fault.body(), fault.headers())
        self.metrics.battles.inc(answer.battles)
        self.metrics.unjudged.inc(answer.unjudged)
        self.metrics.latency.observe(time.monotonic() - started)
        return self._replied(200, answer.body, {})

    def _replied(self, status: int, body: bytes, headers: dict[str, str]) -> Response:
        self.metrics.requests.labels(str(status)).inc()
        return Response(body, status, headers, JSON)

    async def _answer(self, request: Request) -> Answer:
        self.check_key(request)
        _check_type(request)
        self._batcher.check(0)
        with self._intake.hold() as take:
            body = await self._body(request, take)
            self._batcher.check()  # before the work of reading it
            asked = read_request(body, self.limits)
            del body
            return await self._judged(asked, request)

    async def _body(self, request: Request, take: Callable[[int], None]) -> bytes:
        """The request's body, if it is here in time and before the service stops."""
        declared = request.headers.get("content-length")
        seconds = self.limits.body_seconds
        try:
            async with asyncio.timeout(seconds) as patience:
                self._reading.add(patience)
                try:
                    return await read_body(request.receive, declared, self.limits, take)
                finally:
                    self._reading.discard(patience)
        except TimeoutError:
            if self.stopping:
                raise stopping() from None
            message = f"the body did not arrive within {seconds:g} seconds"
            raise Refused(408, "too_slow", message, mend="send it faster") from None

    async def _judged(self, asked: Asked, request: Request) -> Answer:
        """The reply when its turn has come; one that nobody waits for any more loses its turn."""
        job = self._batcher.submit(asked)
        try:
            if not (await asyncio.wait([job.outcome], timeout=_PATIENCE))[0]:
                gone: asyncio.Future[Any] = asyncio.ensure_future(_hung_up(request))
                either: list[asyncio.Future[Any]] = [job.outcome, gone]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
            if not job.outcome.done():
                raise GoneError
        finally:
            self._batcher.withdraw(job)
        outcome = job.outcome.result()
        if isinstance(outcome, Refused):
            raise outcome
        return outcome


def _check_type(request: Request) -> None:
    """JSON only: what a page in a browser can send elsewhere without being allowed to is not."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != JSON and not (sent.startswith("application/") and sent.endswith("+json")):
        message = f"the body is sent as {sent[:40]!r}, not as JSON" if sent else "no Content-Type"
        mend = f"send the header Content-Type: {JSON}"
        raise Refused(415, "unsupported_type", message, mend=mend)


async def _hung_up(request: Request) -> None:
    """Returns when the asker has."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
