"""The body of a request, read no further than it may be long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from judge.service.limits import Limits
from judge.service.refusals import Refused

Receive = Callable[[], Awaitable[Any]]

# A body that is too long is read on and thrown away: whoever is still sending when the connection
# closes sees a broken pipe and not the reply. One so many times too long is given up.
_DISCARDED = 4


class GoneError(Exception):
    """Whoever asked has hung up."""


async def read_body(
    receive: Receive, declared: str | None, limits: Limits, take: Callable[[int], None]
) -> bytes:
    """The body of a request.

    Args:
        receive: of ASGI.
        declared: the header Content-Length, which chunked bodies have not.
        limits: how long it may be.
        take: told of each piece's bytes before it is kept.

    Raises:
        Refused: it is too long (413), or what `take` says.
        GoneError: the connection ended first.
    """
    if declared is not None and declared.isdecimal() and int(declared) > limits.body:
        raise _too_large(limits)
    size = 0
    chunks: list[bytes] = []
    async for chunk in _chunks(receive):
        size += len(chunk)
        if size > _DISCARDED * limits.body:
            break
        if size > limits.body:
            chunks.clear()
        else:
            take(len(chunk))
            chunks.append(chunk)
    if size > limits.body:
        raise _too_large(limits)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise GoneError
        more = message.get("more_body", False)
        yield message.get("body", b"")


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413,
        "body_too_large",
        f"the body has more than {limits.body:,} bytes",
        mend="send fewer battles a request",
    )
