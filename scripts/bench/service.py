"""How fast `arena-judge serve` answers, beside a FastAPI application that echoes.

    python -m scripts.bench.service [--data FOLDER] [--seconds 10] [--clients 64]

Both servers are processes of their own; this one asks. The two take turns, several rounds, and the
median round counts. Each client asks again as soon as it has its reply, with the next of the
battles. Every reply is held against the probabilities that the judge gives in this process: the
same ids, in the same order, the same numbers to the last digit. At last comes a flood: more clients
than the queue has room for, and what the server's memory does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import aiohttp
import numpy as np
import pandas as pd

from judge import load_judge, read_battles
from scripts.bench.process import COMMAND
from scripts.bench.report import options, setting, table

SAMPLE = "arena_dev.csv"
MANY = 32
_ECHO = """
import socket, uvicorn
from fastapi import FastAPI, Request, Response
app = FastAPI()
@app.post("/v1/judge")
async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/json")
listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen(2048)
print("http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
config = uvicorn.Config(app, log_level="warning", access_log=False)
uvicorn.Server(config).run([listening])
"""


@dataclass(frozen=True)
class Question:
    """A request's body, and the (N, 3) probabilities that its battles have."""

    body: bytes
    ids: list[str]
    proba: list[list[float]]


@dataclass
class Phase:
    """What became of the requests of a phase.

    Attributes:
        seconds: how long it was.
        cpu: seconds of processor time that the server took meanwhile.
        latencies: seconds of each answered request.
        statuses: replies by status.
        wrong: replies that are not what the judge says.
        peak: the most memory that the server held, in bytes.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    peak: int = 0


def questions(battles: pd.DataFrame, size: int) -> list[Question]:
    """Requests of `size` battles each, all battles in turn."""
    proba = load_judge().predict_proba(battles).tolist()
    rows = [
        {"id": str(at), **{name: list(texts) for name, texts in row.items()}}
        for at, row in enumerate(battles[["prompt", "response_a", "response_b"]].to_dict("records"))
    ]
    made = []
    for first in range(0, len(rows) - size + 1, size):
        some = rows[first : first + size]
        body = some[0] if size == 1 else {"battles": some}
        ids = [str(row["id"]) for row in some]
        made.append(Question(json.dumps(body).encode(), ids, proba[first : first + size]))
    return made


def right(question: Question, reply: bytes) -> bool:
    """Whether a reply speaks of these battles, and says what the judge says."""
    said = json.loads(reply)["judgments"]
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    return [one["id"] for one in said] == question.ids and question.proba == [
        [one[name] for name in names] for one in said
    ]


async def load(
    url: str, asked: Sequence[Question], clients: int, seconds: float, *, check: bool, process: int
) -> Phase:
    """So many clients ask for so many seconds."""
    phase = Phase()
    turns = itertools.cycle(range(len(asked)))
    kept: list[tuple[Question, bytes]] = []
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        end = time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < end:
                question = asked[next(turns)]
                began = time.perf_counter()
                async with session.post(
                    f"{url}/v1/judge", data=question.body, headers=headers
                ) as got:
                    reply = await got.read()
                phase.statuses[got.status] += 1
                if got.status == 200:
                    phase.latencies.append(time.perf_counter() - began)
                    kept.append((question, reply))

        with watched(process) as peak:
            began, spent = time.perf_counter(), _cpu(process)
            await asyncio.gather(*(client() for _ in range(clients)))
            phase.seconds = time.perf_counter() - began
            phase.cpu = _cpu(process) - spent
        phase.peak = peak[0]
    if check:
        phase.wrong = sum(not right(question, reply) for question, reply in kept)
    return phase


def _cpu(process: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watched(process: int) -> Iterator[list[int]]:
    """The most memory that a process holds while the block runs, in bytes, seen every 20 ms."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            peak[0] = max(peak[0], pages * 4096)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield peak
    done.set()
    thread.join()


@contextmanager
def server(arguments: Sequence[str | Path]) -> Iterator[tuple[str, int]]:
    """A server's address and its process, from the first line that it prints."""
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        line = running.stdout.readline()
        yield (json.loads(line)["url"] if line.startswith("{") else line.strip()), running.pid
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate()


def row(name: str, phase: Phase, battles: int) -> list[str]:
    """A line of the table."""
    p50, p90, p99 = (np.quantile(phase.latencies, (0.5, 0.9, 0.99)) * 1000).tolist()
    rate = len(phase.latencies) / phase.seconds
    refused = sum(count for status, count in phase.statuses.items() if status != 200)
    return [
        name,
        f"{rate:,.0f}",
        f"{rate * battles:,.0f}",
        *(f"{value:,.1f}" for value in (p50, p90, p99)),
        f"{1000 * phase.cpu / sum(phase.statuses.values()):.2f}",
        f"{refused:,}",
        f"{phase.wrong:,}",
        f"{phase.peak / 2**20:,.0f} MiB",
    ]


def middle(phases: Sequence[Phase]) -> Phase:
    """The round with the median rate, and what was wrong in any of them."""
    rates = [len(phase.latencies) / phase.seconds for phase in phases]
    found = phases[rates.index(sorted(rates)[len(rates) // 2])]
    found.wrong = sum(phase.wrong for phase in phases)
    found.peak = max(phase.peak for phase in phases)
    return found


def measure(
    battles: pd.DataFrame,
    clients: int,
    flood: int,
    seconds: float,
    rounds: int,
    more: Sequence[str],
) -> str:
    """The table of all phases."""
    one, many = questions(battles, 1), questions(battles, MANY)
    serve = [COMMAND, "serve", "--port", "0", "--json", *more]
    found: dict[str, list[Phase]] = {}
    with server(serve) as ours, server([sys.executable, "-c", _ECHO]) as echo:

        def ask(
            name: str, where: tuple[str, int], what: Sequence[Question], who: int, last: float
        ) -> None:
            url, process = where
            phase = asyncio.run(load(url, what, who, last, check=where is ours, process=process))
            found.setdefault(name, []).append(phase)

        for where in (ours, echo):
            asyncio.run(load(where[0], one, clients, 1.0, check=False, process=where[1]))
        for _ in range(rounds):
            ask(f"one battle, {clients} clients", ours, one, clients, seconds)
            ask(f"one battle, {clients} clients, echo", echo, one, clients, seconds)
            ask("one battle, 1 client", ours, one, 1, seconds / 3)
            ask("one battle, 1 client, echo", echo, one, 1, seconds / 3)
            ask(f"{MANY} battles, {clients} clients", ours, many, clients, seconds)
            ask(f"{MANY} battles, {clients} clients, echo", echo, many, clients, seconds)
        ask(f"flood: {MANY} battles, {flood} clients", ours, many, flood, seconds)
        ask(f"after it: one battle, {clients} clients", ours, one, clients, seconds)
    head = ["asked", "requests/s", "battles/s", "p50 ms", "p90 ms", "p99 ms"]
    head += ["CPU ms/reply", "refused", "wrong", "peak memory"]
    rows = [
        row(name, middle(phases), MANY if name.startswith((str(MANY), "flood")) else 1)
        for name, phases in found.items()
    ]
    return table(head, rows) + "\n\n" + _said(found, clients)


def _said(found: dict[str, list[Phase]], clients: int) -> str:
    """How much of the echo's rate is left, and what the flood got."""
    lines = []
    for name in (f"one battle, {clients} clients", f"{MANY} battles, {clients} clients"):
        pairs = zip(found[name], found[f"{name}, echo"], strict=True)
        shares = [
            (len(ours.latencies) / ours.seconds) / (len(echo.latencies) / echo.seconds)
            for ours, echo in pairs
        ]
        lines.append(f"- {name}: {median(shares):.2f} of the echo's rate")
    flood = next(phases[0] for name, phases in found.items() if name.startswith("flood"))
    lines.append(f"- flood, replies by status: {dict(sorted(flood.statuses.items()))}")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="a phase (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="of each phase (default: 3)")
    parser.add_argument("--clients", type=int, default=64, help="at once (default: 64)")
    parser.add_argument("--flood", type=int, default=400, help="clients of the flood")
    parser.add_argument("more", nargs="*", help="further options of serve, after --")
    given = parser.parse_args()
    battles = read_battles(given.data / SAMPLE, labels=False)
    print(setting("scripts.bench.service"), end="\n\n", flush=True)
    print(measure(battles, given.clients, given.flood, given.seconds, given.rounds, given.more))


if __name__ == "__main__":
    main()
