"""Battles, a stand-in judge, and ways to run the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from click.testing import CliRunner, Result

if TYPE_CHECKING:
    from tests.judge.cli.server import Server

HERE = Path(__file__).parent

Run = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which the command runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def length_judge(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes a folder for a judge of the stand-in kind, with the settings given."""
    monkeypatch.syspath_prepend(str(HERE))
    from judge.judges import KINDS

    monkeypatch.setitem(KINDS, "length", "length_judge:LengthJudge")

    def make(name: str = "length", **settings: object) -> str:
        (folder / f"{name}.judge").mkdir()
        text = json.dumps({"kind": "length", "name": name, **settings})  # JSON is YAML
        (folder / f"{name}.judge" / "judge.yaml").write_text(text)
        return f"{name}.judge"

    return make


@pytest.fixture
def run(folder: Path) -> Run:
    """`arena-judge` in this process, without a terminal."""
    from judge.cli.main import cli

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, prog_name="arena-judge")

    return invoke


@pytest.fixture
def start(folder: Path) -> Start:
    """`arena-judge`, with the stand-in kind of judge, as a process of its own."""

    def popen(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
        pipes: dict[str, object] = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "cwd": folder,
        } | options
        program = [sys.executable, str(HERE / "length_judge.py"), *arguments]
        environment = os.environ | {"PYTHONPATH": str(HERE.parents[2])}
        # A job in the background is started deaf to SIGINT, and so would be all it starts.
        pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(program, env=environment, **pipes)  # type: ignore[call-overload,no-any-return]

    return popen


def battles(
    count: int = 6,
    *,
    labels: bool = True,
    prompts: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Battles in Kaggle's shape: the longer answer wins most of the time."""
    rows = []
    for n in range(count):
        row: dict[str, object] = {
            "id": ids[n] if ids else str(100 + n),
            "model_a": "one",
            "model_b": "two",
            "prompt": json.dumps([prompts[n] if prompts else f"question {n}"]),
            "response_a": json.dumps(["yes " * (1 + n % 4)]),
            "response_b": json.dumps(["no " * (1 + n % 3)]),
        }
        if labels:
            winner = (n % 4 > n % 3, n % 4 < n % 3, n % 4 == n % 3)
            names = ("winner_model_a", "winner_model_b", "winner_tie")
            row |= {name: int(won) for name, won in zip(names, winner, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture
def battle_file(folder: Path) -> Callable[..., str]:
    """Writes battles to a file and gives its name."""

    def write(name: str = "battles.csv", **options: object) -> str:
        frame = battles(**options)  # type: ignore[arg-type]
        if name.endswith(".parquet"):
            frame.to_parquet(folder / name, index=False)
        else:
            frame.to_csv(folder / name, index=False)
        return name

    return write


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends those that a test leaves."""
    from tests.judge.cli.server import Server

    started: list[Server] = []

    def start(*arguments: str, **environment: str) -> Server:
        started.append(Server(folder, *arguments, **environment))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
