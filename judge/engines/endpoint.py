"""An engine that asks any server that speaks the OpenAI protocol, or several.

Three threads share the work. The user's takes requests from its iterable, looks them up in the
ledger and uses the replies. One has the event loop, on which `judge.engines.dispatch` sends calls.
One (`judge.engines.keeping`) writes replies to the ledger before the user sees them: what was seen
is kept.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from queue import Empty
from typing import Any, TypeVar

from judge.engines.base import Engine, Estimate, Reply, Request, Usage
from judge.engines.dispatch import Dispatcher
from judge.engines.jobs import Job, Run
from judge.engines.keeping import Keeper
from judge.engines.ledger import Ledger
from judge.engines.pricing import Counter, Price, load_prices, prompt_tokens
from judge.engines.settings import EndpointSettings
from judge.engines.transport import AiohttpTransport, OpenAITransport, Secrets, find_targets
from judge.errors import ArenaJudgeError

Result = TypeVar("Result")

_TOGETHER = 256  # requests looked up in the ledger at once
_LINGER = 0.01  # seconds that replies gather before they are handed over, where nothing keeps them
_GATHER_SECONDS = 0.01  # a slow source does not hold up what it has given already
_GLANCE_SECONDS = 1.0  # how often a waiting user's thread looks whether the engine was closed


class EndpointEngine(Engine):
    """Asks servers over HTTP.

    Args:
        settings: where and how to ask.
        ledger: keeps replies and gives them again; None asks everything anew.
        count_tokens: counts the tokens of a text, for estimates; a quarter of its bytes otherwise.

    Raises:
        ArenaJudgeError: a key or the file of prices cannot be used.
    """

    def __init__(
        self,
        settings: EndpointSettings | None = None,
        *,
        ledger: Ledger | None = None,
        count_tokens: Counter | None = None,
    ) -> None:
        super().__init__(name="endpoint")
        self.settings = settings or EndpointSettings()
        self._ledger = ledger
        self._count_tokens = count_tokens
        self._targets = find_targets(self.settings)
        self._prices = load_prices(self.settings.prices)
        self._found_prices: dict[str, Price | None] = {}
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._dispatcher: Dispatcher | None = None
        self._keeper: Keeper | None = None
        self._closed = False

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        """See `Engine.answer`. With a ledger, requests that are the same are sent once."""
        loop, dispatcher = self._start()
        run = Run()
        try:
            yield from self._replies(run, requests, loop, dispatcher)
        finally:
            self._end(run, loop, dispatcher)

    def estimate(self, requests: Iterable[Request]) -> Estimate:
        """What `answer` would come to, at most, without a call: completions as long as they may be,
        prompts by the count of tokens. What the ledger has, and what is asked twice, is free."""
        total = known = prompt = completion = 0
        cost: float | None = 0.0
        seen: set[bytes] = set()
        for batch in _batches(iter(requests)):
            keys = self._keys(batch)
            found = self._ledger.get_many(keys) if self._ledger is not None else {}
            for request, key in zip(batch, keys, strict=True):
                total += 1
                if key in found or key in seen:
                    known += 1
                    continue
                if key:
                    seen.add(key)
                usage = self._most(request)
                prompt += usage.prompt
                completion += usage.completion
                price = self._price(request.parameters.model)
                cost = None if cost is None or price is None else cost + price.cost(usage)
        return Estimate(total, known, prompt, completion, cost)

    def close(self) -> None:
        """Ends calls under way, keeps what was answered, stops the threads."""
        with self._starting:
            self._closed = True
            loop, self._loop = self._loop, None
            if loop is None:
                return
            assert self._dispatcher is not None
            assert self._thread is not None
            _wait(self._dispatcher.close(), loop)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            if self._keeper is not None:
                self._keeper.close()

    # The user's thread.

    def _replies(
        self,
        run: Run,
        requests: Iterable[Request],
        loop: asyncio.AbstractEventLoop,
        dispatcher: Dispatcher,
    ) -> Iterator[tuple[int, Reply]]:
        source = enumerate(requests)
        more = True
        waiting: dict[bytes | int, list[int]] = {}  # numbers of requests by what they wait for
        open_requests = 0
        ahead = self.settings.ahead
        while more or open_requests:
            room = ahead - open_requests
            # Not for every reply anew: a query for many is hardly dearer than one for a few.
            if more and room >= min(_TOGETHER, (ahead + 1) // 2):
                batch = _gather(source, min(_TOGETHER, room))
                more = bool(batch)
                jobs = []
                for number, request, key, reply in self._looked_up(batch):
                    if reply is not None:
                        self.statistics.count(reply)
                        yield number, reply
                        continue
                    open_requests += 1
                    if key in waiting and key:
                        waiting[key].append(number)
                    else:
                        waiting[key or number] = [number]
                        jobs.append(self._job(run, number, key, request))
                if jobs:
                    loop.call_soon_threadsafe(dispatcher.accept, run, jobs)
                continue
            for job, reply in self._next(run):
                numbers = waiting.pop(job.key or job.number)
                open_requests -= len(numbers)
                yield numbers[0], reply
                for number in numbers[1:]:
                    again = reply if reply.error else replace(reply, from_ledger=True)
                    self.statistics.count(again)
                    yield number, again

    def _looked_up(
        self, batch: list[tuple[int, Request]]
    ) -> Iterator[tuple[int, Request, bytes, Reply | None]]:
        keys = self._keys(request for _, request in batch)
        found = self._ledger.get_many(keys) if self._ledger is not None else {}
        for (number, request), key in zip(batch, keys, strict=True):
            yield number, request, key, found.get(key)

    def _keys(self, requests: Iterable[Request]) -> list[bytes]:
        if self._ledger is None:
            return [b"" for _ in requests]
        return [self._ledger.key(request) for request in requests]

    def _job(self, run: Run, number: int, key: bytes, request: Request) -> Job:
        settings = self.settings
        price = self._price(request.parameters.model)
        job = Job(run, number, key, request, price)
        if settings.max_cost is not None:
            if price is None:
                raise ArenaJudgeError(
                    f"the price of {request.parameters.model} is not known, so its cost cannot be "
                    "limited; name a file of prices that has it"
                )
            job.promised = price.cost(self._most(request))
        if settings.tokens_per_minute is not None:
            usage = self._most(request)
            job.tokens = usage.prompt + usage.completion
        return job

    def _most(self, request: Request) -> Usage:
        return Usage(prompt_tokens(request, self._count_tokens), 0, request.parameters.max_tokens)

    def _price(self, model: str) -> Price | None:
        if model not in self._found_prices:
            self._found_prices[model] = self._prices.find(model)
        return self._found_prices[model]

    def _next(self, run: Run) -> list[tuple[Job, Reply]]:
        """The next replies; waits for them."""
        while True:
            try:
                batch = run.output.get(timeout=_GLANCE_SECONDS)
            except Empty:
                if self._closed:
                    raise ArenaJudgeError("the engine was closed while it worked") from None
                continue
            if isinstance(batch, Exception):
                raise batch
            return batch

    def _end(self, run: Run, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> None:
        """Ends what a run has under way, and sees to it that the ledger has what was answered."""
        if threading.current_thread() is self._thread:  # a lost iterator was collected there
            loop.create_task(dispatcher.cancel(run))
            return
        with self._starting:
            if self._closed:
                return
            _wait(dispatcher.cancel(run), loop)
            if self._keeper is not None:
                self._keeper.flush()

    # The other two threads.

    def _start(self) -> tuple[asyncio.AbstractEventLoop, Dispatcher]:
        with self._starting:
            if self._closed:
                raise ArenaJudgeError("the engine is closed; make another")
            if self._loop is None or self._dispatcher is None:
                loop = asyncio.new_event_loop()
                # A daemon: an engine that nobody closed does not keep the program from ending.
                self._thread = threading.Thread(
                    target=_run_loop, args=(loop,), name="arena-judge-endpoint", daemon=True
                )
                self._thread.start()
                try:
                    self._dispatcher = _wait(self._dispatch(), loop)
                except BaseException:
                    loop.call_soon_threadsafe(loop.stop)
                    raise
                if self._ledger is not None:
                    self._keeper = Keeper(self._ledger)
                self._loop = loop
            return self._loop, self._dispatcher

    async def _dispatch(self) -> Dispatcher:
        kind = OpenAITransport if self.settings.client == "openai" else AiohttpTransport
        secrets = Secrets(self._targets)
        return Dispatcher(
            self.settings,
            self._targets,
            kind(secrets, self.settings.timeout),
            secrets,
            self.statistics,
            self.notes,
            self._deliver,
            _LINGER if self._ledger is None else 0.0,
        )

    def _deliver(self, run: Run, answered: list[tuple[Job, Reply]] | Exception) -> None:
        """Hands replies to the user's thread, by way of the ledger. Called on the loop."""
        if self._keeper is None:
            run.output.put(answered)
        else:
            self._keeper.take(run, answered)


def _gather(source: Iterator[tuple[int, Request]], most: int) -> list[tuple[int, Request]]:
    """Up to so many requests, fewer where the source is slow; none where it has ended."""
    batch = []
    until = time.monotonic() + _GATHER_SECONDS
    for item in source:
        batch.append(item)
        if len(batch) >= most or time.monotonic() > until:
            break
    return batch


def _batches(requests: Iterator[Request]) -> Iterator[list[Request]]:
    source = enumerate(requests)
    while batch := _gather(source, _TOGETHER):
        yield [request for _, request in batch]


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        with suppress(Exception):
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _wait(work: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop) -> Result:
    """Runs something on the loop and waits for it, also when the user interrupts once more."""
    future: Future[Result] = asyncio.run_coroutine_threadsafe(work, loop)
    return future.result()
