"""A server of batches that keeps to OpenAI's rules, on a real socket, and does as a test says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from judge.engines.batch import BatchEngine
from judge.engines.ledger import Ledger
from judge.engines.settings import EndpointSettings

MOST_REQUESTS = 50_000
# Fields of a chat completion that OpenAI knows; any other is a 400.
KNOWN = {
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "seed",
    "logprobs", "top_logprobs", "response_format",
}  # fmt: skip

Reply = Callable[[dict[str, Any]], "tuple[int, Any]"]
"""From the body of a request: a status and what is answered; None for one that expires."""


def completion(text: str, model: str = "tiny", **choice: Any) -> dict[str, Any]:
    """A chat completion as servers write it."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message, **choice}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }


def echo(body: dict[str, Any]) -> tuple[int, Any]:
    """Says the prompt again; refuses what OpenAI does not know."""
    for name in body:
        if name not in KNOWN:
            return 400, error(f"Unrecognized request argument supplied: {name}", param=name)
    return 200, completion(body["messages"][-1]["content"], body["model"])


def error(message: str, **fields: Any) -> dict[str, Any]:
    """An error in OpenAI's form."""
    form = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return {"error": {**form, **fields}}


def output_line(custom_id: str, status: int, body: Any, number: int = 0) -> bytes:
    """A line of a file of replies."""
    response = {"status_code": status, "request_id": f"req-{number}", "body": body}
    line = {"id": f"batch_req_{number}", "custom_id": custom_id, "response": response}
    return json.dumps({**line, "error": None}).encode() + b"\n"


class BatchHost:
    """Takes files and batches until it is closed.

    Attributes:
        reply: answers requests when a batch runs.
        files: what was uploaded or made, by id.
        batches: by id, in the order they were made.
        calls: (method, path) of every call.
        faults: what is answered instead, while there is any: (method, path's beginning) to a list
            of statuses; a status of 0 drops the connection, a negative one does so after the call
            was carried out.
        page: what is answered to everything, as HTML.
        room: batches of a model that may be under way; more fail as OpenAI lets them fail.
    """

    def __init__(self, reply: Reply = echo, room: int = 100, has_batches: bool = True) -> None:
        self.reply = reply
        self.room = room
        self.has_batches = has_batches
        self.files: dict[str, dict[str, Any]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: dict[tuple[str, str], list[int]] = {}
        self.fault_code: str | None = None
        self.page: str | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def count(self, method: str, path: str) -> int:
        """How often something was called."""
        return Counter(self.calls)[method, path]

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    # What tests write replies with.
    completion = staticmethod(completion)
    echo = staticmethod(echo)
    error = staticmethod(error)
    line = staticmethod(output_line)

    # What a test makes happen.

    def finish(self, status: str = "completed", answered: int | None = None) -> None:
        """Runs what was made and is not ended: answers the first so many, all by default, last
        first; the others are lost to `status`."""
        for batch in self.batches.values():
            if batch["status"] in ("validating", "in_progress"):
                self._finish(batch, status, answered)

    def _finish(self, batch: dict[str, Any], status: str, answered: int | None) -> None:
        lines = self.files[batch["input_file_id"]]["content"].splitlines()
        requests = [json.loads(line) for line in lines]
        output, errors = [], []
        for number, request in enumerate(requests):
            custom_id = request["custom_id"]
            if answered is not None and number >= answered:
                why = {"code": f"batch_{status}", "message": f"This request was {status}."}
                line = {"id": f"b{number}", "custom_id": custom_id, "response": None, "error": why}
                errors.append(json.dumps(line).encode() + b"\n")
                continue
            code, body = self.reply(request["body"])
            (output if code == 200 else errors).append(output_line(custom_id, code, body, number))
        batch["status"] = status
        counts = {"total": len(requests), "completed": len(output), "failed": len(errors)}
        batch["request_counts"] = counts
        if output:
            batch["output_file_id"] = self.put(b"".join(reversed(output)), "batch_output")
        if errors:
            batch["error_file_id"] = self.put(b"".join(reversed(errors)), "batch_output")

    def put(self, content: bytes, purpose: str, name: str = "out.jsonl") -> str:
        """Keeps a file."""
        made = f"file-{len(self.files) + 1:04d}"
        self.files[made] = {
            "id": made, "object": "file", "bytes": len(content), "created_at": len(self.files),
            "filename": name, "purpose": purpose, "content": content, "status": "processed",
        }  # fmt: skip
        return made

    # HTTP.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application(client_max_size=1 << 28)
        application.router.add_route("*", "/v1/{path:.*}", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.01, access_log=None)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.calls.append((request.method, path))
        self.headers.append(dict(request.headers))
        await request.read() if request.content_type == "application/json" else None
        if self.page is not None:
            return web.Response(text=self.page, content_type="text/html")
        fault = self._fault(request.method, path)
        if fault is not None and fault > 0:
            await request.read()
            words = f"on fire with {request.headers.get('Authorization')}"
            said = error(words, code=self.fault_code)
            return web.json_response(said, status=fault)
        response: web.StreamResponse | None = None
        if fault != 0:
            try:
                response = await self._carried_out(request, path)
            except _Refused as refused:
                response = web.json_response(error(str(refused)), status=refused.status)
        if fault is not None:
            assert request.transport is not None
            request.transport.abort()
        return response or web.Response()

    def _fault(self, method: str, path: str) -> int | None:
        for (wanted, beginning), statuses in self.faults.items():
            if wanted == method and path.startswith(beginning) and statuses:
                return statuses.pop(0)
        return None

    async def _carried_out(self, request: web.Request, path: str) -> web.StreamResponse:
        parts = path.split("/")
        what = (request.method, parts[0], len(parts))
        if not self.has_batches:
            raise _Refused(404, "Not Found")
        if what == ("POST", "files", 1):
            return await self._upload(request)
        if what == ("GET", "files", 1):
            purpose = request.query.get("purpose")
            found = [f for f in self.files.values() if purpose in (None, f["purpose"])]
            return self._page(request, found)
        if what == ("GET", "files", 3) and parts[2] == "content":
            if parts[1] not in self.files:
                raise _Refused(404, f"No such File object: {parts[1]}")
            return web.Response(body=self.files[parts[1]]["content"])
        if what == ("POST", "batches", 1):
            return self._create(await request.json())
        if what == ("GET", "batches", 1):
            return self._page(request, list(self.batches.values()))
        if what == ("GET", "batches", 2):
            if parts[1] not in self.batches:
                raise _Refused(404, f"No batch found with id '{parts[1]}'.")
            return web.json_response(self.batches[parts[1]])
        raise _Refused(404, f"no such thing: {path}")

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file, purpose = form["file"], form["purpose"]
        if purpose != "batch":
            raise _Refused(400, f"'{purpose}' is not a purpose")
        assert isinstance(file, web.FileField)
        if not file.filename.endswith(".jsonl"):
            raise _Refused(400, "Invalid file format for Batch API. Must be .jsonl")
        made = self.put(file.file.read(), "batch", file.filename)
        return self._shown(self.files[made])

    def _shown(self, file: dict[str, Any]) -> web.Response:
        return web.json_response({k: v for k, v in file.items() if k != "content"})

    def _page(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        limit, after = int(request.query.get("limit", 20)), request.query.get("after")
        newest = items[::-1]
        if after is not None:
            newest = newest[[item["id"] for item in newest].index(after) + 1 :]
        shown = [{k: v for k, v in item.items() if k != "content"} for item in newest[:limit]]
        more = len(newest) > limit
        return web.json_response({"object": "list", "data": shown, "has_more": more})

    def _create(self, asked: dict[str, Any]) -> web.Response:
        if set(asked) - {"input_file_id", "endpoint", "completion_window", "metadata"}:
            raise _Refused(400, "Unknown parameter")
        if asked["endpoint"] != "/v1/chat/completions" or asked["completion_window"] != "24h":
            raise _Refused(400, "Invalid value")
        file = self.files.get(asked["input_file_id"])
        if file is None or file["purpose"] != "batch":
            raise _Refused(400, f"Invalid file id: {asked['input_file_id']}")
        metadata = asked.get("metadata") or {}
        if any(len(k) > 64 or len(v) > 512 for k, v in metadata.items()) or len(metadata) > 16:
            raise _Refused(400, "Invalid metadata")
        made = {
            "id": f"batch_{len(self.batches) + 1:04d}", "object": "batch", "errors": None,
            "created_at": len(self.batches), "status": "validating", "output_file_id": None,
            "error_file_id": None, "request_counts": {"total": 0, "completed": 0, "failed": 0},
            **asked,
        }  # fmt: skip
        faults, model = self._validated(file["content"])
        under_way = [b for b in self.batches.values() if b["status"] == "validating"]
        if not faults and sum(b.get("model") == model for b in under_way) >= self.room:
            message = f"Enqueued token limit reached for {model} in organization org-1."
            faults = [{"code": "token_limit_exceeded", "message": message, "line": None}]
        made["model"] = model
        if faults:
            made.update(status="failed", errors={"object": "list", "data": faults})
        self.batches[made["id"]] = made
        # As it is: validation is over before the first look, though it was not when it was made.
        return web.json_response({**made, "status": "validating", "errors": None})

    def _validated(self, content: bytes) -> tuple[list[dict[str, Any]], str]:
        faults, seen, models = [], set(), set()
        lines = content.split(b"\n")
        if lines.pop() != b"":
            faults.append({"code": "invalid_json_line", "message": "no end", "line": len(lines)})
        for number, line in enumerate(lines, 1):
            try:
                said = json.loads(line)
                if set(said) != {"custom_id", "method", "url", "body"}:
                    raise ValueError
            except ValueError:
                faults.append({"code": "invalid_json_line", "message": "bad", "line": number})
                continue
            if said["method"] != "POST" or said["url"] != "/v1/chat/completions":
                faults.append({"code": "invalid_url", "message": "bad", "line": number})
            if said["custom_id"] in seen:
                faults.append({"code": "duplicate_custom_id", "message": "bad", "line": number})
            seen.add(said["custom_id"])
            models.add(said["body"]["model"])
        if len(models) > 1:
            faults.append({"code": "mismatched_model", "message": str(models), "line": None})
        if len(lines) > MOST_REQUESTS or not lines or len(content) > 200_000_000:
            faults.append({"code": "invalid_file", "message": str(len(lines)), "line": None})
        return faults, next(iter(models), "")


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Clock:
    """Time that passes when somebody sleeps; `ticks` are called then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.tick: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        assert len(self.slept) < 1000
        self.tick()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as made:
        yield made


@pytest.fixture
def host() -> Iterator[BatchHost]:
    made = BatchHost()
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(
    tmp_path: Path, ledger: Ledger, host: BatchHost, clock: Clock
) -> Iterator[Callable[..., BatchEngine]]:
    """Makes engines of one folder, as one process after the other would: the last is closed."""
    made: list[BatchEngine] = []

    def make(**changed: Any) -> BatchEngine:
        for earlier in made:
            earlier.close()
        settings = {
            name: changed.pop(name)
            for name in ("max_cost", "prices", "patience", "retries", "base_urls", "key_variable")
            if name in changed
        }
        settings = {"base_urls": [host.url], "patience": 60.0, **settings}
        places = {"folder": tmp_path / "batch", "ledger": ledger}
        made.append(
            BatchEngine(
                **{**places, "sleep": clock.sleep, "clock": clock, **changed},
                settings=EndpointSettings(**settings),
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()
