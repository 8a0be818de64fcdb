"""What is on its way through the endpoint engine: requests, and who iterates over replies."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from judge.engines.base import Reply, Request
from judge.engines.pricing import Price
from judge.engines.servers import Server, Standing
from judge.engines.wire import Dialect


@dataclass(eq=False)
class Run:
    """One iteration over replies: what the loop's thread and its user's share.

    Attributes:
        output: replies in batches, or what ended the run.
        cancelled: whether nobody waits for replies any more.
        answered: replies not yet handed over.
        handover: the timer that will.
    """

    output: SimpleQueue[list[tuple[Job, Reply]] | Exception] = field(default_factory=SimpleQueue)
    cancelled: bool = False
    answered: list[tuple[Job, Reply]] = field(default_factory=list)
    handover: asyncio.TimerHandle | None = None


@dataclass(eq=False, slots=True)
class Job:
    """A request on its way.

    Attributes:
        run: who waits for it.
        number: the request's, in the order of the input.
        key: what the ledger finds it by; empty without a ledger.
        request: what is asked.
        price: of its model, if known.
        tokens: what it may use, as estimated; 0 where nobody asks.
        promised: dollars it may cost, as estimated; 0 where nobody asks.
        held: dollars set aside while it is under way.
        faults: attempts that met a fault.
        refusals: attempts that met a busy server.
        since: when it was first refused.
        avoid: the server that failed it last.
        denied: servers that serve others of its model and would not serve it.
    """

    run: Run
    number: int
    key: bytes
    request: Request
    price: Price | None = None
    tokens: int = 0
    promised: float = 0.0
    held: float = 0.0
    faults: int = 0
    refusals: int = 0
    since: float = math.nan
    avoid: Server | None = None
    denied: tuple[Server, ...] = ()

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self.request.parameters.model


@dataclass(eq=False, slots=True)
class Attempt:
    """A job that was sent.

    Attributes:
        job: it.
        server: where to.
        features: what was sent beside the prompt.
        sent: when, by the loop's clock.
    """

    job: Job
    server: Server
    features: Mapping[str, Any]
    sent: float

    @property
    def standing(self) -> Standing:
        """How the server stands to the model."""
        return self.server.standing(self.job.model)

    @property
    def dialect(self) -> Dialect:
        """What the server takes for the model, as known by now."""
        return self.server.dialect(self.job.model)

    def stale(self) -> bool:
        """Whether another call has found out since that it is to be put in another way."""
        return self.dialect.features(self.job.request.parameters) != self.features
