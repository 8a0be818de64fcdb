"""How fast the endpoint engine asks, beside a bare aiohttp loop, the openai package and peers.

    python -m scripts.bench.endpoint [--calls 6000] [--flights 256,512] [--latency 0.05]
        [--openjudge PYTHON] [--openevals PYTHON]

The peers py-openjudge and openevals run where a Python is named that has them, each in an
environment of its own (see `peer_clients.py`).

A server of this script's own, in a process of its own, answers every call after the latency. All
clients send the same bodies, one after the other in one run, twice round; the better figure counts,
for other work on the machine only ever takes away. At last the engine finds 20,000 replies in the
ledger again, plain ones and such as have 20 tokens with 5 log-probabilities each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from judge.engines.base import Request

REPLY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                # Peers want a score; what is said is nothing to the others.
                "message": {
                    "role": "assistant",
                    "content": '{"reasoning": "x", "reason": "x", "score": 0.5}',
                },
                "finish_reason": "stop",
                "logprobs": {
                    "content": [
                        {
                            "token": "A",
                            "logprob": -0.3,
                            "top_logprobs": [
                                {"token": "A", "logprob": -0.3},
                                {"token": "B", "logprob": -1.4},
                                {"token": "AB", "logprob": -4.1},
                                {"token": "NA", "logprob": -6.0},
                            ],
                        }
                    ]
                },
            }
        ],
        "usage": {"prompt_tokens": 700, "completion_tokens": 1, "total_tokens": 701},
    }
).encode()


class Mock(asyncio.Protocol):
    """Answers as soon as the latency allows; looks at nothing but lengths."""

    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(REPLY)
    ) + REPLY
    latency = 0.05

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.pending = b""

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while True:
            end = self.pending.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.pending[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.pending) < end + 4 + length:
                return
            self.pending = self.pending[end + 4 + length :]
            asyncio.get_running_loop().call_later(self.latency, self.reply)

    def reply(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.answer)


async def serve(latency: float) -> None:
    Mock.latency = latency
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Mock, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def messages(number: int) -> list[dict[str, str]]:
    """About the size of a battle."""
    return [
        {"role": "system", "content": "You compare two answers. " * 20},
        {"role": "user", "content": f"battle {number} " + "word " * 500},
    ]


def bare(url: str, calls: int, flight: int) -> None:
    """The least that asking over aiohttp can cost."""
    import aiohttp
    import orjson

    async def work() -> None:
        numbers = iter(range(calls))
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask() -> None:
                for number in numbers:
                    body = {
                        "model": "mock",
                        "messages": messages(number),
                        "max_tokens": 8,
                        "temperature": 0.0,
                        "logprobs": True,
                        "top_logprobs": 4,
                    }
                    async with session.post(
                        f"{url}/chat/completions", data=orjson.dumps(body)
                    ) as response:
                        orjson.loads(await response.read())

            await asyncio.gather(*(ask() for _ in range(flight)))

    asyncio.run(work())


def package(url: str, calls: int, flight: int) -> None:
    """The openai package, as its own documentation uses it."""
    import openai

    async def work() -> None:
        numbers = iter(range(calls))
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

            async def ask() -> None:
                for number in numbers:
                    await client.chat.completions.create(
                        model="mock",
                        messages=messages(number),  # type: ignore[arg-type]
                        max_tokens=8,
                        temperature=0.0,
                        logprobs=True,
                        top_logprobs=4,
                    )

            await asyncio.gather(*(ask() for _ in range(flight)))

    asyncio.run(work())


def requests(calls: int) -> Iterator[Request]:
    """What `messages` says, as the engine takes it."""
    from judge.engines.base import Message, Parameters, Request

    parameters = Parameters("mock", max_tokens=8, top_logprobs=4)
    for number in range(calls):
        yield Request(tuple(Message(**message) for message in messages(number)), parameters)


def engine(url: str, calls: int, flight: int, ledger: Path | None, client: str = "aiohttp") -> None:
    """The endpoint engine, with or without a ledger."""
    from judge.engines.endpoint import EndpointEngine
    from judge.engines.ledger import Ledger
    from judge.engines.settings import EndpointSettings

    settings = EndpointSettings((url,), concurrency=flight, client=client)  # type: ignore[arg-type]
    book = Ledger(ledger) if ledger else None
    with EndpointEngine(settings, ledger=book) as asked:
        answered = sum(reply.error is None for _, reply in asked.answer(requests(calls)))
    if book:
        book.close()
    if answered != calls:
        raise SystemExit(f"{calls - answered} of {calls} calls were not answered")


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(url: str, calls: int, flight: int, folder: Path) -> None:
    ledgers = iter(folder / f"{flight}-{number}.db" for number in range(1000))
    few = max(500, calls // 4)  # the openai package is slow, and its rate soon steady
    clients: dict[str, tuple[int, Callable[[int], None]]] = {
        "bare aiohttp loop": (calls, lambda n: bare(url, n, flight)),
        "engine, no ledger": (calls, lambda n: engine(url, n, flight, None)),
        "engine, ledger": (calls, lambda n: engine(url, n, flight, next(ledgers))),
        "engine, client openai": (few, lambda n: engine(url, n, flight, None, "openai")),
        "openai package": (few, lambda n: package(url, n, flight)),
    }
    rates = dict.fromkeys(clients, 0.0)
    for _ in range(2):
        for name, (number, work) in clients.items():
            seconds = timed(lambda work=work, number=number: work(number))  # type: ignore[misc]
            rates[name] = max(rates[name], number / seconds)
    print(f"{flight} in flight")
    for name, rate in rates.items():
        print(f"  {name:24}{rate:8.0f} calls/s{rate / rates['bare aiohttp loop']:8.2f} of bare")


def fill(ledger: Path, calls: int) -> None:
    """Replies with as many log-probabilities as ballots have."""
    from judge.engines.base import Reply, TokenChoice, Usage
    from judge.engines.ledger import Ledger

    draws = random.Random(0)

    def drawn() -> tuple[str, float]:
        return f" {draws.randrange(50_000):x}", -8 * draws.random()

    with Ledger(ledger) as book:
        asked = requests(calls)
        while batch := list(islice(asked, 500)):
            entries = []
            for request in batch:
                choices = [
                    TokenChoice(*drawn(), tuple(drawn() for _ in range(5))) for _ in range(20)
                ]
                reply = Reply('{"relevance": "A"}', "stop", choices, Usage(700, 0, 20))
                entries.append((book.key(request), "mock", reply))
            book.put_many(entries)


def resume(url: str, folder: Path) -> None:
    calls, plain, long = 20_000, folder / "plain.db", folder / "long.db"
    engine(url, calls, 256, plain)
    fill(long, calls)
    for name, ledger in (("", plain), (" with 20 x 5 log-probabilities each", long)):
        seconds = min(
            timed(lambda ledger=ledger: engine("http://127.0.0.1:9/v1", calls, 256, ledger))  # type: ignore[misc]
            for _ in range(2)
        )
        print(f"{calls} answered calls{name} found again in {seconds:.2f} s")


def peers(url: str, pythons: dict[str, str | None]) -> None:
    """Peers as they are installed, and openevals with 32 threads of its caller."""
    script = str(Path(__file__).with_name("peer_clients.py"))
    runs = (
        ("py-openjudge", "openjudge", 1500, 1),
        ("openevals", "openevals", 200, 1),
        ("openevals, 32 threads", "openevals", 1500, 32),
    )
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "OPENAI_API_KEY": "none"}
    for name, peer, rows, threads in runs:
        python = pythons[peer]
        if python is None:
            continue
        command = [python, script, peer, url, str(rows), str(threads)]
        rates = []
        for _ in range(2):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1:]}")
            rates.append(float(done.stdout.split()[-1]))
        print(f"  {name:24}{max(rates):8.0f} calls/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=6000)
    parser.add_argument("--flights", default="256,512")
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--openjudge", metavar="PYTHON", help="one that has py-openjudge")
    parser.add_argument("--openevals", metavar="PYTHON", help="one that has openevals")
    parser.add_argument("--serve", action="store_true", help="be the server; prints its port")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.latency))
        return
    command = [sys.executable, __file__, "--serve", "--latency", str(options.latency)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
            for flight in map(int, options.flights.split(",")):
                compare(url, options.calls, flight, Path(folder))
            peers(url, {"openjudge": options.openjudge, "openevals": options.openevals})
            resume(url, Path(folder))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
