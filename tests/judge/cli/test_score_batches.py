"""Batches that a model is asked about follow one another without a gap, and change nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result

pytest.importorskip("aiohttp")
pytest.importorskip("jinja2")

from judge.ballots import CRITERIA

Start = Callable[..., "subprocess.Popen[bytes]"]
BALLOT = json.dumps(dict.fromkeys(CRITERIA, "A"))


class Model(ThreadingHTTPServer):
    """Prefers what stands first. Calls about a question in `held` wait until they are let go.

    Attributes:
        asked: numbers of the questions, in the order in which they came.
        news: is told of each.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.held: Callable[[int], bool] = lambda _: False
        self.asked: list[int] = []
        self.news = threading.Condition()
        self.go = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def wait(self, until: Callable[[], bool]) -> None:
        """Waits until what has been asked fulfils something."""
        with self.news:
            assert self.news.wait_for(until, timeout=120)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was interrupted has gone."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = re.search(r"question (\d+)", body["messages"][-1]["content"])
        assert found is not None
        number = int(found[1])
        with self.server.news:
            self.server.asked.append(number)
            self.server.news.notify_all()
        if self.server.held(number):
            self.server.go.wait(300)
        choice = {"message": {"role": "assistant", "content": BALLOT}, "finish_reason": "stop"}
        answer = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Model() as server:
        yield server
        server.go.set()
        server.shutdown()


def options(model: Model, name: str, chunk_rows: int) -> list[str]:
    return [
        *("--judge", "endpoint:m", "--base-url", model.url, "--order", "ab", "--no-logprobs"),
        *("--ledger", f"{name}.sqlite", "-o", f"{name}.csv", "--chunk-rows", str(chunk_rows)),
    ]


def test_a_batch_does_not_wait_for_the_last_reply_of_the_one_before(
    start: Start, model: Model, battle_file: Callable[..., str]
) -> None:
    file = battle_file(count=50, prompts=[f"question {n}" for n in range(50)])
    model.held = lambda number: number == 3
    process = start("score", file, *options(model, "out", 10), "--concurrency", "4")
    model.wait(lambda: set(range(30)) <= set(model.asked))
    assert process.poll() is None
    # The fourth is not begun while the first waits: what is held in memory stays bounded.
    assert max(model.asked) < 30
    model.go.set()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error.decode()
    assert sorted(model.asked) == list(range(50))


def test_how_battles_are_batched_changes_nothing(
    run: Callable[..., Result], model: Model, battle_file: Callable[..., str], folder: Path
) -> None:
    file = battle_file(count=50, prompts=[f"question {n}" for n in range(50)])
    for name, chunk_rows in (("whole", 1000), ("small", 7), ("single", 1)):
        result = run("score", file, *options(model, name, chunk_rows), "--ballots", f"{name}-v.csv")
        assert result.exit_code == 0, result.output
    for end in (".csv", "-v.csv"):
        assert len(
            {(folder / f"{name}{end}").read_bytes() for name in ("whole", "small", "single")}
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_at_once_and_keeps_its_replies(
    start: Start,
    model: Model,
    battle_file: Callable[..., str],
    folder: Path,
    number: signal.Signals,
) -> None:
    file = battle_file(count=40, prompts=[f"question {n}" for n in range(40)])
    model.held = lambda question: question in (3, 13)  # one of each batch that is under way
    process = start("score", file, *options(model, "out", 10), "--concurrency", "4")
    model.wait(lambda: set(range(20)) <= set(model.asked))
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.decode().strip() == "arena-judge: interrupted"
    with closing(sqlite3.connect(folder / "out.sqlite")) as ledger:
        kept = ledger.execute("SELECT count(*) FROM replies").fetchone()[0]
    assert 16 <= kept <= 18  # 20 were asked, 4 at a time, and two of these had no answer
    left = [name for name in os.listdir(folder) if not name.startswith("out.sqlite")]
    assert left == [file]


def test_an_error_in_one_batch_ends_the_run_at_once(
    start: Start, model: Model, battle_file: Callable[..., str], folder: Path
) -> None:
    """The second batch cannot be read; the first would wait for ever."""
    file = Path(battle_file(count=12, prompts=[f"question {n}" for n in range(12)]))
    with (folder / file).open("a") as stream:
        stream.write("too,few\n")
    model.held = lambda question: question == 3
    process = start("score", str(file), *options(model, "out", 10), "--concurrency", "4")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "row 14" in error.decode()
    assert not (folder / "out.csv").exists()
