"""A thread of its own for what would hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


class Worker:
    """Calls functions one after the other, away from the event loop.

    The thread is a daemon: a call that hangs does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = (
            SimpleQueue()
        )
        self._thread = Thread(target=self._work, name="judge", daemon=True)
        self._thread.start()

    async def call(self, function: Callable[[], Result]) -> Result:
        """What the function returns or raises."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._calls.put((function, future))
        return await future

    def close(self) -> None:
        """Ends the thread after the calls that are waiting; does not wait for it."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            result: object = None
            error: Exception | None = None
            try:
                result = function()
            except Exception as raised:
                error = raised
            except BaseException as raised:  # would end the thread, and nothing be judged any more
                error = RuntimeError(f"{type(raised).__name__} was raised in a thread")
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            del call, function, future, result, error


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):  # no future takes it
        future.set_exception(RuntimeError("the judge raised StopIteration"))
    else:
        future.set_exception(error)
