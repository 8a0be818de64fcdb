"""Work over threads: in order, bounded, and stopped when its user stops."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import pytest

from judge.parallel import ordered_map

WORKERS = [0, 1, 2, 4]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_results_come_in_the_order_of_the_items(workers: int, count: int) -> None:
    assert list(ordered_map(lambda n: n * n, range(count), workers)) == [
        n * n for n in range(count)
    ]


def test_a_slow_item_does_not_let_a_quick_one_past() -> None:
    quick_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert quick_done.wait(30)
        else:
            quick_done.set()
        return item

    # The first can only end because the second is worked on beside it.
    assert list(ordered_map(work, [0, 1], 2)) == [0, 1]


@pytest.mark.parametrize("workers", WORKERS)
def test_only_so_many_items_are_taken_ahead(workers: int) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = ordered_map(lambda n: n, endless(), workers)
    for used in range(1, 50):
        assert next(results) == used
        assert taken <= used + workers + 1
    assert isinstance(results, Generator)
    results.close()


@pytest.mark.parametrize("workers", WORKERS)
def test_nothing_starts_before_the_first_result_is_asked_for(workers: int) -> None:
    started: list[int] = []
    results = ordered_map(started.append, [1, 2, 3], workers)
    assert started == []
    assert list(results) == [None, None, None]
    assert sorted(started) == [1, 2, 3]


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_comes_out_in_its_item_s_place(workers: int) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("item 3")
        return item

    results = ordered_map(work, range(100), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="item 3"):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_of_the_source_comes_out(workers: int) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        list(ordered_map(lambda n: n, source(), workers))


@pytest.mark.parametrize("workers", [2, 4])
def test_no_thread_is_left_behind(workers: int) -> None:
    before = threading.active_count()
    worked: list[int] = []
    results = ordered_map(worked.append, range(10_000), workers)
    next(results)
    assert isinstance(results, Generator)
    results.close()
    assert threading.active_count() == before
    assert len(worked) <= workers + 3


@pytest.mark.parametrize("workers", [2, 4])
def test_what_is_not_wanted_any_more_can_be_stopped(workers: int) -> None:
    stopped = threading.Event()

    def work(item: int) -> int:
        if item:
            assert stopped.wait(60)
        return item

    results = ordered_map(work, range(100), workers, stopped.set)
    assert next(results) == 0
    assert isinstance(results, Generator)
    results.close()  # would wait for ever otherwise
    assert stopped.is_set()


@pytest.mark.parametrize("workers", WORKERS)
def test_nothing_is_stopped_that_ends_well(workers: int) -> None:
    stopped = threading.Event()
    assert list(ordered_map(lambda n: n, range(10), workers, stopped.set)) == list(range(10))
    assert not stopped.is_set()
