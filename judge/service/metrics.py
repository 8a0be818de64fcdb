"""What Prometheus is told. Every service has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

# Seconds: a statistical judge answers in hundredths, a prompted one in tens.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one service.

    Attributes:
        requests: replies to POST /v1/judge, by status; 499 where the asker hung up first.
        battles, unjudged: battles answered, and those of them without an answer.
        batches: battles judged at once.
        judging: seconds that a batch took to judge.
        latency: seconds from a request's first byte to its reply, for those that were answered.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "arena_judge_requests",
            "Replies to POST /v1/judge by status; 499 where the asker hung up.",
            ["status"],
            registry=self.registry,
        )
        self.battles = Counter("arena_judge_battles", "Battles answered.", registry=self.registry)
        self.unjudged = Counter(
            "arena_judge_unjudged", "Battles answered as unjudged.", registry=self.registry
        )
        self.batches = Histogram(
            "arena_judge_batch_battles",
            "Battles judged at once.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self.judging = Histogram(
            "arena_judge_judging_seconds",
            "How long a batch took to judge.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.latency = Histogram(
            "arena_judge_request_seconds",
            "How long an answered request took.",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def watch(self, waiting: Callable[[], int]) -> None:
        """Tells of the queue, whose length `waiting` gives."""
        gauge = Gauge(
            "arena_judge_queue_battles", "Battles waiting to be judged.", registry=self.registry
        )
        gauge.set_function(waiting)

    def replies(self) -> dict[str, int]:
        """How many replies of each status there were."""
        samples = (sample for metric in self.requests.collect() for sample in metric.samples)
        return {
            sample.labels["status"]: int(sample.value)
            for sample in samples
            if sample.name.endswith("_total")
        }

    def judged(self) -> tuple[int, int]:
        """How many battles were answered, and how many of them as unjudged."""
        found = []
        for counter in (self.battles, self.unjudged):
            samples = (sample for metric in counter.collect() for sample in metric.samples)
            found.append(int(next(s.value for s in samples if s.name.endswith("_total"))))
        return found[0], found[1]

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
