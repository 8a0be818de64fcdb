"""A server that does what a test's script says, on a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web


@dataclass
class Call:
    """One call as the server sees it.

    Attributes:
        number: how many came before it.
        tries: how many with the same prompt came before it.
        body: what was posted.
        request: for scripts that meddle with the connection.
    """

    number: int
    tries: int
    body: dict[str, Any]
    request: web.Request

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])

    def say(self, text: str | None = None, **choice: Any) -> web.Response:
        """A chat completion; the prompt is its text unless told otherwise."""
        said = {"message": {"role": "assistant", "content": self.prompt if text is None else text}}
        return web.json_response(
            {
                "choices": [{"finish_reason": "stop", **said, **choice}],
                "usage": {
                    "prompt_tokens": 100,
                    "completion_tokens": 10,
                    "prompt_tokens_details": {"cached_tokens": 40},
                },
            }
        )

    def refuse(self, status: int, message: str, **fields: Any) -> web.Response:
        """An error in OpenAI's form; `retry_after` becomes the header."""
        headers = {"Retry-After": str(fields.pop("retry_after"))} if "retry_after" in fields else {}
        return web.json_response(
            {"error": {"message": message, **fields}}, status=status, headers=headers
        )

    def drop(self) -> web.Response:
        """The connection is reset before an answer."""
        assert self.request.transport is not None
        self.request.transport.abort()
        return web.Response()

    async def cut(self) -> web.StreamResponse:
        """The connection ends in the middle of an answer."""
        whole = self.say().body
        assert isinstance(whole, bytes)
        response = web.StreamResponse(headers={"Content-Length": str(len(whole))})
        await response.prepare(self.request)
        await response.write(whole[: len(whole) // 2])
        assert self.request.transport is not None
        self.request.transport.abort()
        return response


Script = Callable[[Call], Awaitable[web.StreamResponse]]


class ScriptedServer:
    """Serves until it is closed."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.headers: list[dict[str, str]] = []
        self.peak = self.outstanding = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def prompts(self) -> list[str]:
        return [call.prompt for call in self.calls]

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", self._answer)
        # Tests close it in the middle of calls, which is not to be waited for.
        runner = web.AppRunner(application, shutdown_timeout=0.01, access_log=None)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        for task in (left := asyncio.all_tasks(self._loop)):  # calls that nobody waits for
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        prompt = str(body["messages"][-1]["content"])
        call = Call(len(self.calls), self.prompts.count(prompt), body, request)
        self.calls.append(call)
        self.headers.append(dict(request.headers))
        self.outstanding += 1
        self.peak = max(self.peak, self.outstanding)
        try:
            return await self.script(call)
        finally:
            self.outstanding -= 1


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Starts servers; without a script they repeat the prompt."""
    started: list[ScriptedServer] = []

    async def echo(call: Call) -> web.StreamResponse:
        return call.say()

    def start(script: Script = echo) -> ScriptedServer:
        started.append(ScriptedServer(script))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def dead() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@pytest.fixture(autouse=True)
def _no_proxies_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
