"""`arena-judge serve` as a process: from its address to its last reply."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from click.testing import Result

from judge.ballots import CRITERIA
from judge.predictions import read_predictions
from tests.judge.cli.server import PATIENCE, Start, asking, question, until

HERE = Path(__file__).parent
KEY = "a-key-that-is-in-no-log"

Run = Callable[..., Result]


@pytest.fixture
def gated(folder: Path) -> Callable[..., str]:
    """Makes a folder for a gated judge."""

    def make(**settings: object) -> str:
        (folder / "gated.judge").mkdir()
        text = json.dumps({"kind": "gated", **settings})
        (folder / "gated.judge" / "judge.yaml").write_text(text)
        return "gated.judge"

    return make


# --- from start to end ----------------------------------------------------------------------------


def test_it_says_where_it_is_answers_and_ends(serve: Start) -> None:
    server = serve()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.url)
    assert server.said["judge"] == "statistical"
    assert server.said["pid"] == server.process.pid
    reply = server.post({"battles": [question(1), {"prompt": "p"}]})
    assert reply.status_code == 422
    assert reply.json()["error"]["battle"] == 1
    reply = server.post(question(1))
    assert reply.status_code == 200
    assert "server" not in reply.headers
    code, said = server.stop()
    assert code == 0
    assert server.summary["by_status"] == {"422": 1, "200": 1}
    first, last = said.strip().splitlines()
    assert server.url in first
    assert last == "stopped: 1 of 2 requests answered, 1 battle"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_it_has_taken(
    serve: Start, gated: Callable[..., str], folder: Path, number: int
) -> None:
    server = serve("--judge", gated())
    with server.client() as open_before, asking(server, question(1)) as replies:
        assert open_before.get("/healthz").status_code == 200
        until((folder / "judging").exists)
        server.process.send_signal(number)
        until(lambda: open_before.get("/healthz").status_code == 503)
        refused = server.post(question(2))
        (folder / "open").touch()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "stopping"
    (reply,) = replies
    assert isinstance(reply, httpx.Response), reply
    assert reply.json()["judgments"][0]["winner_model_a"] == 1e-6
    code, said = server.wait()
    assert (code, server.summary["unanswered"]) == (0, 0)
    assert "Traceback" not in said


def test_what_takes_longer_than_its_grace_is_told_so(
    serve: Start, gated: Callable[..., str], folder: Path
) -> None:
    server = serve("--judge", gated(), "--grace", "0.05")
    with asking(server, question(1)) as replies:
        until((folder / "judging").exists)
        server.process.send_signal(signal.SIGTERM)
    (reply,) = replies
    assert isinstance(reply, httpx.Response), reply
    assert reply.status_code == 503
    code, said = server.wait()
    assert (code, server.summary["unanswered"]) == (3, 1)
    assert "1 request turned away" in said
    assert "Traceback" not in said


def test_told_twice_it_ends_at_once(serve: Start, gated: Callable[..., str], folder: Path) -> None:
    server = serve("--judge", gated(), "--grace", "3600")
    with server.client() as client, asking(server, question(1)) as replies:
        until((folder / "judging").exists)
        server.process.send_signal(signal.SIGINT)
        until(lambda: client.get("/healthz").status_code == 503)
        server.process.send_signal(signal.SIGINT)
    (reply,) = replies
    assert isinstance(reply, httpx.Response), reply
    assert reply.status_code == 503
    code, said = server.wait()
    assert (code, server.summary["unanswered"]) == (3, 1)
    assert "Traceback" not in said


# --- the same as score ----------------------------------------------------------------------------

ODD = [
    {"prompt": "p", "response_a": "", "response_b": "b"},
    {"prompt": ["p", "q"], "response_a": ["a", None], "response_b": ["", "b"]},
    {"prompt": [{"role": "user", "content": "漢字"}], "response_a": "かな\0", "response_b": "\r\n"},
    {"prompt": "list 5 words", "response_a": "- a\n- b", "response_b": '["a"]', "id": "same"},
    {"prompt": "p", "response_a": "same", "response_b": "same", "id": "same"},
]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 40])
def test_the_predictions_are_those_of_score_to_the_last_digit(
    run: Run, serve: Start, folder: Path, size: int
) -> None:
    examples = Path(__file__).parents[3] / "examples" / "battles.csv"
    table = pd.read_csv(examples, dtype=str, keep_default_na=False)
    names = ["prompt", "response_a", "response_b"]
    battles = [*table[names].to_dict("records"), *ODD]
    # Every cell as the lists that a Kaggle file has, so that a column is of one kind.
    file = folder / "battles.jsonl"
    file.write_text("".join(json.dumps(battle) + "\n" for battle in battles))
    assert run("score", "battles.jsonl", "-o", "predictions.csv").exit_code == 0
    expected = read_predictions(folder / "predictions.csv")
    server = serve()
    found: list[dict[str, Any]] = []
    with server.client() as client:
        for first in range(0, len(battles), size):
            reply = client.post("/v1/judge", json={"battles": battles[first : first + size]})
            found += reply.json()["judgments"]
    columns = ["winner_model_a", "winner_model_b", "winner_tie"]
    assert [[one[name] for name in columns] for one in found] == expected[columns].values.tolist()


@pytest.mark.slow
def test_64_clients_at_once_lose_nothing_and_mix_up_nothing(
    serve: Start, gated: Callable[..., str]
) -> None:
    server = serve("--judge", gated(gate=False))

    async def client(session: httpx.AsyncClient, number: int) -> int:
        right = 0
        for turn in range(8):
            size = 1 + (number + turn) % 4
            numbers = [number * 1000 + turn * 10 + k for k in range(size)]
            # Ids repeat between clients, as they do when each counts for itself.
            battles = [{**question(n), "id": k} for k, n in enumerate(numbers)]
            reply = await session.post("/v1/judge", json={"battles": battles})
            assert reply.status_code == 200, reply.text
            said = [(one["id"], one["winner_model_a"]) for one in reply.json()["judgments"]]
            assert said == [(k, n / 1e6) for k, n in enumerate(numbers)]
            right += size
        return right

    async def all_clients() -> int:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(
            base_url=server.url, timeout=PATIENCE, limits=limits, trust_env=False
        ) as session:
            return sum(await asyncio.gather(*(client(session, number) for number in range(64))))

    battles = asyncio.run(all_clients())
    code, _ = server.stop()
    assert code == 0
    assert server.summary["by_status"] == {"200": 64 * 8}
    assert server.summary["battles"] == battles


@pytest.mark.slow
def test_a_flood_is_refused_and_memory_stays(
    serve: Start, gated: Callable[..., str], folder: Path
) -> None:
    server = serve("--judge", gated(), "--queue", "64", "--max-battles", "8")
    text = "word " * 5000
    body = json.dumps({"battles": [{**question(n), "response_a": text} for n in range(8)]})

    def memory() -> int:
        return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096

    async def flood() -> tuple[list[int], int]:
        limits = httpx.Limits(max_connections=50)
        headers = {"Content-Type": "application/json"}
        async with httpx.AsyncClient(
            base_url=server.url, timeout=PATIENCE, limits=limits, trust_env=False
        ) as session:

            def post() -> Any:
                return session.post("/v1/judge", content=body, headers=headers)

            taken = [asyncio.ensure_future(post())]
            while not (folder / "judging").exists():
                await asyncio.sleep(0.005)
            taken += [asyncio.ensure_future(post()) for _ in range(8)]
            while (await session.get("/healthz")).json()["waiting"] < 64:
                await asyncio.sleep(0.005)
            statuses = [reply.status_code for reply in await asyncio.gather(*map_(post, 100))]
            before = memory()
            for _ in range(5):
                statuses += [r.status_code for r in await asyncio.gather(*map_(post, 100))]
            grown = memory() - before
            (folder / "open").touch()
            statuses += [reply.status_code for reply in await asyncio.gather(*taken)]
        return statuses, grown

    def map_(function: Callable[[], Any], times: int) -> list[Any]:
        return [function() for _ in range(times)]

    statuses, grown = asyncio.run(flood())
    assert statuses == [429] * 600 + [200] * 9
    # What five hundred bodies of 200 kB would take is a hundred megabytes.
    assert grown < 30 << 20
    assert server.stop()[0] == 0


# --- the examples ---------------------------------------------------------------------------------


def test_the_examples_of_the_documentation_run(serve: Start) -> None:
    page = (HERE.parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    server = serve()
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL)
    commands = [text for kind, text in blocks if kind == "sh" and text.startswith("curl")]
    (program,) = (text for kind, text in blocks if kind == "python")
    assert len(commands) == 2
    for command in commands:
        body = re.search(r"-d '(.*)'", command, re.DOTALL)
        assert body is not None
        reply = server.post(json.loads(body[1]))
        assert reply.status_code == 200
        if curl := shutil.which("curl"):
            here = command.replace("http://127.0.0.1:8000", server.url).replace("curl", curl, 1)
            done = subprocess.run(here, shell=True, capture_output=True, text=True, check=True)
            assert json.loads(done.stdout) == reply.json()
    program = program.replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["first", "second"]


# --- judges that ask a model ----------------------------------------------------------------------


class Model(ThreadingHTTPServer):
    """A model that votes for the response with more words, and refuses whom it is told to."""

    daemon_threads = True

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][-1]["content"]
            if "refuse me" in text:
                self.send_error(400)
                return
            a, b = (
                len(part.split())
                for part in re.findall(r"response [AB], turn 1 ===\n(.*?)\n=== ", text, re.DOTALL)
            )
            vote = "AB" if a == b else "A" if a > b else "B"
            reply = json.dumps(dict.fromkeys(CRITERIA, vote))
            message = {"role": "assistant", "content": reply}
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            said = {"choices": [{"finish_reason": "stop", "message": message}], "usage": usage}
            sent = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:
            pass


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a model."""
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = Model(("127.0.0.1", 0), Model.Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_judge_that_asks_a_model_is_served_too(
    serve: Start, run: Run, folder: Path, model: str
) -> None:
    battles = [
        {"prompt": "p", "response_a": "one two", "response_b": "one"},
        {"prompt": "refuse me", "response_a": "one", "response_b": "two"},
        {"prompt": "q", "response_a": "one", "response_b": "one two three"},
        {"prompt": "r", "response_a": "one", "response_b": "two"},
    ]
    (folder / "battles.jsonl").write_text("".join(json.dumps(b) + "\n" for b in battles))
    options = ["--judge", "endpoint:m", "--base-url", model, "--no-cache"]
    assert run("score", "battles.jsonl", "-o", "predictions.csv", *options).exit_code == 3
    expected = read_predictions(folder / "predictions.csv").iloc[:, 1:]

    server = serve(*options)
    with asking(server, *battles) as singles:
        together = server.post({"battles": battles, "ballots": True}).json()["judgments"]
    found = pd.DataFrame(together)[list(expected.columns)].astype(float)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    replies = [reply.json() for reply in singles if isinstance(reply, httpx.Response)]
    assert len(replies) == len(battles)
    alone = [one["winner_model_a"] for reply in replies for one in reply["judgments"]]
    assert sorted(alone, key=str) == sorted((one["winner_model_a"] for one in together), key=str)

    refused = together[1]
    assert refused["winner_tie"] is None
    assert "400" in refused["reason"]
    assert [ballot["order"] for ballot in together[0]["ballots"]] == ["AB", "BA"]
    assert together[0]["ballots"][1]["votes"]["clarity"]["vote"] == "A"
    code, said = server.stop()
    assert (code, server.summary["unjudged"]) == (0, 2)
    assert re.search(r"endpoint:m: \d+ calls", said)
    assert KEY not in said


# --- connections ----------------------------------------------------------------------------------


def test_a_body_that_is_too_long_gets_its_reply_on_a_real_connection(serve: Start) -> None:
    server = serve("--max-body", "0.1")
    body = b" " * (5 << 20)
    headers = {"Content-Type": "application/json"}
    with server.client(headers=headers) as client:
        declared = client.post("/v1/judge", content=body)
        assert client.post("/v1/judge", json=question(1)).status_code == 200
        somewhat = client.post("/v1/judge", content=iter([body[: 1 << 16]] * 3))
        assert client.post("/v1/judge", json=question(1)).status_code == 200
    for reply in (declared, somewhat):
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")
    assert server.stop()[0] == 0


def test_who_hangs_up_is_not_judged(serve: Start, gated: Callable[..., str], folder: Path) -> None:
    server = serve("--judge", gated())
    host, port = server.url.removeprefix("http://").split(":")

    def hang_up_after(body: bytes, length: int) -> Callable[[], None]:
        connection = socket.create_connection((host, int(port)))
        head = f"POST /v1/judge HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
        return connection.close

    with server.client() as client, asking(server, question(1)) as replies:

        def waiting() -> int:
            return int(client.get("/healthz").json()["waiting"])

        def hung_up() -> bool:
            return 'requests_total{status="499"} 2.0' in client.get("/metrics").text

        until((folder / "judging").exists)
        hang_up_after(b"{", 100)()
        whole = json.dumps(question(2)).encode()
        leave = hang_up_after(whole, len(whole))
        until(lambda: waiting() == 1)
        leave()
        until(lambda: waiting() == 0)
        until(hung_up)
        (folder / "open").touch()
    assert len(replies) == 1
    assert server.stop()[0] == 0
    assert server.summary["battles"] == 1


def test_it_does_not_wait_for_the_rest_of_a_request(serve: Start) -> None:
    server = serve()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        head = f"POST /v1/judge HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n".encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100")  # it is being read
        server.process.send_signal(signal.SIGTERM)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 503")
    code, said = server.wait()
    assert code == 0
    assert server.summary["by_status"] == {"503": 1}
    assert "Traceback" not in said


def test_what_is_no_http_does_no_harm(serve: Start) -> None:
    server = serve()
    host, port = server.url.removeprefix("http://").split(":")
    for sent in (b"\x16\x03\x01\x02\x00" * 50, b"GET\r\n\r\n", b"POST /v1/judge HTTP/9.9\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(sent)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 4")
    assert server.post(question(1)).status_code == 200
    code, said = server.stop()
    assert code == 0
    assert "Traceback" not in said


# --- who may ask ----------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_and_is_nowhere_else(serve: Start) -> None:
    server = serve("--bearer-env", "THE_KEY", THE_KEY=KEY)
    assert server.post(question(1)).status_code == 401
    wrong = server.post(question(1), Authorization="Bearer wrong")
    right = server.post(question(1), Authorization=f"Bearer {KEY}")
    assert (wrong.status_code, right.status_code) == (401, 200)
    _, said = server.stop()
    assert KEY not in said + json.dumps(server.said) + json.dumps(server.summary)
    assert KEY not in wrong.text + right.text


@pytest.mark.parametrize(
    ("value", "said"), [("", "has no key"), (" ", "has no key"), ("ключ", "ASCII")]
)
def test_a_key_that_cannot_be_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("THE_KEY", value)
    result = run("serve", "--bearer-env", "THE_KEY")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_it_is_for_this_machine_unless_told_and_warns_when_it_is_not(serve: Start) -> None:
    server = serve("--host", "0.0.0.0")
    _, said = server.stop()
    assert "warning" in said.splitlines()[0]
    assert "--bearer-env" in said
    server = serve("--host", "0.0.0.0", "--bearer-env", "THE_KEY", THE_KEY=KEY)
    assert "warning" not in server.stop()[1]


# --- what cannot be -------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 2
    assert "cannot listen at 127.0.0.1" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
        (["--host", "a" * 70 + ".b"], "cannot listen"),
        (["--judge", "nobody"], "no such judge"),
        (["--queue", "4"], "raise --queue or lower --max-battles"),
        (["--dry-run"], "--dry-run"),
        (["--samples", "2"], "--samples is for judges that ask a model"),
        (["--port", "70000"], "--port"),
    ],
)
def test_options_that_cannot_be_are_one_line(run: Run, arguments: list[str], said: str) -> None:
    result = run("serve", "--port", "0", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_package_that_is_missing_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("judge.service")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = run("serve", "--port", "0")
    assert result.exit_code == 2
    assert f"serving needs {package}" in result.stderr
    assert "pip install 'arena-judge[serve]'" in result.stderr
    assert result.stderr.count("\n") == 1
