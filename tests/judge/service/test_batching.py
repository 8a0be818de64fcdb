"""The queue: who waits, who is judged together, who is turned away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from judge.service.batching import Batcher, Job
from judge.service.judging import Answer, Outcome
from judge.service.limits import Limits
from judge.service.metrics import Metrics
from judge.service.refusals import Refused
from judge.service.requests import Asked


def request(name: str, battles: int = 1, characters: int = 1) -> Asked:
    return Asked([name] * battles, [name] * battles, {}, characters, False)


class Work:
    """Notes what it is given; waits at the gate until it is opened."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.busy = threading.Semaphore(0)

    def __call__(self, requests: Sequence[Asked]) -> list[Outcome]:
        self.batches.append([str(asked.ids[0]) for asked in requests])
        self.busy.release()
        assert self.gate.wait(60)
        return [Answer(str(asked.ids[0]).encode(), len(asked), 0) for asked in requests]

    async def until_busy(self) -> None:
        await asyncio.to_thread(self.busy.acquire)


Story = Callable[[Batcher, Work], Awaitable[None]]


def tell(story: Story, **limits: float) -> Work:
    """Runs a story with a queue; a queue that hangs is no story."""
    work = Work()

    async def told() -> None:
        settings = {"battles": 8, "delay": 0.0} | limits
        batcher = Batcher(work, Limits(**settings), Metrics())  # type: ignore[arg-type]
        batcher.start()
        try:
            await story(batcher, work)
        finally:
            work.gate.set()
            await batcher.drain(60)

    asyncio.run(asyncio.wait_for(told(), 120))
    return work


async def answers(*jobs: Job) -> list[str]:
    return [
        outcome.body.decode() if isinstance(outcome, Answer) else outcome.code
        for outcome in [await job.outcome for job in jobs]
    ]


def test_a_lone_request_waits_for_nobody_and_a_crowd_is_one_batch() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        first = batcher.submit(request("first"))
        await work.until_busy()
        crowd = [batcher.submit(request(str(n))) for n in range(20)]
        assert batcher.waiting == 20
        work.gate.set()
        assert await answers(first, *crowd) == ["first", *map(str, range(20))]
        assert batcher.waiting == 0

    assert tell(story).batches == [["first"], list(map(str, range(20)))]


def test_batches_are_bounded_and_keep_the_order() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        jobs = [batcher.submit(request("first"))]
        await work.until_busy()
        jobs += [
            batcher.submit(request(name, size))
            for name, size in zip("abcdef", (2, 2, 1, 8, 1, 3), strict=True)
        ]
        work.gate.set()
        await answers(*jobs)

    # A request larger than a batch is one by itself.
    found = tell(story, batch=4).batches
    assert found == [["first"], ["a", "b"], ["c"], ["d"], ["e", "f"]]


def test_a_batch_of_long_battles_is_short() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        jobs = [batcher.submit(request("first"))]
        await work.until_busy()
        jobs += [batcher.submit(request(name, 1, 900_000)) for name in "abc"]
        work.gate.set()
        await answers(*jobs)

    assert tell(story).batches == [["first"], ["a", "b"], ["c"]]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        judged = batcher.submit(request("judged", 8))
        await work.until_busy()
        waiting = [batcher.submit(request("waiting", 8)), batcher.submit(request("too", 2))]
        with pytest.raises(Refused) as raised:
            batcher.submit(request("refused", 1))
        assert (raised.value.status, raised.value.code) == (429, "busy")
        assert int(raised.value.headers()["Retry-After"]) >= 1
        # Who is turned away leaves no trace; who gives up makes room.
        assert batcher.waiting == 10
        batcher.withdraw(waiting[1])
        assert batcher.waiting == 8
        late = batcher.submit(request("late", 2))
        work.gate.set()
        assert await answers(judged, waiting[0], late) == ["judged", "waiting", "late"]

    assert tell(story, queue=10, batch=8).batches == [["judged"], ["waiting"], ["late"]]


def test_who_has_given_up_is_not_judged() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        jobs = [batcher.submit(request("first"))]
        await work.until_busy()
        jobs += [batcher.submit(request(name)) for name in "abc"]
        batcher.withdraw(jobs[2])
        batcher.withdraw(jobs[0])  # while it is being judged
        work.gate.set()
        assert await answers(jobs[1], jobs[3]) == ["a", "c"]
        assert jobs[0].outcome.cancelled()

    assert tell(story).batches == [["first"], ["a", "c"]]


def test_all_who_wait_may_give_up() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        first = batcher.submit(request("first"))
        await work.until_busy()
        batcher.withdraw(batcher.submit(request("gone")))
        work.gate.set()
        await answers(first)
        last = batcher.submit(request("last"))
        assert await answers(last) == ["last"]

    assert tell(story).batches == [["first"], ["last"]]


def test_a_batch_of_several_is_followed_by_one_that_waits_for_as_many() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        jobs = [batcher.submit(request("first"))]
        await work.until_busy()
        jobs += [batcher.submit(request(name)) for name in "abc"]
        work.gate.set()
        await answers(*jobs)
        # They come one by one, with turns of the loop in between.
        again = []
        for name in "xyz":
            again.append(batcher.submit(request(name)))
            for _ in range(5):
                await asyncio.sleep(0)
        await answers(*again)

    found = tell(story, delay=60.0).batches
    assert found == [["first"], ["a", "b", "c"], ["x", "y", "z"]]


def test_nobody_waits_for_company_longer_than_the_delay() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        work.gate.set()
        pair = [batcher.submit(request(name)) for name in "ab"]
        await answers(*pair)
        assert await answers(batcher.submit(request("alone"))) == ["alone"]

    assert tell(story, delay=0.01).batches == [["a", "b"], ["alone"]]


def test_draining_answers_what_is_waiting_and_refuses_what_is_new() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        jobs = [batcher.submit(request("first"))]
        await work.until_busy()
        jobs.append(batcher.submit(request("second")))
        drained = asyncio.ensure_future(batcher.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as raised:
            batcher.submit(request("new"))
        assert (raised.value.status, raised.value.code) == (503, "stopping")
        assert not drained.done()
        work.gate.set()
        assert await drained == 0
        assert await answers(*jobs) == ["first", "second"]

    assert tell(story).batches == [["first"], ["second"]]


def test_at_the_deadline_whoever_waits_is_told() -> None:
    async def story(batcher: Batcher, work: Work) -> None:
        jobs = [batcher.submit(request("judged"))]
        await work.until_busy()
        jobs.append(batcher.submit(request("waiting")))
        assert await batcher.drain(0.01) == 2
        assert await answers(*jobs) == ["stopping", "stopping"]
        assert await batcher.drain(60) == 0

    assert tell(story).batches == [["judged"]]


@pytest.mark.parametrize("error", [RuntimeError("x"), StopIteration(), SystemExit(3)])
def test_a_batch_that_fails_is_the_end_of_nothing_else(error: BaseException) -> None:
    def work(requests: Sequence[Asked]) -> list[Outcome]:
        if requests[0].ids == ["bad"]:
            raise error
        return [Answer(b"well", 1, 0)] * len(requests)

    async def story() -> None:
        batcher = Batcher(work, Limits(), Metrics())
        batcher.start()
        bad = await batcher.submit(request("bad")).outcome
        assert isinstance(bad, Refused)
        assert bad.status == 500
        assert await answers(batcher.submit(request("good"))) == ["well"]
        assert await batcher.drain(60) == 0

    asyncio.run(asyncio.wait_for(story(), 120))
