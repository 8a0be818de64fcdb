"""Work spread over threads, results in the order of the input."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    stop: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """`map` over threads. At most `workers + 1` items are taken ahead of the result being used, so
    that a stream of any length stays in bounded memory. When results are not wanted any more, or
    one fails, `stop` is to end what is still worked on, which is waited for."""
    if workers <= 1:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            for future in pending:
                future.cancel()
            if stop is not None:
                stop()
            raise
