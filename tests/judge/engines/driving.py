"""Asking an endpoint engine, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from judge.engines.base import Message, Parameters, Reply, Request
from judge.engines.endpoint import EndpointEngine
from judge.engines.ledger import Ledger
from judge.engines.settings import EndpointSettings

PLAIN = Parameters("tiny")
QUICK = {"first_backoff": 0.01, "longest_backoff": 0.02, "timeout": 20.0}


def ask(count: int, parameters: Parameters = PLAIN) -> Iterator[Request]:
    for number in range(count):
        yield Request((Message("user", f"prompt {number}"),), parameters)


def engine(*servers: Any, ledger: Ledger | None = None, **changed: Any) -> EndpointEngine:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return EndpointEngine(EndpointSettings(urls, **{**QUICK, **changed}), ledger=ledger)


def replies(asked: EndpointEngine, requests: Any) -> dict[int, Reply]:
    found: dict[int, Reply] = {}
    for number, reply in asked.answer(requests):
        assert number not in found
        found[number] = reply
    return found


def texts(found: dict[int, Reply]) -> dict[int, str]:
    assert [reply.error for reply in found.values() if reply.error] == []
    return {number: reply.text for number, reply in found.items()}


def echoes(count: int) -> dict[int, str]:
    return {number: f"prompt {number}" for number in range(count)}
