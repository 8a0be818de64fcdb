"""Replies are in the ledger before they are seen, and as few transactions as there can be."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import pytest

from judge.engines.base import Message, Parameters, Reply, Request
from judge.engines.jobs import Job, Run
from judge.engines.keeping import Keeper
from judge.engines.ledger import Ledger

Entry = tuple[bytes, str, Reply]


class SlowLedger(Ledger):
    """Its transactions end when they are told to; tells of each that has begun."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.groups: list[list[str]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.broken: Exception | None = None

    def put_many(self, replies: Iterable[Entry]) -> dict[bytes, Reply]:
        entries = list(replies)
        self.groups.append([reply.text for _, _, reply in entries])
        self.begun.release()
        assert self.go.acquire(timeout=60)
        if self.broken is not None:
            raise self.broken
        return super().put_many(entries)


@pytest.fixture
def ledger() -> Iterator[SlowLedger]:
    with SlowLedger() as opened:
        yield opened


@pytest.fixture
def keeper(ledger: SlowLedger) -> Iterator[Keeper]:
    made = Keeper(ledger)
    yield made
    for _ in range(1000):  # whatever a failed test has left under way
        ledger.go.release()
    made.close()


def answered(run: Run, *names: str) -> list[tuple[Job, Reply]]:
    request = Request((Message("user", "?"),), Parameters("m"))
    return [(Job(run, 0, name.encode(), request), Reply(name)) for name in names]


def had(run: Run) -> list[str]:
    """The next replies that a run's user gets."""
    batch = run.output.get(timeout=60)
    assert not isinstance(batch, Exception)
    return [reply.text for _, reply in batch]


def test_what_comes_during_a_transaction_is_the_next_one(
    ledger: SlowLedger, keeper: Keeper
) -> None:
    one, other = Run(), Run()
    keeper.take(one, answered(one, "first"))
    assert ledger.begun.acquire(timeout=60)
    for n in range(20):
        run = (one, other)[n % 2]
        keeper.take(run, answered(run, str(n)))
    assert one.output.empty()  # nothing is seen before it is kept
    assert ledger.count() == 0
    ledger.go.release()
    assert had(one) == ["first"]
    assert ledger.begun.acquire(timeout=60)
    ledger.go.release()
    assert had(one) == [str(n) for n in range(0, 20, 2)]  # in one piece
    assert had(other) == [str(n) for n in range(1, 20, 2)]
    assert [len(group) for group in ledger.groups] == [1, 20]
    assert ledger.count() == 21


def test_a_flush_waits_for_what_was_taken_before(ledger: SlowLedger, keeper: Keeper) -> None:
    run = Run()
    for name in "abc":
        keeper.take(run, answered(run, name))
        ledger.go.release()
    keeper.flush()
    assert ledger.count() == 3
    assert sorted(had(run) + [name for _ in range(run.output.qsize()) for name in had(run)]) == [
        *"abc"
    ]
    keeper.flush()  # with nothing to write


def test_closing_keeps_all_that_was_taken(ledger: SlowLedger) -> None:
    keeper, run = Keeper(ledger), Run()
    for n in range(50):
        keeper.take(run, answered(run, str(n)))
        ledger.go.release()
    keeper.close()
    assert ledger.count() == 50


def test_an_end_comes_after_the_replies_before_it(ledger: SlowLedger, keeper: Keeper) -> None:
    run, end = Run(), RuntimeError("the key is refused")
    keeper.take(run, answered(run, "last"))
    keeper.take(run, end)
    ledger.go.release()
    ledger.go.release()
    assert had(run) == ["last"]
    assert run.output.get(timeout=60) is end


def test_a_ledger_that_fails_is_told_to_everyone_who_waits(
    ledger: SlowLedger, keeper: Keeper
) -> None:
    first, one, other = Run(), Run(), Run()
    keeper.take(first, answered(first, "first"))
    assert ledger.begun.acquire(timeout=60)
    for run in (one, other):
        keeper.take(run, answered(run, "x"))
    ledger.go.release()
    assert had(first) == ["first"]
    assert ledger.begun.acquire(timeout=60)
    ledger.broken = OSError("the disk is full")
    ledger.go.release()
    assert one.output.get(timeout=60) is ledger.broken
    assert other.output.get(timeout=60) is ledger.broken
    keeper.flush()  # it lives on
    ledger.broken = None
    keeper.take(one, answered(one, "y"))
    ledger.go.release()
    assert had(one) == ["y"]


def test_of_two_who_ask_the_same_at_once_both_get_what_the_ledger_keeps(
    ledger: SlowLedger, keeper: Keeper
) -> None:
    """A run that is repeated says the same again."""
    runs = [Run() for _ in range(3)]
    for run, text in zip(runs, ("first", "second", "third"), strict=True):
        (job, _), *_ = answered(run, "same")
        ledger.go.release()
        keeper.take(run, [(job, Reply(text)), *answered(run, text)])
        if text != "second":  # the third asked before the first's reply was there
            keeper.flush()
    assert [had(run) for run in runs] == [
        ["first", "first"],
        ["first", "second"],
        ["first", "third"],
    ]
    assert ledger.get_many([b"same"])[b"same"].text == "first"
