"""Progress with judges that tell of battles themselves."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

import pytest

from judge.cli.console import Progress
from judge.cli.ticking import follow, stop
from judge.judges.base import Judge, Judgments


class Quick(Judge):
    """Tells nothing."""

    def __init__(self, *members: Judge) -> None:
        self.name, self.members = "quick", members

    def judge(self, *_: object, **__: object) -> Judgments:
        raise AssertionError


class Slow(Quick):
    """Tells of battles."""

    def __init__(self) -> None:
        super().__init__()
        self.tick: Callable[[int], None] | None = None
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1

    def told(self, battles: int) -> None:
        assert self.tick is not None
        self.tick(battles)


class Count(Progress):
    def __init__(self) -> None:
        super().__init__("battles", None)
        self.told: list[int] = []

    def advance(self, rows: int) -> None:
        self.told.append(rows)


def test_judges_that_tell_nothing_are_not_followed() -> None:
    assert not follow([Quick(), Quick(Quick())], Count())
    assert not follow([], Count())


def test_a_judge_within_a_judge_moves_the_line() -> None:
    slow, progress = Slow(), Count()
    assert follow([Quick(), Quick(Quick(slow), Quick())], progress)
    slow.told(3)
    slow.told(4)
    assert progress.told == [3, 4]


def test_of_several_each_does_its_part_of_a_battle() -> None:
    first, second, third, progress = Slow(), Slow(), Slow(), Count()
    assert follow([Quick(first, second), third], progress)
    for one in (first, second, third):
        for _ in range(5):
            one.told(2)
    assert sum(progress.told) == 10
    assert sum(progress.told[:5]) == 3


def test_threads_lose_no_battle() -> None:
    judges, progress = [Slow() for _ in range(4)], Count()
    follow(judges, progress)

    def work(judge: Slow) -> None:
        for _ in range(500):
            judge.told(1)

    threads = [Thread(target=work, args=(judge,)) for judge in judges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(progress.told) == 500


@pytest.mark.parametrize("within", [False, True])
def test_slow_judges_are_stopped(within: bool) -> None:
    slow = Slow()
    stop(Quick(Quick(), slow) if within else slow)
    assert slow.stopped == 1
