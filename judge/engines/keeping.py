"""Replies go to the ledger in groups, and to their users once they are there.

What comes in while one transaction runs goes into the next (group commit): a reply is never further
from the disk than two transactions, and a transaction, which costs more than the rows in it, is
shared by as many as there are.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from judge.engines.base import Reply
from judge.engines.jobs import Job, Run
from judge.engines.ledger import Ledger

Answered = Sequence[tuple[Job, Reply]]


class Keeper:
    """Writes replies to a ledger in a thread of its own, and then hands them over.

    Args:
        ledger: where they are kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._waiting: list[tuple[Run, Answered | Exception] | threading.Event] = []
        self._writing = False
        # No thread of our own: one of a pool is waited for when the program ends.
        self._writer = ThreadPoolExecutor(1, "arena-judge-ledger")

    def take(self, run: Run, answered: Answered | Exception) -> None:
        """Takes replies, or what ended a run, on their way to its user. Does not block."""
        self._put((run, answered))

    def flush(self) -> None:
        """Waits until what was taken before is in the ledger and handed over."""
        done = threading.Event()
        self._put(done)
        done.wait()

    def close(self) -> None:
        """Ends the thread, once all that was taken is in the ledger."""
        self._writer.shutdown()

    def _put(self, item: tuple[Run, Answered | Exception] | threading.Event) -> None:
        with self._lock:
            self._waiting.append(item)
            if not self._writing:
                self._writer.submit(self._write)
                self._writing = True

    def _write(self) -> None:
        """Writes, in the pool's thread, until nothing waits."""
        while True:
            with self._lock:
                group, self._waiting = self._waiting, []
                if not group:
                    self._writing = False
                    return
            self._keep(group)

    def _keep(self, group: list[tuple[Run, Answered | Exception] | threading.Event]) -> None:
        """One transaction for all of a group; then each run gets its own, in one piece."""
        replies: dict[Run, list[tuple[Job, Reply]]] = {}
        ends: list[tuple[Run, Exception]] = []
        flushed: list[threading.Event] = []
        for item in group:
            if isinstance(item, threading.Event):
                flushed.append(item)
            elif isinstance(item[1], Exception):
                ends.append((item[0], item[1]))
            else:
                replies.setdefault(item[0], []).extend(item[1])
        if replies:
            self._keep_replies(replies)
        for run, end in ends:
            run.output.put(end)
        for done in flushed:
            done.set()

    def _keep_replies(self, replies: dict[Run, list[tuple[Job, Reply]]]) -> None:
        try:
            earlier = self._ledger.put_many(
                (job.key, job.model, reply) for each in replies.values() for job, reply in each
            )
            # Of two that asked the same at once, both get what the ledger will say from now on.
            if earlier:
                for each in replies.values():
                    each[:] = [(job, _one(reply, earlier.get(job.key))) for job, reply in each]
        except Exception as error:
            for run in replies:
                run.output.put(error)
        else:
            for run, each in replies.items():
                run.output.put(each)


def _one(reply: Reply, kept: Reply | None) -> Reply:
    if kept is None or reply.error is not None or _says(kept) == _says(reply):
        return reply
    return kept


def _says(reply: Reply) -> tuple[object, ...]:
    return reply.text, reply.finish, reply.logprobs
