"""Servers that speak the OpenAI protocol each in a way of their own, as a client meets them: all of
them judge battles. What they do was seen of llama-server, llama-cpp-python and transformers serve.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from judge.ballots import CRITERIA
from judge.engines.endpoint import EndpointEngine
from judge.engines.settings import EndpointSettings
from judge.errors import ArenaJudgeError
from judge.judges.asking import Asking
from judge.judges.base import Judgments
from judge.judges.prompted import PromptedJudge
from judge.prompt_files import load_prompt

Serve = Callable[..., Any]

BATTLES = pd.DataFrame(
    {
        "id": ["1", "2", "3"],
        "prompt": [("How long?",), ("How long?",), ("How short?",)],
        "response_a": [("a few words more",), ("two words",), ("as long",)],
        "response_b": [("few words",), ("rather more words than two",), ("as this",)],
    }
)
LONGER = [0, 1, 2]


def vote_of(call: Any) -> str:
    """The longer response is better."""
    found = [
        re.search(rf"=== \w+ response {side}, turn 1 ===\n(.*?)\n===", call.prompt, re.DOTALL)
        for side in "AB"
    ]
    a, b = (len(match[1].split()) for match in found if match is not None)
    return "AB" if a == b else "A" if a > b else "B"


def words_of(call: Any) -> list[str]:
    """A ballot as tokens; one vote where one is asked for."""
    vote = vote_of(call)
    if "The criterion is" in call.prompt:
        return [vote]
    words = ["{"]
    for place, name in enumerate(CRITERIA):
        words += [", " if place else "", f'"{name}": "', vote, '"']
    return [*words, "}"]


def top(words: list[str], sizes: list[int]) -> dict[str, Any]:
    """Log-probabilities, of as many tokens beside each as `sizes` says; -1 leaves the list out."""
    entries = []
    for place, word in enumerate(words):
        size = sizes[place % len(sizes)]
        others = [{"token": other, "logprob": -3.0} for other in ("A", "B", "NA", "AB", "C", "D")]
        entry: dict[str, Any] = {"token": word, "logprob": -0.2, "bytes": None}
        if size >= 0:
            known = [{"token": word, "logprob": -0.2}, *others]
            entry["top_logprobs"] = known[:size]
        entries.append(entry)
    return {"content": entries}


async def llama_server(call: Any) -> Any:
    """Answers under any model's name, heeds a schema, does not know `structured_outputs`."""
    words = words_of(call)
    wanted = call.body.get("top_logprobs", 0)
    logprobs = top([*words, ""], [wanted]) if call.body.get("logprobs") else None
    return call.say("".join(words), logprobs=logprobs)


async def llama_cpp_python(call: Any) -> Any:
    """Fails with a schema in the newer form; as many log-probabilities as it pleases; heeds neither
    `n` nor `max_completion_tokens`, and without `max_tokens` breaks off after a word."""
    if call.body.get("response_format", {}).get("type") == "json_schema":
        return call.refuse(500, "[{'type': 'literal_error', 'loc': ('body', 'response_format')}]")
    words = words_of(call)
    if "max_tokens" not in call.body:
        return call.say(words[0], finish_reason="length")
    return call.say("".join(words), logprobs=top(words, [4, 0, 7, 2, -1]))


async def transformers_serve(call: Any) -> Any:
    """Knows one model, gives no log-probabilities, heeds no schema and no seed: chats away."""
    if call.body["model"] != "m":
        return call.refuse(400, f"Model {call.body['model']!r} is not available")
    text = "".join(words_of(call))
    if text.startswith("{"):
        return call.say(f"Sure! Here are my votes.\n\n```json\n{text}\n```\nI hope this helps.")
    return call.say(f"**{text}**")


def judged(server: Any, prompt: str, model: str = "m") -> tuple[Judgments, PromptedJudge]:
    settings = EndpointSettings([server.url], first_backoff=0.01, longest_backoff=0.02)
    judge = PromptedJudge(EndpointEngine(settings), load_prompt(prompt), Asking(model))
    try:
        return judge.judge(BATTLES, ballots=True), judge
    finally:
        judge.close()


@pytest.mark.parametrize("prompt", ["discriminator", "criterion"])
@pytest.mark.parametrize("script", [llama_server, llama_cpp_python, transformers_serve])
def test_battles_are_judged_all_the_same(serve: Serve, script: Any, prompt: str) -> None:
    server = serve(script)
    found, judge = judged(server, prompt)
    assert found.reasons == {}
    assert found.proba.argmax(axis=1).tolist() == LONGER
    assert found.ballots is not None
    assert found.ballots["reason"].tolist() == [""] * 6
    for criterion in CRITERIA:
        assert found.ballots[criterion].tolist() == [
            ("A", "B", "AB")[n] for n in LONGER for _ in "12"
        ]
    assert judge.reading.unreadable == 0
    assert judge.engine.statistics.failed == 0
    # Several replies to one call, which some servers pass over in silence, are never asked for.
    assert not any("n" in call.body for call in server.calls)
    # Whatever a server heeds of the limit, it is sent under the name that all of them know.
    assert all(call.body["max_tokens"] > 0 for call in server.calls)


@pytest.mark.parametrize("script", [llama_server, llama_cpp_python])
def test_votes_are_distributions_however_many_log_probabilities_there_are(
    serve: Serve, script: Any
) -> None:
    found, _ = judged(serve(script), "criterion")
    assert found.ballots is not None
    names = [f"relevance_{vote}" for vote in ("A", "B", "AB", "NA")]
    shares = found.ballots[names].to_numpy(dtype=float)
    assert np.abs(shares.sum(axis=1) - 1).max() < 1e-12
    assert (shares.max(axis=1) < 1).all()


def test_what_a_server_passes_over_is_said_once(serve: Serve) -> None:
    server = serve(transformers_serve)
    _, judge = judged(server, "discriminator")
    assert judge.engine.notes == [
        f"{server.url} does not heed logprobs for m",
        f"{server.url} does not heed response_format for m",
    ]


def test_a_schema_that_it_fails_on_costs_three_calls(serve: Serve) -> None:
    server = serve(llama_cpp_python)
    _, judge = judged(server, "discriminator")
    kinds = [call.body["response_format"]["type"] for call in server.calls]
    assert kinds == ["json_schema"] * 3 + ["json_object"] * 6
    assert judge.engine.statistics.calls == 6


def test_an_unknown_model_is_one_line(serve: Serve) -> None:
    with pytest.raises(ArenaJudgeError, match="'other' is not available; see that it serves other"):
        judged(serve(transformers_serve), "discriminator", model="other")


@pytest.mark.parametrize(
    ("asked", "named", "said"),
    [
        ("m", "phi-3.gguf", True),
        ("m", "m", False),
        ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", False),
        ("org/Model", "/models/model.gguf", False),
        ("m", None, False),
        ("m", 7, False),
    ],
)
def test_a_server_that_answers_as_another_model_is_noted(
    serve: Serve, asked: str, named: Any, said: bool
) -> None:
    async def script(call: Any) -> Any:
        answer = call.say("".join(words_of(call)))
        answer.text = json.dumps(json.loads(answer.text) | {"model": named})
        return answer

    server = serve(script)
    found, judge = judged(server, "discriminator", model=asked)
    assert found.proba.argmax(axis=1).tolist() == LONGER
    note = f"{server.url} answers as {named} when asked for {asked}"
    assert [other for other in judge.engine.notes if "answers as" in other] == [note] * said
