"""What is on its way through the endpoint engine: requests, and who iterates over replies."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from queue import SimpleQueue

from judge.engines.base import Reply, Request
from judge.engines.pricing import Price
from judge.engines.servers import Server


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

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self.request.parameters.model
