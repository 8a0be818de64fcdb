"""The service on a socket: bound before anything is loaded, stopped without losing an answer."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from judge.errors import ArenaJudgeError
from judge.service.app import make_app
from judge.service.service import Service

# An idle connection is kept longer than clients keep theirs, so that none is used as it closes.
_KEEP_ALIVE_SECONDS = 75
# Seconds that the last replies may take to be read by whom they are for.
_LAST_REPLIES = 5
# While a batch is judged its thread holds the interpreter's lock most of the time. Asked to give it
# up after this many seconds and not after 5 ms, it keeps the event loop from waiting as long at
# every turn.
_SWITCH_SECONDS = 0.001


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 is any that is free.

    Raises:
        ArenaJudgeError: nobody can listen there.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _unheard(host, port, error) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        listening.close()
        raise _unheard(host, port, error) from None
    listening.setblocking(False)
    return listening


def _unheard(host: str, port: int, error: Exception) -> ArenaJudgeError:
    said = getattr(error, "strerror", None) or str(error)
    return ArenaJudgeError(
        f"cannot listen at {host}, port {port} ({said}); choose another --host or --port"
    )


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def address(listening: socket.socket) -> str:
    """The URL of a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(service: Service, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until SIGINT or SIGTERM has come and what was waiting is answered; a second signal
    has what is waiting refused.

    Args:
        service: whom requests are put to.
        listening: where they come from; is closed.
        ready: called once requests are taken.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = _Server(service, ready)
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # What is loaded stays: going through all of it for garbage again and again would hold up
    # requests for hundredths of a second.
    gc.collect()
    gc.freeze()
    try:
        server.run([listening])
    finally:
        logging.getLogger("uvicorn.error").disabled = False
        gc.unfreeze()
        sys.setswitchinterval(before)


class _Server(uvicorn.Server):
    """Uvicorn stops by closing its doors; this one first refuses what is new, in words, while it
    answers what it has taken."""

    def __init__(self, service: Service, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                make_app(service),
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_LAST_REPLIES,
            )
        )
        self._service, self._ready = service, ready
        self._signals = 0
        self._stopping: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        if self._signals and self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        if self._signals > 1:
            self._service.hurry()
        return await super().on_tick(counter)

    async def _stop(self) -> None:
        await self._service.stop()
        # All replies have been given; who does not come for theirs is no error of ours.
        logging.getLogger("uvicorn.error").disabled = True
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._service.refuse_new()
        if self._signals > 2:  # somebody does not want to wait for the last replies either
            self.should_exit = self.force_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises the signal again once it has stopped: here it was obeyed."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = [(number, signal.signal(number, self.handle_exit)) for number in signals]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)
