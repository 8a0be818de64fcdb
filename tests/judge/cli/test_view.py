"""`arena-judge view`: what it reads, refuses and says, and how it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from judge.ballot_files import write_ballots
from judge.ballots import ballot_table
from judge.files.atomic import check_writable

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("nh3")

Run = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def files(folder: Path, battle_file: Callable[..., str], run: Run) -> Path:
    """battles.csv, and p.csv with what the statistical judge says of them."""
    battle_file()
    assert run("score", "battles.csv", "-o", "p.csv").exit_code == 0
    return folder


@pytest.fixture
def running(start: Start) -> Iterator[Callable[..., Any]]:
    """Starts the command and gives the process and its page's address."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> tuple[subprocess.Popen[bytes], str]:
        process = start("view", "--no-browser", *arguments)
        started.append(process)
        assert process.stdout
        line = process.stdout.readline().decode().strip()
        assert line, process.communicate()[1].decode()
        return process, line

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ask(address: str, path: str, body: object = None) -> Any:
    base, _, token = address.partition("/#token=")
    headers = {"X-Arena-Judge-Token": token, "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    return lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_takes_a_label_and_ends_with_a_summary(
    files: Path, running: Callable[..., Any], end: signal.Signals
) -> None:
    process, address = running("p.csv", "battles.csv")
    assert address.startswith("http://127.0.0.1:")
    assert ask(address, "/api/about")["judges"] == ["p"]
    assert ask(address, "/api/battles/0/label", {"label": "a"})["count"] == 1
    process.send_signal(end)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == b""
    assert b"Traceback" not in err
    assert "saved 1 time, my-labels.csv has 1 label" in err.decode()
    assert (files / "my-labels.csv").read_text().splitlines()[1].startswith("100,1,0,0,")


@pytest.mark.slow
def test_every_label_that_was_answered_outlives_a_kill(
    files: Path, running: Callable[..., Any]
) -> None:
    process, address = running("p.csv", "battles.csv", "--labels", "mine.csv")
    for row, label in enumerate(("a", "b", "tie", "a")):
        ask(address, f"/api/battles/{row}/label", {"label": label})
    process.kill()
    process.communicate(timeout=60)
    rows = (files / "mine.csv").read_text().splitlines()[1:]
    assert [row[:9] for row in rows] == ["100,1,0,0", "101,0,1,0", "102,0,0,1", "103,1,0,0"]
    process, address = running("p.csv", "battles.csv", "--labels", "mine.csv", "--json")
    assert ask(json.loads(address)["url"], "/api/about")["mine"] == 4
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out) == {"given": 0, "labels": 4, "file": "mine.csv"}


@pytest.mark.slow
def test_several_files_ballots_and_other_formats(
    files: Path, running: Callable[..., Any], battle_file: Callable[..., str]
) -> None:
    battle_file("battles.parquet")
    votes = [np.eye(4)[[0, 1, 2, 3, 0]]]
    write_ballots("votes.parquet", ballot_table(["100"], "gpt", votes))
    process, address = running(
        "first=p.csv", "second=p.csv", "battles.parquet", "--ballots", "votes.parquet"
    )
    assert ask(address, "/api/about")["judges"] == ["first", "second"]
    battle = ask(address, "/api/battles/0")
    assert battle["votes"][0]["judge"] == "gpt"
    assert len(battle["judges"]) == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(files: Path, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("view", "p.csv", "battles.csv", "--no-browser", "--port", port)
    assert f"port {port} is taken" in refused(result)


def test_battles_come_last(files: Path, run: Run) -> None:
    assert "the battles come last" in refused(run("view", "battles.csv", "p.csv", "--no-browser"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("p.csv", "none.csv"), "none.csv: there is no such file"),
        (("none.csv", "battles.csv"), "none.csv: there is no such file"),
        (("p.csv", "p.csv", "battles.csv"), "two files of predictions are called 'p'"),
        (("p.csv", "battles.csv", "--labels", "p.csv"), "read by this very command"),
        (("p.csv", "battles.csv", "--labels", "battles.csv"), "read by this very command"),
        (("p.csv", "battles.csv", "--labels", "q.csv"), "0 or 1"),
        (("p.csv", "battles.csv", "--labels", "x.parquet"), "name it .csv"),
        (("p.csv", "battles.csv", "--labels", "none/x.csv"), "its folder is not there"),
        (("p.csv", "battles.csv", "--ballots", "p.csv"), "judge"),
        (("p.csv", "battles.csv", "--ballots", "other.csv"), "none of its ids"),
        (("p.csv", "battles.csv", "--host", "192.0.2.1"), "cannot be listened on"),
    ],
)
def test_what_cannot_be_is_one_line(
    files: Path, run: Run, arguments: tuple[str, ...], said: str
) -> None:
    (files / "q.csv").write_bytes((files / "p.csv").read_bytes())
    write_ballots("other.csv", ballot_table(["none"], "gpt", [np.eye(4)[[0, 1, 2, 3, 0]]]))
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    assert said in refused(run("view", *arguments, "--no-browser"))
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_a_labels_file_that_is_something_else_is_left_alone(files: Path, run: Run) -> None:
    (files / "notes.csv").write_text("milk,eggs\n1,2\n")
    result = run("view", "p.csv", "battles.csv", "--no-browser", "--labels", "notes.csv")
    assert "is there already and is no earlier result" in refused(result)
    assert (files / "notes.csv").read_text() == "milk,eggs\n1,2\n"


def test_a_missing_package_is_one_line_that_says_what_to_install(
    files: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    without = lambda name, *more: None if name == "nh3" else found(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    said = refused(run("view", "p.csv", "battles.csv"))
    assert "view needs nh3" in said
    assert "pip install 'arena-judge[serve]'" in said


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write to")
def test_labels_that_could_not_be_kept_are_not_asked_for(files: Path, run: Run) -> None:
    name = "/proc/my-labels.csv"
    result = run("view", "p.csv", "battles.csv", "--labels", name, "--no-browser")
    assert result.exit_code == 2
    assert f"{name}: cannot be written" in result.stderr
    before = sorted(files.iterdir())
    check_writable("my-labels.csv")
    assert sorted(files.iterdir()) == before


@pytest.mark.slow
def test_compare_reads_the_labels(files: Path, running: Callable[..., Any], run: Run) -> None:
    process, address = running("p.csv", "battles.csv")
    for row, label in enumerate(("a", "b", "tie")):
        ask(address, f"/api/battles/{row}/label", {"label": label})
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    labelled = ("compare", "battles.csv", "p.csv", "--labels", "my-labels.csv", "--json")
    alone = run(*labelled, "--labels-only")
    assert alone.exit_code == 0, alone.output
    assert json.loads(alone.stdout)["battles"] == 3
    assert run(*labelled).exit_code == 0


def test_it_opens_no_browser_where_one_would_take_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from judge.view import serving

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert serving.can_show() is False
    monkeypatch.setitem(os.environ, "DISPLAY", ":0")
    assert serving.can_show() is True
    assert opened == []
