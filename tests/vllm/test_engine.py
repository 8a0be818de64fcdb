"""The vLLM engine on vLLM: what it decodes, what it shares, and that it says what a server says."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from judge.battles import read_battles
from judge.encoding import BattleText
from judge.engines.base import Message, Parameters, Reply, Request
from judge.engines.ledger import Ledger
from judge.engines.vllm import VllmEngine
from judge.prompt_files import load_prompt

if TYPE_CHECKING:
    from conftest import Server, TinyModel

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

BATTLES = Path(__file__).parents[2] / "examples" / "battles.csv"
VOTES = ("A", "B", "AB", "NA")


def ask(text: str, *, sample: int = 0, prefix: str = "", **parameters: Any) -> Request:
    messages = (Message("system", "You compare two answers."), Message("user", text))
    return Request(messages, Parameters("tiny", **parameters), sample, prefix)


def answers(engine: VllmEngine, requests: Iterable[Request]) -> list[Reply]:
    found = dict(engine.answer(requests))
    assert sorted(found) == list(range(len(found)))
    for reply in found.values():
        assert reply.error is None
    return [found[index] for index in range(len(found))]


def battle_requests(prompt_name: str, rows: int) -> list[Request]:
    """The calls of some battles in both orders, question after question as the worst would be."""
    prompt = load_prompt(prompt_name)
    battles = read_battles(BATTLES).head(rows)
    parameters = Parameters(
        "tiny", choices=prompt.choices, schema=prompt.schema(), max_tokens=prompt.max_tokens
    )
    return [
        Request(
            prompt.render(texts, order, question),
            parameters,
            prefix=prompt.prefix(texts, order),
        )
        for question in prompt.questions
        for texts in map(
            BattleText, battles["prompt"], battles["response_a"], battles["response_b"]
        )
        for order in ("AB", "BA")
    ]


def test_replies_keep_to_what_was_asked_for(engine: VllmEngine) -> None:
    schema = {
        "type": "object",
        "properties": {name: {"enum": list(VOTES)} for name in ("relevance", "clarity")},
        "required": ["relevance", "clarity"],
        "additionalProperties": False,
    }
    chosen, matched, written, free = answers(
        engine,
        [
            ask("Which is better?", choices=VOTES),
            ask("Which is better?", regex="vote: [AB]{2}"),
            ask("Which is better?", schema=schema, max_tokens=100),
            ask("Which is better?", max_tokens=5),
        ],
    )
    assert chosen.text in VOTES
    assert re.fullmatch("vote: [AB]{2}", matched.text)
    assert set(json.loads(written.text)) == {"relevance", "clarity"}
    assert set(json.loads(written.text).values()) <= set(VOTES)
    assert (free.finish, free.usage.completion) == ("length", 5)
    assert chosen.finish == "stop"


def test_logprobs_are_those_of_the_tokens_and_of_the_likeliest(engine: VllmEngine) -> None:
    reply = answers(engine, [ask("Which is better?", choices=VOTES, top_logprobs=5)])[0]
    assert reply.logprobs is not None
    assert "".join(choice.token for choice in reply.logprobs).startswith(reply.text)
    for choice in reply.logprobs:
        values = [value for _, value in choice.top]
        assert values == sorted(values, reverse=True)
        assert len(values) <= 5
        assert sum(map(math.exp, values)) <= 1 + 1e-4
    first = reply.logprobs[0]
    assert dict(first.top)[first.token] == first.logprob


def test_a_seed_repeats_a_draw_and_a_sample_makes_another(engine: VllmEngine) -> None:
    draw = {"temperature": 1.5, "seed": 5, "max_tokens": 24}
    requests = [ask("Which one?", sample=number, **draw) for number in range(6)]
    first = [reply.text for reply in answers(engine, requests)]
    assert len(set(first)) == 6
    assert [reply.text for reply in answers(engine, reversed(requests))] == first[::-1]


def test_five_calls_a_battle_share_their_prefix(engine: VllmEngine) -> None:
    before = engine.prefix_cache
    requests = battle_requests("criterion", 8)
    replies = answers(engine, requests)
    queries, hits = (now - then for now, then in zip(engine.prefix_cache, before, strict=True))
    assert len(replies) == 80
    assert queries == sum(reply.usage.prompt for reply in replies)
    assert hits == sum(reply.usage.cached for reply in replies)
    assert 1 - hits / queries <= 0.25


def test_one_reply_an_order_is_one_prefill(engine: VllmEngine) -> None:
    before = engine.prefix_cache[0]
    replies = answers(engine, battle_requests("discriminator", 3))
    assert len(replies) == 6
    assert engine.prefix_cache[0] - before == sum(reply.usage.prompt for reply in replies)
    assert all(set(json.loads(reply.text).values()) <= set(VOTES) for reply in replies)


def test_a_prompt_that_is_too_long_is_an_error_and_others_go_on(engine: VllmEngine) -> None:
    found = dict(engine.answer([ask("one two " * 5000), ask("Which?", choices=VOTES)]))
    assert "more than the 4096 that the model takes" in str(found[0].error)
    assert found[1].text in VOTES


def test_the_engine_says_what_a_server_says(engine: VllmEngine, vllm_server: Server) -> None:
    """Template, grammar and shared prefixes change nothing: the server caches none."""
    requests = battle_requests("criterion", 2) + battle_requests("discriminator", 2)
    for request, reply in zip(requests, answers(engine, requests), strict=True):
        asked = request.parameters
        body: dict[str, Any] = {
            "model": vllm_server.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": 0,
            "max_tokens": asked.max_tokens,
        }
        if asked.choices:
            body["structured_outputs"] = {"choice": asked.choices}
        else:
            schema = {"name": "ballot", "schema": asked.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        call = urllib.request.Request(
            f"{vllm_server.url}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(call, timeout=120) as response:
            said = json.load(response)
        assert said["choices"][0]["message"]["content"] == reply.text
        assert said["usage"]["prompt_tokens"] == reply.usage.prompt


def test_an_adapter_over_two_processes_one_of_which_is_killed(
    engine: VllmEngine, vllm_python: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    cores = len(os.sched_getaffinity(0))
    requests = [ask(f"Which of {number} is better?", max_tokens=12) for number in range(200)]
    plain = [reply.text for reply in answers(engine, requests)]
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        VllmEngine(
            tiny_model.model,
            ledger=ledger,
            adapter=tiny_model.adapter,
            cpu_engines=min(2, cores),
            interpreter=vllm_python,
            max_model_len=engine.max_model_len,
        ) as adapted,
    ):
        stream = adapted.answer(requests)
        found = dict([next(stream)])
        os.kill(adapted.processes[0], signal.SIGKILL)
        found |= dict(stream)
        texts = [found[index].text for index in range(200)]
        assert not any(reply.error for reply in found.values())
        assert sum(one != other for one, other in zip(plain, texts, strict=True)) > 150
        assert ledger.count() == 200
        again = answers(adapted, requests)
        assert all(reply.from_ledger for reply in again)
        assert [reply.text for reply in again] == texts
        assert adapted.identity != engine.identity
