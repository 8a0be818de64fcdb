"""Posting a body to a server: over aiohttp, or with the openai package.

The key goes into a header here and nowhere else; what a server says back has it taken out.
"""

from __future__ import annotations

import os
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from judge.engines.wire import encoded, one_line
from judge.errors import ArenaJudgeError

_CONNECT_SECONDS = 10.0
_MOST_BYTES = 64 << 20  # no reply is that long
_SECRET_LENGTH = 8  # shorter ones are words like "EMPTY", which local servers are given
_HIDDEN = "[key]"


@dataclass(frozen=True)
class Key:
    """What a server is shown; it does not show itself.

    Attributes:
        secret: the key, empty for none.
        variable: the environment variable it comes from.
        passwords: in the servers' addresses.
    """

    secret: str = field(repr=False)
    variable: str
    passwords: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def from_environment(cls, variable: str, urls: Sequence[str] = ()) -> Key:
        """The key in a variable of the environment, if there is one, for servers at `urls`.

        Raises:
            ArenaJudgeError: it cannot stand in a header.
        """
        secret = os.environ.get(variable, "").strip()
        if not (secret.isascii() and secret.isprintable()):
            raise ArenaJudgeError(
                f"the key in {variable} has characters that no key has; set it anew"
            )
        return cls(secret, variable, tuple(unquote(urlsplit(url).password or "") for url in urls))

    def scrubbed(self, text: str) -> str:
        """The text without the key."""
        for secret in self._hidden:
            text = text.replace(secret, _HIDDEN)
        return text

    def scrubbed_bytes(self, data: bytes) -> bytes:
        """The bytes without the key."""
        for secret in self._hidden:
            data = data.replace(secret.encode(), _HIDDEN.encode())
        return data

    @cached_property
    def _hidden(self) -> list[str]:
        return [one for one in (self.secret, *self.passwords) if len(one) >= _SECRET_LENGTH]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered: any status but a broken connection."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Unreachable(Exception):
    """No connection could be made: nothing was asked."""


class Broken(Exception):
    """The connection ended, or took too long, before the answer was whole."""


class Transport(Protocol):
    """Posts bodies. Raises Unreachable or Broken where no answer comes."""

    async def post(self, url: str, content: Mapping[str, Any]) -> Answer:
        """Posts to `url` + /chat/completions."""

    async def close(self) -> None:
        """Closes the connections."""


class AiohttpTransport:
    """Kept connections, bodies as bytes: the quick way. Made on the loop that it works on."""

    def __init__(self, key: Key, timeout: float) -> None:
        from judge import __version__

        headers = {"Content-Type": "application/json", "User-Agent": f"arena-judge/{__version__}"}
        if key.secret:
            headers["Authorization"] = f"Bearer {key.secret}"
        self._key = key
        self._timeout = timeout
        self._targets: dict[str, tuple[URL, str | None, Mapping[str, str]]] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_SECONDS),
        )

    async def post(self, url: str, content: Mapping[str, Any]) -> Answer:
        if url not in self._targets:
            target = URL(f"{_bare(url)}/chat/completions")
            self._targets[url] = target, _proxy(url), _authorization(url)
        target, proxy, headers = self._targets[url]
        try:
            # A redirect would turn the call into a GET, or carry the key to somewhere else.
            async with self._session.post(
                target, data=encoded(content), headers=headers, proxy=proxy, allow_redirects=False
            ) as response:
                if (response.content_length or 0) > _MOST_BYTES:
                    raise Broken("the answer is too long")
                data = await response.read()
                return Answer(response.status, response.headers, self._key.scrubbed_bytes(data))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(_reason(error)) from None
        except TimeoutError:
            raise Broken(f"no answer within {self._timeout:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(_reason(error)) from None

    async def close(self) -> None:
        await self._session.close()


class OpenAITransport:
    """The openai package, which knows its company's own ways; slower by a factor."""

    def __init__(self, key: Key, timeout: float) -> None:
        try:
            import openai
        except ImportError as error:
            raise ArenaJudgeError(
                "the openai package is not installed; pip install 'arena-judge[prompted]'"
            ) from error
        self._openai = openai
        self._key = key
        self._timeout = timeout
        self._clients: dict[str, openai.AsyncOpenAI] = {}

    async def post(self, url: str, content: Mapping[str, Any]) -> Answer:
        openai = self._openai
        if url not in self._clients:
            self._clients[url] = openai.AsyncOpenAI(
                # Without a key it refuses to start; a server that wants none does not look at it.
                api_key=self._key.secret or "none",
                base_url=_bare(url),
                default_headers=_authorization(url),
                timeout=self._timeout,
                max_retries=0,
            )
        fields = {name: content[name] for name in ("model", "messages")}
        rest = {name: value for name, value in content.items() if name not in fields}
        create: Any = self._clients[url].chat.completions.with_raw_response.create
        try:
            raw = await create(**fields, extra_body=rest)
            response = raw.http_response
        except openai.APIStatusError as error:
            response = error.response
        except openai.APITimeoutError:
            raise Broken(f"no answer within {self._timeout:g} seconds") from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            words = self._key.scrubbed(_reason(cause or error))
            if cause is not None and "Connect" in type(cause).__name__:
                raise Unreachable(words) from None
            raise Broken(words) from None
        return Answer(
            response.status_code, response.headers, self._key.scrubbed_bytes(response.content)
        )

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


def plain_name(url: str) -> str:
    """A server's address as it may be shown: no user, password or query in it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _bare(url: str) -> str:
    """An address without the user and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _authorization(url: str) -> dict[str, str]:
    """The header for the user and password in an address; it goes before the key's."""
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    said = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(said.encode()).decode()}"}


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a server. aiohttp would look it up at every call."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return one_line(error.os_error.strerror or str(error.os_error) or "no connection")
    return one_line(str(error)) or type(error).__name__
