"""Judges that do as they are told, and a way to talk to a service in this process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from judge.ballots import ballot_table
from judge.judges.base import Judge, Judgments
from judge.service.app import make_app
from judge.service.limits import Limits
from judge.service.service import Service

JSON = {"Content-Type": "application/json"}


class Echo(Judge):
    """Says of a battle what its texts are, so that no two battles' answers can be taken for one
    another's: P(A) is its prompt's number in millionths. A prompt that says so is unjudged, or has
    the judge fail. Opens its `gate` before it answers, if it has one."""

    name = "echo"

    def __init__(self) -> None:
        self.tables: list[pd.DataFrame] = []
        self.gate: threading.Event | None = None
        self.judging = threading.Event()
        self.failure: type[Exception] = RuntimeError
        self.fills_ballots = True

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        self.tables.append(battles)
        self.judging.set()
        if self.gate is not None:
            assert self.gate.wait(60)
        prompts = [turns[0] for turns in battles["prompt"]]
        if any("fail" in prompt for prompt in prompts):
            raise self.failure("as it was told")
        share = np.array([self.share(prompt) for prompt in prompts])
        proba = np.column_stack([share, 0.9 - share, np.full(len(share), 0.1)])
        empty = [at for at, prompt in enumerate(prompts) if "unjudged" in prompt]
        proba[empty] = np.nan
        table = None
        if ballots and self.fills_ballots:
            # Two ballots a battle, all first ones before all second ones.
            ids = battles["id"].tolist()
            votes = np.zeros((2 * len(ids), 5, 4))
            votes[..., 0] = np.tile(share, 2)[:, None]
            votes[..., 1] = 1 - votes[..., 0]
            samples = [0] * len(ids) + [1] * len(ids)
            table = ballot_table(ids * 2, self.name, votes, sample=samples)
        return Judgments(proba, dict.fromkeys(empty, "it was told so"), table)

    @staticmethod
    def share(prompt: str) -> float:
        digits = "".join(filter(str.isdecimal, prompt)) or "0"
        return int(digits) % 900_000 / 1e6

    @property
    def sizes(self) -> list[int]:
        """Of the tables that it was given."""
        return [len(table) for table in self.tables]


@pytest.fixture
def echo() -> Echo:
    return Echo()


def a_battle(number: int | str, **fields: object) -> dict[str, Any]:
    """A battle whose answer is known."""
    texts = {"prompt": f"question {number}", "response_a": "yes", "response_b": "no"}
    return {**texts, **fields}


@pytest.fixture
def battle() -> Callable[..., dict[str, Any]]:
    return a_battle


class Caller:
    """Talks to a service."""

    def __init__(self, client: Any, service: Service) -> None:
        self.client, self.service = client, service

    async def post(self, body: object, **more: Any) -> Any:
        """The reply to a body, which is text, bytes or what becomes JSON."""
        sent = body if isinstance(body, bytes | str) else json.dumps(body)
        return await self.client.post("/v1/judge", content=sent, headers=JSON, **more)

    async def judged(self, *battles: dict[str, Any], **options: object) -> list[dict[str, Any]]:
        """The judgments of battles."""
        reply = await self.post({"battles": list(battles), **options})
        assert reply.status_code == 200, reply.text
        return list(reply.json()["judgments"])


Talk = Callable[[Caller], Awaitable[Any]]


@asynccontextmanager
async def served(service: Service) -> AsyncIterator[Caller]:
    app = make_app(service)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield Caller(client, service)


@pytest.fixture(scope="session")
def talk() -> Callable[..., Any]:
    """Runs a conversation with a service of a judge and settings; gives what it returns."""

    def run(judge: Judge, said: Talk, **settings: Any) -> Any:
        names = {name: settings.pop(name) for name in ("key", "grace") if name in settings}

        async def conversation() -> Any:
            async with served(Service(judge, Limits(**settings), **names)) as caller:
                return await said(caller)

        return asyncio.run(asyncio.wait_for(conversation(), 120))

    return run
