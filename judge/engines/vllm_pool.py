"""Processes that compute replies, a thread feeding each from one shared queue of work.

Work is queued in groups whose requests begin alike, and a group goes to one process whole, so that
its prefix is computed once. A process that ends, or gives no sign for too long, is started again.
The requests it had are tried once more, each by itself, so that one that kills its process takes
no other with it; every task that is put in comes out, as a reply or as the reason why there is
none.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from judge.engines.base import Reply, Request, TokenChoice, Usage
from judge.engines.vllm_process import Ended, Line, Place, Process

TRIES = 2  # processes that a request may have ended before it counts as unanswerable
DEATHS = 3  # in a row, without a reply between them, before a process is not started again
_LOAD_SECONDS = 3600.0  # weights may come over a network


class Run:
    """The tasks of one caller and their replies."""

    def __init__(self) -> None:
        self.closed = False
        self._replies: SimpleQueue[tuple[Task, Reply]] = SimpleQueue()

    def put(self, task: Task, reply: Reply) -> None:
        self._replies.put((task, reply))

    def take(self) -> list[tuple[Task, Reply]]:
        """All replies that are there; waits for the first."""
        found = [self._replies.get()]
        with contextlib.suppress(Empty):
            while True:
                found.append(self._replies.get_nowait())
        return found


@dataclass(eq=False, slots=True)
class Task:
    """A request on its way; `key` is what the ledger knows it by, `twins` are the numbers of those
    that ask the same."""

    run: Run
    index: int
    request: Request
    key: bytes | None
    model: str
    twins: list[int] = field(default_factory=list)
    tries: int = 0
    sent: float = 0.0


@dataclass(eq=False)
class Feeder:
    """The thread that keeps one process at work."""

    place: Place
    process: Process
    capacity: int
    thread: threading.Thread | None = None
    answered: bool = False
    deaths: int = 0
    asked: dict[int, Task] = field(default_factory=dict)
    counters: Line = field(default_factory=dict)


class Pool:
    """Processes over one queue.

    Args:
        interpreter: the Python that has vLLM.
        places: where to compute, a process each.
        settings: what each is to load.
        patience: seconds without a sign after which a process at work counts as dead.
        note: called with a line that the user should know.
        count_retries: called with a number of requests that are to be computed again.

    Raises:
        Ended: a process could not be started or cannot load the model.
    """

    def __init__(
        self,
        interpreter: str,
        places: Sequence[Place],
        settings: Line,
        *,
        patience: float,
        note: Callable[[str], None],
        count_retries: Callable[[int], None],
    ) -> None:
        self._interpreter, self._settings = interpreter, settings
        self._patience, self._note, self._count_retries = patience, note, count_retries
        self._changed = threading.Condition()
        self._groups: deque[list[Task]] = deque()
        self._numbers = 0
        self._closed = False
        self._why_dead = ""
        self._past: Line = {}
        self.ready: list[Line] = []
        started: list[Process] = []
        try:
            # One by one, so that what was started is known when a later one cannot be.
            for place in places:
                started.append(Process(interpreter, place, settings))  # noqa: PERF401
            self.ready = [process.receive(_LOAD_SECONDS)["ready"] for process in started]
        except BaseException:
            for process in started:
                process.stop(patience=0)
            raise
        # Twice what is computed at once: the next is there when one is finished.
        self._feeders = [
            Feeder(process.place, process, 2 * int(ready["sequences"]))
            for process, ready in zip(started, self.ready, strict=True)
        ]
        self._alive = len(self._feeders)
        self.capacity = sum(feeder.capacity for feeder in self._feeders)
        for feeder in self._feeders:
            feeder.thread = threading.Thread(
                target=self._feed, args=(feeder,), name=f"vllm {feeder.place.name}", daemon=True
            )
            feeder.thread.start()

    def put(self, groups: Iterable[list[Task]]) -> None:
        """Queues tasks; each comes out of its run."""
        with self._changed:
            if not (self._closed or self._alive == 0):
                self._groups.extend(groups)
                self._changed.notify_all()
                return
            reason = self._why_dead or "the engine was closed"
        for group in groups:
            for task in group:
                task.run.put(task, Reply.failed(reason))

    def counters(self) -> dict[str, int]:
        """The processes' counters, summed."""
        with self._changed:
            found = dict(self._past)
            for feeder in self._feeders:
                _add(found, feeder.counters)
        return found

    def pids(self) -> list[int]:
        """The processes' ids."""
        with self._changed:
            return [feeder.process.pid for feeder in self._feeders]

    def close(self) -> None:
        """Ends all processes; tasks that are still there come out as failed."""
        with self._changed:
            self._closed = True
            processes = [feeder.process for feeder in self._feeders]
            self._changed.notify_all()
        for process in processes:
            process.hang_up()
        for feeder in self._feeders:
            if feeder.thread is not None:
                feeder.thread.join()

    def _feed(self, feeder: Feeder) -> None:
        """A feeder's thread: from the first task to the end of the pool."""
        reason = "the engine was closed"
        try:
            while not self._closed:
                try:
                    self._keep_busy(feeder)
                except Ended as ended:
                    reason = f"vLLM on {feeder.place.name} ended: {ended}"
                    feeder.process.stop()
                    if self._closed or not self._revive(feeder, reason):
                        break
        except BaseException as error:
            reason = f"vLLM on {feeder.place.name} cannot be fed: {error}"
            raise
        finally:
            feeder.process.stop()
            self._retire(feeder, "the engine was closed" if self._closed else reason)

    def _keep_busy(self, feeder: Feeder) -> None:
        """Sends work and takes replies until the pool is closed.

        Raises:
            Ended: the process is gone.
        """
        while True:
            new = self._take(feeder)
            if new is None:
                return
            calls = []
            for task in new:
                task.sent = time.monotonic()
                with self._changed:
                    self._numbers += 1
                    number = self._numbers
                feeder.asked[number] = task
                calls.append(read_request(task.request) | {"number": number})
            if calls:
                feeder.process.send({"ask": calls})
            unwanted = [number for number, task in feeder.asked.items() if task.run.closed]
            if unwanted:
                for number in unwanted:
                    del feeder.asked[number]
                feeder.process.send({"forget": unwanted})
            if feeder.asked:
                self._settle(feeder, feeder.process.receive(self._patience))

    def _take(self, feeder: Feeder) -> list[Task] | None:
        """The next tasks for a process, waiting for some where it has nothing to do; None when the
        pool is closed."""
        with self._changed:
            while not self._closed:
                while self._groups and self._groups[0][0].run.closed:
                    self._groups.popleft()
                if self._groups or feeder.asked:
                    return self._next_tasks(feeder)
                self._changed.wait()
        return None

    def _next_tasks(self, feeder: Feeder) -> list[Task]:
        if any(task.tries for task in feeder.asked.values()):
            return []  # it may end its process, and is to take no other task with it
        found: list[Task] = []
        # A fair part at a time, so that the other processes find some as well.
        groups = -(-len(self._groups) // max(1, self._alive))
        while self._groups and groups > 0 and len(feeder.asked) + len(found) < feeder.capacity:
            if self._groups[0][0].tries:
                return found if found or feeder.asked else self._groups.popleft()
            found += self._groups.popleft()
            groups -= 1
        return found

    def _settle(self, feeder: Feeder, line: Line) -> None:
        """Hands replies to those who wait for them."""
        counters = line.get("counters")
        if counters:
            with self._changed:
                feeder.counters = counters
        now = time.monotonic()
        for entry in line.get("replies", ()):
            task = feeder.asked.pop(entry["number"], None)
            if task is not None:
                feeder.answered, feeder.deaths = True, 0
                task.run.put(task, read_reply(entry, task.request, now - task.sent))

    def _revive(self, feeder: Feeder, reason: str) -> bool:
        """Gives back what a dead process had, and starts another in its place, if that is worth
        a try."""
        feeder.deaths += 1
        for task in feeder.asked.values():
            task.tries += 1
        again = [task for task in feeder.asked.values() if task.tries < TRIES]
        lost = [task for task in feeder.asked.values() if task.tries >= TRIES]
        feeder.asked.clear()
        for task in lost:
            task.run.put(task, Reply.failed(reason, time.monotonic() - task.sent))
        with self._changed:
            self._groups.extendleft([task] for task in reversed(again))
            self._changed.notify_all()
            _add(self._past, feeder.counters)
            feeder.counters = {}
        self._count_retries(len(again))
        if feeder.deaths >= DEATHS:
            self._note(f"{reason}; not started again")
            return False
        try:
            process = Process(self._interpreter, feeder.place, self._settings)
        except Ended as ended:
            self._note(f"{reason}; not started again: {ended}")
            return False
        with self._changed:
            feeder.process = process
            closed = self._closed
        try:
            if closed:
                return False
            process.receive(_LOAD_SECONDS)
        except Ended as ended:
            if not self._closed:
                self._note(f"{reason}; not started again: {ended}")
            return False
        self._note(f"{reason}; started again")
        return True

    def _retire(self, feeder: Feeder, reason: str) -> None:
        """A feeder's end; the last one's is the end of all that waits."""
        left = list(feeder.asked.values())
        feeder.asked.clear()
        with self._changed:
            self._alive -= 1
            if self._alive == 0:
                self._why_dead = reason
                left += [task for group in self._groups for task in group]
                self._groups.clear()
            elif left:
                self._groups.extendleft([task] for task in left)
                left = []
            self._changed.notify_all()
        for task in left:
            task.run.put(task, Reply.failed(reason))


def _add(total: Line, more: Line) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def read_request(request: Request) -> Line:
    """A request as the worker takes it."""
    asked = request.parameters
    return {
        "messages": [{"role": item.role, "content": item.content} for item in request.messages],
        "temperature": asked.temperature,
        "max_tokens": asked.max_tokens,
        "seed": None if asked.seed is None else asked.seed + request.sample,
        "top_logprobs": asked.top_logprobs,
        "json": None if asked.schema is None else dict(asked.schema),
        "choice": None if asked.choices is None else list(asked.choices),
        "regex": asked.regex,
    }


def read_reply(entry: Line, request: Request, seconds: float) -> Reply:
    """A worker's reply as everyone knows it."""
    if entry.get("error"):
        return Reply.failed(entry["error"], seconds)
    logprobs = None
    if entry["logprobs"] is not None:
        most = request.parameters.top_logprobs
        logprobs = tuple(
            TokenChoice(token, value, tuple((text, number) for text, number in top[:most]))
            for token, value, top in entry["logprobs"]
        )
    usage = Usage(entry["prompt"], entry["cached"], entry["completion"])
    return Reply(entry["text"], entry["finish"], logprobs, usage, 0, seconds, time=time.time())
