"""A server that fails as servers do, and can kill whoever asks it.

    python -m scripts.bench.faulty_server LOG [--share 1] [--seed 0]

Prints its port. Answers chat completions with ballots that depend on the prompt alone, so that two
runs can be compared, log-probabilities included. Of all calls 10 % are refused with a 429, some
with Retry-After, 5 % fail with a 500, 5 % get garbage (half of it no JSON, half of it no ballot),
2 % a reply cut short, 2 % no reply at all; times `--share`. Which ones depends on the seed, the
prompt and how often it was asked. A line `PID N` on standard input has a process killed the moment
after the Nth reply has left.

LOG gets a line for each event, in their order:
    received KEY
    answered KEY            the reply, whole or cut short, is with the operating system
    failed KIND KEY         whatever else became of the call
    killed ANSWERED WAITING how many replies had left, how many calls were waiting for one
KEY is what a ledger finds the call by.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from judge.ballots import CRITERIA, VOTES
from judge.engines.base import Message, Parameters, Request
from judge.engines.ledger import Ledger

KINDS = {"busy": 0.10, "error": 0.05, "garbage": 0.05, "cut": 0.02, "silence": 0.02}
_HEAD = "HTTP/1.1 {} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n"


class State:
    """What all connections share."""

    def __init__(self, log: Path, share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self.tries: Counter[str] = Counter()
        self.answered = self.waiting = 0
        self.victims: list[tuple[int, int]] = []
        self._ledger = Ledger(":memory:")
        self._log = log.open("w", buffering=1)

    def say(self, *words: object) -> None:
        print(*words, file=self._log)

    def key(self, body: dict[str, Any]) -> str:
        """The ledger's, of the request that was posted."""
        form = body.get("response_format")
        parameters = Parameters(
            body["model"],
            body["temperature"],
            body["max_tokens"],
            None if "seed" not in body else 0,
            body.get("top_logprobs", 0),
            None if form is None else form["json_schema"]["schema"],
        )
        messages = tuple(Message(**message) for message in body["messages"])
        return self._ledger.key(Request(messages, parameters, body.get("seed", 0))).hex()

    def fate(self, key: str) -> tuple[str, float]:
        """What becomes of a call, and a number from 0 to 1 to go with it."""
        self.tries[key] += 1
        drawn, other = numbers(f"{self.seed} {self.tries[key]} {key}", 2)
        for kind, share in KINDS.items():
            drawn -= share * self.share
            if drawn < 0:
                return kind, other
        return "ballot", other

    def kill(self) -> None:
        """Kills whom it is told to, once so many replies have left."""
        for victim in [v for v in self.victims if v[1] <= self.answered]:
            self.victims.remove(victim)
            self.say("killed", self.answered, self.waiting)
            os.kill(victim[0], signal.SIGKILL)


class Connection(asyncio.Protocol):
    """One client's; HTTP as far as that client speaks it."""

    def __init__(self, state: State) -> None:
        self.state = state

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.pending = b""

    def data_received(self, data: bytes) -> None:
        self.pending += data
        end = self.pending.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.pending[:end].lower()
        at = head.index(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self.pending) >= end + 4 + length:
            body, self.pending = self.pending[end + 4 : end + 4 + length], b""
            self.asked(json.loads(body))

    def asked(self, body: dict[str, Any]) -> None:
        key = self.state.key(body)
        self.state.say("received", key)
        kind, number = self.state.fate(key)
        if kind == "silence":
            self.state.say("failed", kind, key)
            return
        self.state.waiting += 1
        wait = 0.005 if kind in ("busy", "error") else 0.02 + 0.04 * number
        asyncio.get_running_loop().call_later(wait, self.reply, body, key, kind, number)

    def reply(self, body: dict[str, Any], key: str, kind: str, number: float) -> None:
        self.state.waiting -= 1
        if self.transport.is_closing():
            self.state.say("failed", "gone", key)
            return
        status, more, text = answer(body, kind, number)
        self.transport.write(_HEAD.format(status, len(text), more).encode() + text)
        if status == 200 and text.startswith(b"{"):
            self.state.answered += 1
            self.state.say("answered", key)
            self.state.kill()
        else:
            self.state.say("failed", kind, key)


def answer(body: dict[str, Any], kind: str, number: float) -> tuple[int, str, bytes]:
    """Status, further headers and body."""
    if kind == "busy":
        more = "Retry-After: 1\r\n" if number < 0.2 else ""
        return 429, more, json.dumps({"error": {"message": "too many requests"}}).encode()
    if kind == "error":
        return 500, "", b"Internal Server Error"
    if kind == "garbage":
        if number < 0.5:
            return 200, "", b"<html><body>Bad gateway</body></html>"
        return 200, "", completion("Both have their merits, I would say.", "stop", None)
    tokens = ballot(body)
    if kind == "cut":
        return 200, "", said(body, tokens[: int(number * len(tokens))], "length")
    return 200, "", said(body, tokens, "stop")


def said(body: dict[str, Any], tokens: list[dict[str, Any]], finish: str) -> bytes:
    """A completion of these tokens; their log-probabilities as well, where they are asked for."""
    text = "".join(token["token"] for token in tokens)
    return completion(text, finish, {"content": tokens} if body.get("logprobs") else None)


def ballot(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The tokens of a ballot that depends on what the model is shown, and on nothing else."""
    shown = json.dumps(body["messages"])
    tokens, opening = [], "{"
    for criterion in CRITERIA:
        weights = [value**3 for value in numbers(f"{criterion} {shown}", len(VOTES))]
        chances = [math.log(weight / sum(weights)) for weight in weights]
        likely = sorted(zip(chances, VOTES, strict=True), reverse=True)
        top = [{"token": vote, "logprob": chance} for chance, vote in likely]
        name = f'{opening}"{criterion}": "'
        tokens.append({"token": name, "logprob": 0.0, "top_logprobs": []})
        tokens.append({**top[0], "top_logprobs": top})
        opening = '", '
    return [*tokens, {"token": '"}', "logprob": 0.0, "top_logprobs": []}]


def completion(text: str, finish: str, logprobs: object) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def numbers(text: str, count: int) -> list[float]:
    """From 0 to 1, drawn by a text."""
    digest = hashlib.sha256(text.encode()).digest()
    return [(int.from_bytes(digest[4 * n : 4 * n + 4]) + 1) / (2**32 + 1) for n in range(count)]


async def serve(state: State) -> None:
    """Until standard input ends, and so whoever started this."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def listen() -> None:
        lines = os.read(sys.stdin.fileno(), 4096).decode().splitlines()
        for line in lines:
            pid, replies = map(int, line.split())
            state.victims.append((pid, replies))
        if not lines:
            loop.remove_reader(sys.stdin)
            done.set()

    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=2048)
    loop.add_reader(sys.stdin, listen)
    print(server.sockets[0].getsockname()[1], flush=True)
    await done.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(serve(State(given.log, given.share, given.seed)))


if __name__ == "__main__":
    main()
