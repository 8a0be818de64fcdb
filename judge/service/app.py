"""The service as a FastAPI application: its addresses, and the pages that describe them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from judge import __version__
from judge.service.page import content_policy, render_page
from judge.service.refusals import Refused
from judge.service.schemas import Health, ManyBattles, OneBattle, Problem, Reply
from judge.service.service import Service

_REFERENCE = "#/components/schemas/{model}"
_EXAMPLE = {
    "prompt": "What is the capital of France?",
    "response_a": "Paris.",
    "response_b": "It might be Lyon.",
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": _REFERENCE.format(model=model.__name__)}
                        for model in (OneBattle, ManyBattles)
                    ]
                },
                "examples": {
                    "one": {"value": _EXAMPLE},
                    "many": {"value": {"battles": [{"id": "first", **_EXAMPLE}], "ballots": True}},
                },
            }
        },
    }
}
_REFUSALS = {
    400: "The body is not JSON in UTF-8.",
    401: "The key is missing or wrong.",
    408: "The body took too long to arrive.",
    413: "The body, the number of battles or a battle is too large.",
    415: "The Content-Type is not JSON.",
    422: "A battle cannot be read; `battle` and `field` say which.",
    429: "The queue is full; Retry-After says when to ask again.",
    500: "The judge failed.",
    503: "The server is stopping.",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Reply, "description": "A judgment a battle."},
    **{status: {"model": Problem, "description": said} for status, said in _REFUSALS.items()},
}
_NOSNIFF = {"X-Content-Type-Options": "nosniff"}


def make_app(service: Service) -> FastAPI:
    """The application; its service starts and stops with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="arena-judge",
        version=__version__,
        summary="Which of two answers would people prefer, and how sure can one be?",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_judging(app, service)
    _add_watching(app, service)
    _add_pages(app, service)
    app.add_exception_handler(HTTPException, _plainly)
    return app


def _add_judging(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/judge",
        summary="Judge one battle or many",
        responses=_RESPONSES,
        openapi_extra=_BODY,
        response_class=Response,
    )
    async def judge(request: Request) -> Response:
        """Probabilities that people prefer response A, response B, or neither; the same, to the
        last digit, as `arena-judge score` writes for these battles."""
        return await service.answer(request)


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", responses={200: {"model": Health}, 503: {"model": Health}})
    async def healthz() -> JSONResponse:
        """Whether new requests are taken; wants no key."""
        said = {
            "status": "stopping" if service.stopping else "ready",
            "judge": {"name": service.judge.name, "version": __version__},
            "waiting": service.waiting,
        }
        return JSONResponse(said, 503 if service.stopping else 200)

    @app.get("/metrics", response_class=Response, responses={401: {"model": Problem}})
    async def metrics(request: Request) -> Response:
        """Counters for Prometheus; wants the key where there is one."""
        try:
            service.check_key(request)
        except Refused as refused:
            return _refusal(refused)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_pages(app: FastAPI, service: Service) -> None:
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = described()
            _, models = models_json_schema(
                [(OneBattle, "validation"), (ManyBattles, "validation")], ref_template=_REFERENCE
            )
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(models["$defs"])
            if service.has_key:
                found["components"]["securitySchemes"] = {
                    "key": {"type": "http", "scheme": "bearer"}
                }
                for path in ("/v1/judge", "/metrics"):
                    for operation in found["paths"][path].values():
                        operation["security"] = [{"key": []}]
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        headers = {"Content-Security-Policy": content_policy(), **_NOSNIFF}
        return HTMLResponse(render_page(app.openapi(), service), headers=headers)


async def _plainly(request: Request, error: Exception) -> Response:
    """Addresses that are not there and methods that are not taken, in the form of all refusals."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    mend = "see /docs" if error.status_code in (404, 405) else None
    return _refusal(Refused(error.status_code, code, str(error.detail), mend=mend), error.headers)


def _refusal(refused: Refused, more: Any = None) -> Response:
    headers = {**refused.headers(), **(more or {})}
    return Response(refused.body(), refused.status, headers, "application/json")
