"""Posting a body to a server: over aiohttp, or with the openai package.

A key goes into a header here and nowhere else; what a server says back has all keys taken out.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from judge.engines.settings import EndpointSettings
from judge.engines.wire import encoded, one_line
from judge.errors import ArenaJudgeError

_CONNECT_SECONDS = 10.0
_MOST_BYTES = 64 << 20  # no reply is that long
_SECRET_LENGTH = 8  # shorter ones are words like "EMPTY", which local servers are given
_HIDDEN = "[key]"
_END = re.compile(rb"(?:^|[\r\n])data: *\[DONE\]")  # inside of JSON no line begins
_END_LENGTH = 32
_END_SECONDS = 0.2  # given to a server to end a stream after its last word


@dataclass(frozen=True, eq=False)
class Target:
    """Where calls go, and what they show there; the key does not show itself.

    Attributes:
        url: the base URL.
        variable: the environment variable that the key comes from.
        secret: the key, empty for none.
    """

    url: str
    variable: str
    secret: str = field(repr=False)

    @classmethod
    def from_environment(cls, url: str, variable: str) -> Target:
        """A server with the key in a variable of the environment, if there is one.

        Raises:
            ArenaJudgeError: it cannot stand in a header.
        """
        secret = os.environ.get(variable, "").strip()
        if not (secret.isascii() and secret.isprintable()):
            raise ArenaJudgeError(
                f"the key in {variable} has characters that no key has; set it anew"
            )
        return cls(url, variable, secret)


class Secrets:
    """What no message, file or reply may have in it: the keys of all servers, and passwords in
    their addresses.

    Args:
        targets: the servers.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        found: set[str] = set()
        for target in targets:
            password = unquote(urlsplit(target.url).password or "")
            basic = _authorization(target.url).get("Authorization", "").removeprefix("Basic ")
            for secret in (target.secret, password, basic):
                if len(secret) >= _SECRET_LENGTH:
                    found |= {secret, *_escaped(secret)}
        # One may be the beginning of another.
        self._hidden = sorted(found, key=lambda secret: (-len(secret), secret))
        self._hidden_bytes = [secret.encode() for secret in self._hidden]

    def scrubbed(self, text: str) -> str:
        """The text without any of it."""
        for secret in self._hidden:
            text = text.replace(secret, _HIDDEN)
        return text

    def scrubbed_bytes(self, data: bytes) -> bytes:
        """The bytes without any of it."""
        for secret in self._hidden_bytes:
            data = data.replace(secret, _HIDDEN.encode())
        return data


class Key(Secrets):
    """The key of one server, for who asks no other.

    Attributes:
        secret: it, empty for none.
        variable: the environment variable it comes from.
    """

    def __init__(self, target: Target) -> None:
        super().__init__([target])
        self.secret, self.variable = target.secret, target.variable

    @classmethod
    def from_environment(cls, variable: str, urls: Sequence[str]) -> Key:
        """The key in a variable of the environment for the first of `urls`; see `Target`."""
        return cls(Target.from_environment(urls[0], variable))


def _escaped(secret: str) -> set[str]:
    """How it may stand in JSON."""
    plain = json.dumps(secret)[1:-1]
    return {plain, plain.replace("/", "\\/")}


def find_targets(settings: EndpointSettings) -> tuple[Target, ...]:
    """The servers with their keys, out of the environment.

    Raises:
        ArenaJudgeError: a key that was named is not there, or cannot stand in a header.
    """
    targets = tuple(Target.from_environment(*server) for server in settings.servers)
    missing = [target for target in targets if not target.secret]
    if settings.key_variable and missing:
        raise ArenaJudgeError(
            f"the environment variable {_shown(missing[0].variable)} is not set, or empty; put the "
            "key into it (a server that wants none takes any word)"
        )
    return targets


def _shown(variable: str) -> str:
    """A variable's name, unless it may be a key that was given in its place."""
    return variable if variable.isupper() or len(variable) < 20 else f"{variable[:4]}..."


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

    async def post(self, target: Target, content: Mapping[str, Any]) -> Answer:
        """Posts to the target's URL + /chat/completions."""

    async def close(self) -> None:
        """Closes the connections."""


class AiohttpTransport:
    """Kept connections, bodies as bytes: the quick way. Made on the loop that it works on."""

    def __init__(self, secrets: Secrets, timeout: float) -> None:
        from judge import __version__

        headers = {"Content-Type": "application/json", "User-Agent": f"arena-judge/{__version__}"}
        self._secrets = secrets
        self._timeout = timeout
        self._known: dict[Target, tuple[URL, str | None, Mapping[str, str]]] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_SECONDS),
        )

    async def post(self, target: Target, content: Mapping[str, Any]) -> Answer:
        if target not in self._known:
            address = URL(f"{_bare(target.url)}/chat/completions")
            headers = _authorization(target.url)
            if target.secret and not headers:
                headers = {"Authorization": f"Bearer {target.secret}"}
            self._known[target] = address, _proxy(target.url), headers
        address, proxy, shown = self._known[target]
        try:
            # A redirect would turn the call into a GET, or carry the key to somewhere else.
            async with self._session.post(
                address, data=encoded(content), headers=shown, proxy=proxy, allow_redirects=False
            ) as response:
                if (response.content_length or 0) > _MOST_BYTES:
                    raise Broken("the answer is too long")
                kind = response.headers.get("Content-Type", "")
                events = kind[:17].lower() == "text/event-stream"
                data = await (_read_stream(response) if events else response.read())
                return Answer(response.status, response.headers, self._secrets.scrubbed_bytes(data))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(_reason(error)) from None
        except TimeoutError:
            raise Broken(f"no answer within {self._timeout:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(_reason(error)) from None

    async def close(self) -> None:
        await self._session.close()


async def _read_stream(response: aiohttp.ClientResponse) -> bytes:
    """What a stream says; it ends where it says so, for some servers leave the connection open."""
    data = bytearray()
    async for piece in response.content.iter_any():
        seen = max(0, len(data) - _END_LENGTH)
        data += piece
        if len(data) > _MOST_BYTES:
            raise Broken("the answer is too long")
        if _END.search(data, seen):
            with suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(_END_SECONDS):  # a connection read to its end is kept
                    await response.content.read()
            break
    return bytes(data)


class OpenAITransport:
    """The openai package, which knows its company's own ways; slower by a factor."""

    def __init__(self, secrets: Secrets, timeout: float) -> None:
        try:
            import openai
        except ImportError as error:
            raise ArenaJudgeError(
                "the openai package is not installed; pip install 'arena-judge[prompted]'"
            ) from error
        self._openai = openai
        self._secrets = secrets
        self._timeout = timeout
        self._clients: dict[Target, openai.AsyncOpenAI] = {}

    async def post(self, target: Target, content: Mapping[str, Any]) -> Answer:
        openai = self._openai
        if target not in self._clients:
            self._clients[target] = openai.AsyncOpenAI(
                # Without a key it refuses to start; a server that wants none does not look at it.
                api_key=target.secret or "none",
                base_url=_bare(target.url),
                default_headers=_authorization(target.url),
                timeout=self._timeout,
                max_retries=0,
            )
        fields = {name: content[name] for name in ("model", "messages")}
        rest = {name: value for name, value in content.items() if name not in fields}
        create: Any = self._clients[target].chat.completions.with_raw_response.create
        try:
            raw = await create(**fields, extra_body=rest)
            response = raw.http_response
        except openai.APIStatusError as error:
            response = error.response
        except openai.APITimeoutError:
            raise Broken(f"no answer within {self._timeout:g} seconds") from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            words = self._secrets.scrubbed(_reason(cause or error))
            if cause is not None and "Connect" in type(cause).__name__:
                raise Unreachable(words) from None
            raise Broken(words) from None
        return Answer(
            response.status_code, response.headers, self._secrets.scrubbed_bytes(response.content)
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
