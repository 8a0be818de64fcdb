"""`arena-judge serve` as a process, and ways to ask it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
PATIENCE = 120


class Server:
    """`arena-judge serve` on a free port; the gated judge is known to it."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        command = [sys.executable, str(HERE / "gated_judge.py"), "serve", "--port", "0", "--json"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(HERE.parents[2])} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A job in the background is started deaf to SIGINT, and so would be all it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.said = json.loads(line) if line else {}
        self.url = str(self.said.get("url", ""))
        self.summary: dict[str, Any] = {}

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, **more)

    def post(self, body: object, **headers: str) -> httpx.Response:
        with self.client() as client:
            return client.post("/v1/judge", json=body, headers=headers)

    def wait(self) -> tuple[int, str]:
        """The exit code and what was said to people, once it has ended."""
        out, err = self.process.communicate(timeout=PATIENCE)
        self.summary = json.loads(out) if out.strip() else {}
        return self.process.returncode, err

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.wait()


Start = Callable[..., Server]


def until(fact: Callable[[], object]) -> None:
    """Waits for what is bound to happen."""
    end = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@contextmanager
def asking(server: Server, *bodies: object) -> Iterator[list[httpx.Response | Exception]]:
    """Asks in threads while the block runs; gives the replies, in any order, once it is left."""
    replies: list[httpx.Response | Exception] = []

    def ask(body: object) -> None:
        try:
            replies.append(server.post(body))
        except httpx.HTTPError as error:
            replies.append(error)

    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    yield replies
    for thread in threads:
        thread.join(PATIENCE)


def question(number: int) -> dict[str, str]:
    return {"prompt": f"question {number}", "response_a": "yes", "response_b": "no"}
