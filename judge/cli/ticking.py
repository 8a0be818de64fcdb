"""Progress with judges that take long: they tell of battles while they are at a batch.

Such a judge has an attribute `tick`, which is called with how many more battles are done, from any
thread, and a method `stop`, which has all threads that are in it end with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from judge.cli.console import Progress
    from judge.judges.base import Judge


class Slow(Protocol):
    """What a judge has that takes long."""

    tick: Callable[[int], None] | None

    def stop(self) -> None: ...


def follow(judges: Iterable[Judge], progress: Progress) -> bool:
    """Has the slow ones among judges, and among those that they are made of, move `progress`; a
    battle counts in parts where there are several. Whether there are any: where there are, nobody
    else is to move it."""
    slow = _slow(judges)
    parts = _Parts(len(slow), progress.advance)
    for one in slow:
        one.tick = parts.advance
    return bool(slow)


def stop(judge: Judge) -> None:
    """Ends what slow judges do in other threads."""
    for one in _slow([judge]):
        one.stop()


def _slow(judges: Iterable[Judge]) -> list[Slow]:
    from judge.judges.leaves import leaves

    return [cast(Slow, one) for one in leaves(judges) if hasattr(one, "tick")]


class _Parts:
    """Makes whole battles of what several judges are done with.

    Args:
        judges: how many there are.
        tell: is told of whole battles, one call at a time.
    """

    def __init__(self, judges: int, tell: Callable[[int], None]) -> None:
        self._judges, self._tell = judges, tell
        self._parts = 0
        self._lock = Lock()

    def advance(self, battles: int) -> None:
        """One of the judges is done with so many more."""
        with self._lock:
            whole, self._parts = divmod(self._parts + battles, self._judges)
            self._tell(whole)
