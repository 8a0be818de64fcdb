"""Batch files that vLLM's own run_batch reads: as the engine says to run it, and read back."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from judge.engines.base import Message, Parameters, Reply, Request
from judge.engines.batch import WAITING, BatchEngine
from judge.engines.ledger import Ledger
from judge.engines.vllm import VllmEngine

if TYPE_CHECKING:
    from conftest import TinyModel

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

VOTES = ("A", "B", "AB", "NA")
SCHEMA = {
    "type": "object",
    "properties": {name: {"enum": list(VOTES)} for name in ("relevance", "clarity")},
    "required": ["relevance", "clarity"],
    "additionalProperties": False,
}


def ask(model: str, text: str, sample: int = 0, **parameters: Any) -> Request:
    messages = (Message("system", "You compare two answers."), Message("user", text))
    return Request(messages, Parameters(model, **parameters), sample)


def replies(asked: Any, requests: list[Request]) -> list[Reply]:
    found = dict(asked.answer(iter(requests)))
    return [found[number] for number in range(len(requests))]


def test_what_run_batch_answers_is_what_the_engine_answers(
    vllm_python: str, tiny_model: TinyModel, engine: VllmEngine, tmp_path: Path
) -> None:
    model = str(tiny_model.model)
    draw = {"temperature": 1.5, "seed": 5, "max_tokens": 12}
    requests = [
        ask(model, "Which is better?", choices=VOTES, top_logprobs=5),
        ask(model, "Which is better?", schema=SCHEMA, max_tokens=100),
        ask(model, "Which is better?", regex="vote: [AB]{2}"),
        ask(model, "Which is better?", max_tokens=5),
        *(ask(model, "Which one?", sample=number, **draw) for number in range(3)),
        ask(model, "one two " * 5000),
    ]
    with (
        Ledger(tmp_path / "ledger.sqlite") as ledger,
        BatchEngine(tmp_path / "batch", ledger=ledger, upload=False, vllm=True) as made,
    ):
        assert {reply.error for reply in replies(made, requests)} == {WAITING}
        assert made.submit() == 0
        command = made.notes[0].partition(": ")[2].partition("; ")[0]
        run_batch(vllm_python, command)
        found = made.collect()
        assert (found.replies, found.failed, found.garbled) == (7, 1, 0)
        answered = replies(made, requests)
        again = replies(made, requests)
    chosen, written, matched, cut, *drawn, long = answered
    expected = replies(engine, requests)
    assert "4096" in str(long.error)
    for reply, other in zip(answered[:-1], expected[:-1], strict=True):
        assert (reply.text, reply.finish) == (other.text, other.finish)
        assert reply.usage.completion == other.usage.completion
        assert reply.cost == reply.seconds == 0
        assert reply.time > 1.7e9
    assert chosen.text in VOTES
    assert set(json.loads(written.text)) == {"relevance", "clarity"}
    assert matched.text.startswith("vote: ")
    assert cut.finish == "length"
    assert len({reply.text for reply in drawn}) == 3
    assert chosen.logprobs is not None
    assert expected[0].logprobs is not None
    assert chosen.logprobs[0].token == expected[0].logprobs[0].token
    assert chosen.logprobs[0].logprob == pytest.approx(expected[0].logprobs[0].logprob, abs=1e-3)
    assert all(reply.from_ledger for reply in again[:-1])


def run_batch(python: str, command: str) -> None:
    """Runs what a user is told to run, on this machine's small vLLM."""
    name, *words = shlex.split(command)
    assert name == "python"
    words += ["--seed", "0", "--dtype", "float32", "--max-model-len", "4096", "--enforce-eager"]
    words += ["--max-num-batched-tokens", "8192", "--no-enable-chunked-prefill"]
    words += ["--no-enable-prefix-caching", "--structured-outputs-config"]
    words += ['{"backend": "xgrammar", "disable_any_whitespace": true}']
    # -P: tests and packages here have folders named vllm.
    done = subprocess.run(
        [python, "-P", *words], capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
