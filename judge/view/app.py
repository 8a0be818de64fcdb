"""What answers the page: static files for anyone on this machine, battles for who has the token.

The page's address carries a token in its fragment, which a browser sends to nobody; the page sends
it in a header, which another site's page cannot. So another site can neither read battles nor give
labels, not even under a name of its own that leads here (DNS rebinding), which is refused besides.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from importlib import resources
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from judge.errors import ArenaJudgeError
from judge.view.browsing import Browser, UnknownBattleError
from judge.view.label_file import OwnLabel
from judge.view.queries import Query

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TOKEN_HEADER = "x-arena-judge-token"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MOST_ROWS = 500
_LONGEST_NOTE = 4000
_LONGEST_SEARCH = 1000
_MOST_BYTES = 1 << 16
_PAGE = {
    "/": ("view.html", "text/html; charset=utf-8"),
    "/view.css": ("view.css", "text/css; charset=utf-8"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
    "/battle.js": ("battle.js", "text/javascript; charset=utf-8"),
    "/server.js": ("server.js", "text/javascript; charset=utf-8"),
}
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#26272c"/>'
    '<rect x="6" y="8" width="12" height="6" rx="2" fill="#6aa9ee"/>'
    '<rect x="14" y="18" width="12" height="6" rx="2" fill="#f0a05a"/></svg>'
)
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types battle",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Given(BaseModel):
    """A label as the page sends it."""

    label: Literal["a", "b", "tie"] | None
    note: str = Field(default="", max_length=_LONGEST_NOTE)


def create_app(browser: Browser, token: str, hosts: Iterable[str] | None = LOOPBACK) -> Guard:
    """The application.

    Args:
        browser: what is known of the battles.
        token: what a request for battles must bring.
        hosts: the names a request may be addressed to; None for any.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(UnknownBattleError, _failed(404))
    app.add_exception_handler(ArenaJudgeError, _failed(409))
    app.add_exception_handler(RequestValidationError, _failed(422))
    _add_page(app)
    _add_battles(app, browser)
    return Guard(app, token, None if hosts is None else frozenset(hosts))


def _add_page(app: FastAPI) -> None:
    folder = resources.files("judge.view") / "page"

    def add(path: str, data: str | bytes, kind: str) -> None:
        @app.get(path, response_model=None)
        def page() -> Response:
            return Response(data, media_type=kind)

    for path, (name, kind) in _PAGE.items():
        add(path, (folder / name).read_bytes(), kind)
    add("/icon.svg", _ICON, "image/svg+xml")


def _add_battles(app: FastAPI, browser: Browser) -> None:
    @app.get("/api/about", response_model=None)
    def about() -> Response:
        return _json(browser.about())

    @app.get("/api/list", response_model=None)
    def listed(
        show: Literal[
            "all", "surprising", "unsure", "disagree", "unjudged", "mine", "unlabelled"
        ] = "all",
        label: Literal["", "a", "b", "tie", "none"] = "",
        predicted: Literal["", "a", "b", "tie", "none"] = "",
        judge: int = 0,
        search: str = "",
        start: int = 0,
        count: int = 100,
        stamp: str = "",
    ) -> Response:
        query = Query(show, label, predicted, judge, search[:_LONGEST_SEARCH])
        count = min(max(count, 1), MOST_ROWS)
        return _json(browser.window(query, stamp[:64], max(start, 0), count))

    @app.get("/api/battles/{row}", response_model=None)
    def battle(row: int, plain: bool = False, turn: int = 0) -> Response:
        return _json(browser.battle(row, plain=plain, first=turn))

    @app.get("/api/battles/{row}/text", response_model=None)
    def text(row: int, side: Literal["prompt", "a", "b"], turn: int, start: int) -> Response:
        return _json(browser.more_text(row, side, turn, start))

    @app.post("/api/battles/{row}/label", response_model=None)
    def label(row: int, given: Given) -> Response:
        return _json(browser.give(row, OwnLabel(given.label, given.note)))


def _json(value: object) -> Response:
    # Escaped: half a character is no UTF-8, but has an escape.
    return Response(json.dumps(value, allow_nan=False), media_type="application/json")


def _failed(status: int) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        message = "the request makes no sense" if status == 422 else str(error)
        return Response(
            json.dumps({"error": message}), status_code=status, media_type="application/json"
        )

    return answer


class Guard:
    """Lets in only who is addressed and known, and sends the same headers with every answer."""

    def __init__(self, app: Any, token: str, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts
        self._token = token.encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Lifespan; there are no websockets, and nobody unknown gets as far as to be told.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                raw = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *raw]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, with_headers)
        else:
            status, reason = refusal
            response = Response(
                json.dumps({"error": reason}), status_code=status, media_type="application/json"
            )
            await response(scope, receive, with_headers)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Why a request gets no answer, if it does not."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and _name(host) not in self._hosts:
            return 421, "this server is not known under that name"
        if not scope["path"].startswith("/api/"):
            return None
        if not secrets.compare_digest(headers.get(TOKEN_HEADER.encode(), b""), self._token):
            return 403, "open the address that arena-judge view has printed"
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin.partition("://")[2] != host:
            return 403, "another site may not ask this"
        if not headers.get(b"content-length", b"0").isdigit():
            return 400, "the request makes no sense"
        if int(headers.get(b"content-length", b"0")) > _MOST_BYTES:
            return 413, "that is too long"
        if b"transfer-encoding" in headers:
            return 411, "say how long the request is"
        return None


def _name(host: str) -> str:
    """The host of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
