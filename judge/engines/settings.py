"""How an endpoint is asked: everything that a user may set."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from judge.errors import ArenaJudgeError

_HOSTED = "https://api.openai.com/v1"
DEFAULT_KEY = "OPENAI_API_KEY"
"""The environment variable of the key where none is named."""


@dataclass(frozen=True)
class EndpointSettings:
    """Settings of `EndpointEngine`.

    Attributes:
        base_urls: the servers, up to and without /chat/completions; by default OPENAI_BASE_URL from
            the environment, or OpenAI's own.
        client: `aiohttp` posts by itself; `openai` goes through the openai package.
        key_variable: the environment variable that has the key, or several: as many as servers,
            in their order, or for one server several that take turns. By default OPENAI_API_KEY,
            which may be missing, as servers of one's own want no key; one that is named may not.
        concurrency: calls at once, over all servers, at most.
        look_ahead: requests taken ahead of the replies that were used, at most; four times
            `concurrency` by default.
        timeout: seconds for one attempt.
        retries: attempts after the first, where one meets a fault (a server error, garbage, a
            timeout). That a server is busy, or not there, is no fault of a call.
        patience: seconds that a call waits on servers that are busy or not there.
        first_backoff, longest_backoff: seconds before an attempt is made again, at most.
        requests_per_minute, tokens_per_minute: None for no limit but the servers'.
        max_cost: dollars that this engine may spend; None for no limit.
        prices: a file of prices that goes before the one that ships.
        seed: of what is drawn at random, the waits.

    Raises:
        ArenaJudgeError: a value that makes no sense.
    """

    base_urls: Sequence[str] = ()
    client: Literal["aiohttp", "openai"] = "aiohttp"
    key_variable: str | Sequence[str] = ()
    concurrency: int = 256
    look_ahead: int | None = None
    timeout: float = 120.0
    retries: int = 7
    patience: float = 300.0
    first_backoff: float = 0.5
    longest_backoff: float = 30.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_cost: float | None = None
    prices: str | Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        urls = (self.base_urls,) if isinstance(self.base_urls, str) else self.base_urls
        urls = tuple(map(_address, urls or (os.environ.get("OPENAI_BASE_URL") or _HOSTED,)))
        names = (self.key_variable,) if isinstance(self.key_variable, str) else self.key_variable
        names = tuple(map(_variable, names))
        if len(names) < 2:
            urls = tuple(dict.fromkeys(urls))
        elif len(urls) not in (1, len(names)):
            raise ArenaJudgeError(
                f"there are {len(names)} keys for {len(urls)} servers; name one key for all of "
                "them, or one for each, or several for one server"
            )
        object.__setattr__(self, "base_urls", urls)
        object.__setattr__(self, "key_variable", names)
        if self.client not in ("aiohttp", "openai"):
            raise ArenaJudgeError(f"there is no client {self.client}; take aiohttp or openai")
        for name in ("concurrency", "timeout", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ArenaJudgeError(f"{name} is {value}; it must be more than 0")
        for name in ("look_ahead", "retries", "patience", "max_cost", "first_backoff"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ArenaJudgeError(f"{name} is {value}; it must not be less than 0")

    @property
    def servers(self) -> tuple[tuple[str, str], ...]:
        """Base URLs, each with the environment variable that has its key."""
        names = tuple(self.key_variable) or (DEFAULT_KEY,)
        count = max(len(self.base_urls), len(names))
        urls = tuple(self.base_urls) * (count if len(self.base_urls) == 1 else 1)
        names *= count if len(names) == 1 else 1
        return tuple(dict.fromkeys(zip(urls, names, strict=True)))

    @property
    def ahead(self) -> int:
        """Requests taken ahead, at most."""
        return 4 * self.concurrency if self.look_ahead is None else max(1, self.look_ahead)


def _variable(name: str) -> str:
    """An environment variable's name. What is none may be a key, which is not to be shown."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ArenaJudgeError(
            "a key is named by its environment variable, and what was given is no name of one; "
            "put the key into a variable and name that"
        )
    return name


def _address(url: str) -> str:
    """A base URL in the one form that it is used in."""
    plain = url.strip().rstrip("/").removesuffix("/chat/completions")
    try:
        parts = urlsplit(plain)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or "?" in plain or "#" in plain or not plain.isprintable():
        # What stands after a question mark may be a key.
        bare = re.split(r"[?#]", plain.rpartition("@")[2])[0]
        shown = "".join(c for c in bare if c.isprintable()) + "?…" * ("?" in plain)
        raise ArenaJudgeError(
            f"{shown} is not a base URL; write one such as http://127.0.0.1:8000/v1"
        )
    return plain
