"""What annotating 20,000 battles costs the client, beside the bare endpoint engine.

    python -m scripts.bench.synth [--battles 20000] [--latency 0.4] [--flight 256] [--kills 5]
        [--rounds 2] [--json]

A server of this script's own, in a process of its own, answers every call with an annotation
(reasons, votes and a verdict, 1,100 characters) after the latency. The same calls are made

- by the endpoint engine alone, from requests that were made before, with a ledger;
- by `arena-judge synth run`: plan read, prompts rendered, replies read, records written;

each into a ledger of its own, turn about, the better of so many rounds. Then `synth run` is killed
with SIGKILL as often as asked, at even distances, and started again each time; the server's count
of replies says what was paid for twice. Resident memory is the peak of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from judge.ballots import CRITERIA
from scripts.bench.process import COMMAND, arena_judge
from scripts.bench.report import setting, table

ROOT = Path(__file__).parents[2]
REASON = "Response A names the cause and the mend, where B only says that there is a fault. " * 2
CONTENT = json.dumps(
    {**{name: {"reason": REASON.strip(), "vote": "A"} for name in CRITERIA}, "verdict": "A"}
)
REPLY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": CONTENT},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1500, "completion_tokens": 260, "total_tokens": 1760},
    }
).encode()
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REPLY)
) + REPLY


class Mock(asyncio.Protocol):
    """Answers as soon as the latency allows, and tells how many replies have left."""

    latency = 0.0
    answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.pending = b""

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while (end := self.pending.find(b"\r\n\r\n")) >= 0:
            head = self.pending[:end].lower()
            if head.startswith(b"get"):
                self.pending = self.pending[end + 4 :]
                told = str(Mock.answered).encode()
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told
                )
                continue
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.pending) < end + 4 + length:
                return
            self.pending = self.pending[end + 4 + length :]
            asyncio.get_running_loop().call_later(self.latency, self.reply)

    def reply(self) -> None:
        if not self.transport.is_closing():
            Mock.answered += 1
            self.transport.write(ANSWER)


async def serve(latency: float) -> None:
    Mock.latency = latency
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Mock, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def server(latency: float) -> Iterator[str]:
    """The server's address."""
    command = [sys.executable, "-m", "scripts.bench.synth", "--serve", str(latency)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def answered(url: str) -> int:
    """How many replies have left the server."""
    from urllib.request import urlopen

    with urlopen(f"{url}/count") as response:
        return int(response.read())


def make_plan(folder: Path, battles: int) -> None:
    """A plan of made-up battles about as long as those of an arena."""
    import pandas as pd

    from judge.files.folders import written_folder
    from synth.plans import written_plan

    draw = random.Random(0)
    words = (
        "the answer",
        "of",
        "a",
        "to be",
        "which",
        "is not",
        "for",
        "it",
        "in order",
        "that some",
    )
    with written_folder(folder) as draft, written_plan(draft) as plan:
        for start in range(0, battles, 250):
            ids = range(start, min(start + 250, battles))
            text = [" ".join(draw.choices(words, k=200)) for _ in range(2 * len(ids))]
            plan.append(
                pd.DataFrame(
                    {
                        "id": [str(n) for n in ids],
                        "prompt": [(f"Question {n}: " + text[0][:200],) for n in ids],
                        "response_a": [(text[2 * n],) for n in range(len(ids))],
                        "response_b": [(text[2 * n + 1],) for n in range(len(ids))],
                    }
                )
            )
        plan.settings = {"size": battles, "seed": 0}


def bare(url: str, plan: Path, ledger: Path, flight: int) -> dict[str, float]:
    """The engine alone, with requests that are there already; in this process."""
    from judge.engines.endpoint import EndpointEngine
    from judge.engines.ledger import Ledger
    from judge.engines.settings import EndpointSettings
    from judge.judges.asking import Asking
    from judge.judges.prompted import PromptedJudge
    from judge.prompt_files import load_prompt
    from synth.plans import read_plan

    settings = EndpointSettings(base_urls=(f"{url}/v1",), concurrency=flight)
    with Ledger(ledger) as kept, EndpointEngine(settings, ledger=kept) as engine:
        judge = PromptedJudge(engine, load_prompt("annotated"), Asking("mock", top_logprobs=10))
        requests = [r for battles in read_plan(plan).tables() for r in judge.requests(battles)]
        started = time.perf_counter()
        done = sum(reply.error is None for _, reply in engine.answer(requests))
        seconds = time.perf_counter() - started
    return {"calls": done, "seconds": seconds}


def run_arguments(url: str, plan: Path, output: Path, ledger: Path, flight: int) -> list[str]:
    return [
        *("synth", "run", str(plan), "-o", str(output), "--annotator", "endpoint:mock"),
        *("--base-url", f"{url}/v1", "--ledger", str(ledger), "--concurrency", str(flight)),
    ]


def kept(ledger: Path) -> int:
    """Replies in a ledger."""
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(ledger)) as database:
        return int(database.execute("SELECT count(*) FROM replies").fetchone()[0])


def killed(folder: Path, latency: float, flight: int, battles: int, kills: int) -> dict[str, int]:
    """`synth run`, killed and started again; what was asked and what is there at the end."""
    ledger, output = folder / "killed.sqlite", folder / "killed"
    with server(latency) as url:
        command = [str(COMMAND), *run_arguments(url, folder / "plan", output, ledger, flight)]
        lost = 0
        for kill in range(kills):
            mark = 2 * battles * (kill + 1) // (kills + 1)
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while process.poll() is None and answered(url) < mark:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            lost = answered(url) - kept(ledger)
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        calls = answered(url)
    import pyarrow.parquet as pq

    votes = pq.read_table(output / "annotations.parquet", columns=["verdict"])
    return {
        "kills": kills,
        "calls answered": calls,
        "records": votes.num_rows,
        "records without a verdict": votes["verdict"].null_count,
        "in the ledger": kept(ledger),
        "answered to a process that was killed": lost,
        "paid for twice": calls - kept(ledger) - lost,
    }


def measured(folder: Path, setup: dict[str, Any]) -> list[dict[str, Any]]:
    """Both, turn about; the better of the rounds."""
    best: dict[str, dict[str, float]] = {}
    for number in range(setup["rounds"]):
        with server(setup["latency"]) as url:
            for what in ("engine", "synth run") if number % 2 == 0 else ("synth run", "engine"):
                ledger = folder / f"{what}-{number}.sqlite"
                if what == "engine":
                    code = [sys.executable, "-m", "scripts.bench.synth", "--bare", url]
                    code += [str(folder / "plan"), str(ledger), str(setup["flight"])]
                    told = subprocess.run(
                        code, cwd=ROOT, capture_output=True, text=True, check=True
                    ).stdout
                    seconds, peak = json.loads(told)["seconds"], 0
                else:
                    output = folder / f"data-{number}"
                    ran = arena_judge(
                        *run_arguments(url, folder / "plan", output, ledger, setup["flight"])
                    )
                    seconds, peak = ran.seconds, ran.peak
                    shutil.rmtree(output)
                ledger.unlink()
                if what not in best or seconds < best[what]["seconds"]:
                    best[what] = {"seconds": seconds, "peak": peak}
    return [{"what": what, **found} for what, found in best.items()]


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--serve"]:
        asyncio.run(serve(float(arguments[1])))
        return
    if arguments[:1] == ["--bare"]:
        url, plan, ledger, flight = arguments[1:]
        print(json.dumps(bare(url, Path(plan), Path(ledger), int(flight))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--battles", type=int, default=20_000)
    parser.add_argument("--latency", type=float, default=0.4, help="seconds a call takes")
    parser.add_argument("--flight", type=int, default=256, help="calls at once")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        os.environ.pop(name, None)
    setup = {key: getattr(chosen, key) for key in ("battles", "latency", "flight", "rounds")}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_plan(folder / "plan", chosen.battles)
        found = measured(folder, setup)
        faults = (
            killed(folder, chosen.latency, chosen.flight, chosen.battles, chosen.kills)
            if chosen.kills
            else {}
        )
    engine = next(one for one in found if one["what"] == "engine")
    if chosen.json:
        print(
            json.dumps(
                {
                    "setting": setting("scripts.bench.synth"),
                    **setup,
                    "runs": found,
                    "killed": faults,
                }
            )
        )
        return
    print(setting("scripts.bench.synth"), "\n")
    rows = [
        [
            one["what"],
            f"{one['seconds']:.1f}",
            f"{2 * chosen.battles / one['seconds']:,.0f}",
            f"{one['seconds'] / engine['seconds']:.2f}",
            f"{one['peak'] / 2**20:.0f}" if one["peak"] else "",
        ]
        for one in found
    ]
    print(table(["", "seconds", "calls/s", "ratio", "peak MiB"], rows))
    if faults:
        print()
        print(table(["killed and started again", ""], [[k, f"{v:,}"] for k, v in faults.items()]))


if __name__ == "__main__":
    main()
