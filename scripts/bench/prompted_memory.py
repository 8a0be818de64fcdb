"""How much memory a prompted judge takes for a file of a hundred thousand battles, and how long.

    python -m scripts.bench.prompted_memory [--data FOLDER] [--battles 100000] [-- OPTIONS]

A server of this script's own, in a process of its own, answers at once with one ballot of a
hundred, log-probabilities included; one in fifty cannot be read and is asked for again. Battles are
short ones and, where FOLDER has them, such as people had: prompts and responses drawn anew and
numbered. Every battle is asked about in both orders, ballots are written, and every reply goes into
a ledger. Prints a Markdown table.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from judge.ballots import CRITERIA, VOTES
from scripts.bench import endpoint
from scripts.bench.memory import blocks, write
from scripts.bench.process import arena_judge
from scripts.bench.report import options, setting, table
from scripts.statistical_data import SAMPLE

ROOT = Path(__file__).parents[2]
_BLOCK = 10_000


class Voter(endpoint.Mock):
    """Answers with ballots, one after the other."""

    answers: Iterator[bytes]

    def reply(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(next(self.answers))


def ballots(count: int) -> list[bytes]:
    """Whole HTTP answers, each with a ballot of its own; one in fifty without."""
    draws, made = random.Random(0), []
    for number in range(count):
        tokens = _tokens(draws) if number % 50 else [{"token": "Neither.", "logprob": -0.1}]
        text = "".join(str(token["token"]) for token in tokens)
        message = {"role": "assistant", "content": text}
        choice = {"message": message, "finish_reason": "stop", "logprobs": {"content": tokens}}
        usage = {"prompt_tokens": 700, "completion_tokens": len(tokens)}
        body = json.dumps({"choices": [choice], "usage": usage}).encode()
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
        made.append(head.format(len(body)).encode() + body)
    return made


def _tokens(draws: random.Random) -> list[dict[str, object]]:
    tokens: list[dict[str, object]] = []
    for number, criterion in enumerate(CRITERIA):
        name = f'{", " if number else "{"}"{criterion}": "'
        chances = [draws.random() ** 2 for _ in VOTES]
        top = [
            {"token": vote, "logprob": math.log(chance / sum(chances))}
            for chance, vote in sorted(zip(chances, VOTES, strict=True), reverse=True)
        ]
        tokens.append({"token": name, "logprob": 0.0, "top_logprobs": []})
        tokens.append({**top[0], "top_logprobs": top})
        tokens.append({"token": '"', "logprob": 0.0, "top_logprobs": []})
    return [*tokens, {"token": "}", "logprob": 0.0, "top_logprobs": []}]


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Voter, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def server(latency: float) -> Iterator[str]:
    """The address of a server, which ends with the block."""
    command = [sys.executable, "-m", "scripts.bench.prompted_memory", "--serve", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def short(battles: int) -> Iterator[dict[str, list[str]]]:
    """Battles of a few words."""
    for start in range(0, battles, _BLOCK):
        names = [str(number) for number in range(start, min(start + _BLOCK, battles))]
        texts = {
            "prompt": [json.dumps([f"question {name}"]) for name in names],
            "response_a": [json.dumps([f"an answer to {name}"]) for name in names],
            "response_b": [json.dumps([f"another answer, to {name}"]) for name in names],
        }
        yield {"id": names, **texts}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--battles", type=int, default=100_000, help="(default: 100000)")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds (default: 0.02)")
    parser.add_argument("--serve", type=float, metavar="LATENCY", help="be the server")
    parser.add_argument("options", nargs="*", help="further options of arena-judge, after --")
    given = parser.parse_args()
    if given.serve is not None:
        Voter.latency, Voter.answers = given.serve, cycle(ballots(100))
        asyncio.run(serve())
        return
    os.environ["NO_PROXY"] = "127.0.0.1"
    kinds = {"short": short(given.battles)}
    if (given.data / SAMPLE).exists():
        kinds["real"] = blocks(given.data / SAMPLE, given.battles, given.seed)
    rows = []
    for name, made in kinds.items():
        with TemporaryDirectory() as folder, server(given.latency) as url:
            place = Path(folder)
            write(place / "battles.csv", made)
            size = (place / "battles.csv").stat().st_size / 2**20
            asked = ["--judge", "endpoint:m", "--base-url", url, *given.options]
            kept = ["--ledger", str(place / "ledger.sqlite")]
            out = ["-o", str(place / "out.csv"), "--ballots", str(place / "votes.parquet")]
            run = arena_judge("score", str(place / "battles.csv"), *asked, *kept, *out)
        rate = f"{given.battles / run.seconds:,.0f}"
        peak = f"{run.peak / 2**20:,.0f} MiB"
        rows.append(
            [name, f"{given.battles:,}", f"{size:,.0f} MiB", f"{run.seconds:,.0f} s", rate, peak]
        )
    print(setting("scripts.bench.prompted_memory"), end="\n\n")
    print(table(["battles", "number", "size", "time", "battles/s", "peak memory"], rows))


if __name__ == "__main__":
    main()
