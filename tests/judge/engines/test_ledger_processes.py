"""Programs that share a ledger, and programs that are killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from judge.engines.ledger import Ledger

ASKING = str(Path(__file__).with_name("asking.py"))
ROOT = Path(__file__).parents[3]


def hear_interrupts() -> None:
    """A job in the background is started deaf to SIGINT, and so would be all it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def program(url: str, ledger: Path, first: int, last: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, ASKING, url, str(ledger), str(first), str(last)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=hear_interrupts,
    )


def test_a_run_that_is_killed_goes_on_where_it_stopped(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    async def script(call: Any) -> Any:
        await asyncio.sleep(0.005)
        if call.tries == 0 and call.number % 9 == 4:
            return call.refuse(500, "oh")
        return call.say()

    server = serve(script)
    ledger = tmp_path / "ledger"
    had: list[str] = []
    for kill_after in (1, 40, 110):
        run = program(server.url, ledger, 0, 400)
        assert run.stdout is not None
        had += [run.stdout.readline().split("\t")[0] for _ in range(kill_after)]
        run.send_signal(signal.SIGKILL)
        rest, _ = run.communicate()
        # What was printed before the kill took effect was had as well.
        had += [line.split("\t")[0] for line in rest.splitlines() if line.endswith("\tNone")]
        assert set(had) <= set(server.prompts)

    asked_by_now = Counter(server.prompts)
    last = program(server.url, ledger, 0, 400)
    output, _ = last.communicate(timeout=60)
    assert sorted(line.split("\t")[1] for line in output.splitlines()) == ["None"] * 400
    again = Counter(server.prompts) - asked_by_now
    assert not set(again) & set(had)  # nothing that was had was paid for again
    with Ledger(ledger) as kept:
        assert kept.count() == 400


def test_programs_write_one_ledger_at_once(serve: Callable[..., Any], tmp_path: Path) -> None:
    server = serve()
    ledger = tmp_path / "ledger"
    runs = [program(server.url, ledger, first, first + 150) for first in (0, 100, 200)]
    for run in runs:
        output, _ = run.communicate(timeout=60)
        assert run.returncode == 0
        assert output.count("\tNone\n") == 150
    with Ledger(ledger) as kept:
        assert kept.count() == 350


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_an_interrupted_program_ends_and_keeps_its_replies(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    async def script(call: Any) -> Any:
        if call.number >= 20:
            await asyncio.sleep(600)
        return call.say()

    server = serve(script)
    run = program(server.url, tmp_path / "ledger", 0, 400)
    assert run.stdout is not None
    for _ in range(20):
        run.stdout.readline()
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode != 0
    with Ledger(tmp_path / "ledger") as kept:
        assert kept.count() == 20
