"""Batches against a server that keeps to OpenAI's rules: every step, and being killed between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judge.engines.base import BUDGET, Message, Parameters, Reply, Request
from judge.engines.batch import WAITING, BatchEngine, Collected
from judge.engines.ledger import Ledger
from judge.errors import ArenaJudgeError

SCHEMA = {"title": "vote", "type": "object", "properties": {"vote": {"type": "string"}}}


def ask(numbers: Any, model: str = "tiny", **parameters: Any) -> list[Request]:
    if isinstance(numbers, int):
        numbers = range(numbers)
    made = Parameters(model, **parameters)
    return [Request((Message("user", f"prompt {number}"),), made) for number in numbers]


def replies(asked: BatchEngine, requests: list[Request]) -> list[Reply]:
    found = dict(asked.answer(iter(requests)))
    assert sorted(found) == list(range(len(requests)))
    return [found[number] for number in range(len(requests))]


def errors(asked: BatchEngine, requests: list[Request]) -> list[str | None]:
    return [reply.error for reply in replies(asked, requests)]


def echoed(requests: list[Request]) -> list[str]:
    return [request.messages[-1].content for request in requests]


def texts(asked: BatchEngine, requests: list[Request]) -> list[str]:
    found = replies(asked, requests)
    assert {reply.error for reply in found} <= {None}
    return [reply.text for reply in found]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def prompts(path: Path) -> list[str]:
    return [line["body"]["messages"][-1]["content"] for line in lines(path)]


def request_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("requests-*.jsonl"))


# From requests to replies.


def test_from_requests_to_replies_in_separate_processes(engine: Any, host: Any) -> None:
    requests = ask(20)
    first = engine()
    assert errors(first, requests) == [WAITING] * 20
    assert first.waiting == 20
    assert first.submit() == 1
    assert first.statistics.calls == first.statistics.failed == 0
    second = engine()
    assert second.collect() == Collected()
    assert errors(second, requests) == [WAITING] * 20
    assert second.submit() == 0
    host.finish()
    third = engine()
    found = third.collect()
    assert (found.replies, found.known, found.failed) == (20, 0, 0)
    assert texts(third, requests) == echoed(requests)
    assert third.waiting == 0
    assert (third.statistics.calls, third.statistics.from_ledger) == (20, 0)
    assert third.statistics.prompt_tokens == 20_000
    fourth = engine()
    assert fourth.collect() == Collected()
    assert texts(fourth, requests) == echoed(requests)
    assert (fourth.statistics.calls, fourth.statistics.from_ledger) == (0, 20)
    assert len(host.batches) == 1
    assert host.count("POST", "files") == 1


def test_lines_are_what_the_server_wants(engine: Any, tmp_path: Path, ledger: Ledger) -> None:
    requests = ask(1, temperature=0.5, max_tokens=9, seed=4, top_logprobs=5, schema=SCHEMA)
    requests += [Request(requests[0].messages, requests[0].parameters, sample=3)]
    errors(engine(), requests)
    first, second = lines(tmp_path / "batch" / "requests-0001.jsonl")
    assert first["custom_id"] == ledger.key(requests[0]).hex()
    assert (first["method"], first["url"]) == ("POST", "/v1/chat/completions")
    assert first["body"] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "prompt 0"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "logprobs": True,
        "top_logprobs": 5,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "vote", "strict": True, "schema": SCHEMA},
        },
        "seed": 4,
    }
    assert second["body"]["seed"] == 7


def test_only_vllm_is_sent_what_only_vllm_knows(engine: Any, tmp_path: Path) -> None:
    requests = ask(1, choices=("A", "B"))
    errors(engine(), requests)
    assert "structured_outputs" not in lines(tmp_path / "batch" / "requests-0001.jsonl")[0]["body"]
    errors(engine(folder=tmp_path / "other", vllm=True), requests)
    sent = lines(tmp_path / "other" / "requests-0001.jsonl")[0]["body"]
    assert sent["structured_outputs"] == {"choice": ["A", "B"]}


@pytest.mark.parametrize(
    ("model", "limit", "plain"),
    [
        ("gpt-4o-mini", "max_tokens", True),
        ("o3", "max_completion_tokens", False),
        ("openai/gpt-5-mini", "max_completion_tokens", False),
        ("gpt-5.4", "max_tokens", True),
    ],
)
def test_models_that_think_are_asked_in_their_way(
    engine: Any, tmp_path: Path, model: str, limit: str, plain: bool
) -> None:
    errors(engine(), ask(1, model, top_logprobs=3))
    sent = lines(tmp_path / "batch" / "requests-0001.jsonl")[0]["body"]
    assert limit in sent
    assert {"max_tokens", "max_completion_tokens"} & set(sent) == {limit}
    assert ("temperature" in sent, "logprobs" in sent) == (plain, plain)


def test_openai_s_own_server_counts_tokens_under_the_newer_name(
    engine: Any, tmp_path: Path
) -> None:
    errors(engine(base_urls=["https://api.openai.com/v1"], upload=False), ask(1, "gpt-4o"))
    sent = lines(tmp_path / "batch" / "requests-0001.jsonl")[0]["body"]
    assert "max_completion_tokens" in sent


def test_what_is_asked_twice_is_written_once(engine: Any, tmp_path: Path, host: Any) -> None:
    requests = ask([0, 1, 0, 2, 1])
    made = engine()
    assert errors(made, requests) == [WAITING] * 5
    assert made.waiting == 3
    assert prompts(tmp_path / "batch" / "requests-0001.jsonl") == echoed(ask(3))
    made.submit()
    host.finish()
    made.collect()
    assert texts(made, requests) == echoed(requests)
    assert (made.statistics.calls, made.statistics.from_ledger) == (3, 2)


def test_files_are_cut_where_the_server_wants(engine: Any, tmp_path: Path, host: Any) -> None:
    requests = ask(25)
    made = engine(most_requests=10)
    errors(made, requests)
    folder = tmp_path / "batch"
    assert [len(prompts(folder / name)) for name in request_files(folder)] == [10, 10, 5]
    written = [text for name in request_files(folder) for text in prompts(folder / name)]
    assert written == echoed(requests)
    size = (folder / "requests-0001.jsonl").stat().st_size
    small = engine(folder=tmp_path / "small", most_bytes=size // 2)
    errors(small, requests)
    assert all(
        path.stat().st_size <= size // 2 for path in (tmp_path / "small").glob("requests-*.jsonl")
    )
    assert small.submit() == len(request_files(tmp_path / "small")) >= 5
    host.finish()
    assert small.collect().replies == 25
    assert texts(small, requests) == echoed(requests)


@pytest.mark.slow
def test_no_file_has_more_requests_than_openai_takes(engine: Any, host: Any) -> None:
    made = engine()
    assert set(errors(made, ask(50_001))) == {WAITING}
    assert made.submit() == 2
    host.finish()
    assert made.collect().replies == 50_001
    assert [each.status for each in made.progress().files] == ["completed"] * 2


def test_a_request_that_is_larger_than_a_file_fails_alone(engine: Any) -> None:
    large = Request((Message("user", "x" * 2000),), Parameters("tiny"))
    made = engine(most_bytes=1000)
    found = errors(made, [*ask(1), large])
    assert found[0] == WAITING
    assert "more than a batch file may have" in str(found[1])
    assert made.statistics.failed == 1


def test_a_file_has_one_model(engine: Any, tmp_path: Path, host: Any) -> None:
    requests = [r for pair in zip(ask(4, "a"), ask(4, "b"), strict=True) for r in pair]
    made = engine()
    errors(made, requests)
    assert made.submit() == 2
    assert [each.model for each in made.progress().files] == ["a", "b"]
    host.finish()
    made.collect()
    assert texts(made, requests) == echoed(requests)


def test_requests_stream_through(engine: Any) -> None:
    taken = 0

    def source() -> Iterator[Request]:
        nonlocal taken
        for request in ask(5000):
            taken += 1
            yield request

    for number, _ in engine().answer(source()):
        assert taken - number <= 1000


def test_without_requests_nothing_is_written(engine: Any, tmp_path: Path) -> None:
    made = engine()
    assert replies(made, []) == []
    assert (made.submit(), made.waiting, made.collect()) == (0, 0, Collected())
    assert made.wait() == Collected()
    assert request_files(tmp_path / "batch") == []


def test_halves_of_characters_do_not_hurt(engine: Any, host: Any) -> None:
    requests = [Request((Message("user", "half \ud83d of one"),), Parameters("tiny"))]
    made = engine()
    errors(made, requests)
    made.submit()
    host.finish()
    assert made.collect().replies == 1
    assert texts(made, requests) == ["half \ufffd of one"]


# Being killed.


def test_an_answer_that_is_left_early_leaves_no_half_file(engine: Any, tmp_path: Path) -> None:
    made = engine()
    asked = made.answer(iter(ask(1000)))
    for _ in range(300):
        next(asked)
    asked.close()
    assert request_files(tmp_path / "batch") == []
    assert errors(engine(), ask(1000)) == [WAITING] * 1000
    assert prompts(tmp_path / "batch" / "requests-0001.jsonl") == echoed(ask(1000))


def test_an_interrupted_source_leaves_no_half_file(engine: Any, tmp_path: Path) -> None:
    def source() -> Iterator[Request]:
        yield from ask(300)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine().answer(source()))
    assert request_files(tmp_path / "batch") == []


def test_the_same_again_before_it_was_sent_writes_nothing_anew(engine: Any, tmp_path: Path) -> None:
    for _ in range(3):
        made = engine(upload=False)
        assert errors(made, ask(30)) == [WAITING] * 30
        assert errors(made, ask(30)) == [WAITING] * 30
        made.submit()
    assert request_files(tmp_path / "batch") == ["requests-0001.jsonl"]
    assert len(prompts(tmp_path / "batch" / "requests-0001.jsonl")) == 30


def test_what_another_plan_left_unsent_is_not_sent(engine: Any, tmp_path: Path, host: Any) -> None:
    errors(engine(), ask(10))
    made = engine()
    errors(made, ask(range(5, 12)))
    assert any("requests-0001.jsonl was not sent" in note for note in made.notes)
    assert made.submit() == 1
    assert [each.name for each in made.progress().files] == ["requests-0002.jsonl"]
    host.finish()
    made.collect()
    assert texts(made, ask(range(5, 12))) == echoed(ask(range(5, 12)))


def test_steps_of_one_run_stand_beside_each_other(engine: Any, host: Any) -> None:
    """A judge that asks in two steps asks twice before anything is sent, each time it runs."""
    for _ in range(2):
        made = engine()
        errors(made, ask(5))
        errors(made, ask(range(5, 9)))
    assert made.submit() == 2
    host.finish()
    assert made.collect().replies == 9


@pytest.mark.parametrize("fault", [0, -1, 500, 429])
@pytest.mark.parametrize("step", [("POST", "files"), ("POST", "batches")])
def test_a_submit_that_meets_faults_sends_once(
    engine: Any, host: Any, step: tuple[str, str], fault: int
) -> None:
    """Dropped before (0) or after (-1) it was carried out, or refused."""
    made = engine()
    errors(made, ask(3))
    host.faults[step] = [fault] * 3
    assert made.submit() == 1
    assert [file["purpose"] for file in host.files.values()] == ["batch"]
    assert len(host.batches) == 1
    host.finish()
    assert made.collect().replies == 3


@pytest.mark.parametrize("step", [("POST", "files"), ("POST", "batches")])
@pytest.mark.parametrize("done", [True, False])
def test_a_killed_submit_sends_once(
    engine: Any, host: Any, step: tuple[str, str], done: bool
) -> None:
    made = engine(patience=0.0)
    errors(made, ask(3))
    host.faults[step] = [-1 if done else 0]
    with pytest.raises(ArenaJudgeError, match="same command again"):
        made.submit()
    again = engine()
    assert errors(again, ask(3)) == [WAITING] * 3
    assert again.submit() == 1
    assert len(host.files) == len(host.batches) == 1
    host.finish()
    assert again.collect().replies == 3


def test_a_batch_that_was_made_from_another_folder_is_taken_up(
    engine: Any, host: Any, tmp_path: Path
) -> None:
    made = engine()
    errors(made, ask(3))
    made.submit()
    host.finish()
    again = engine(folder=tmp_path / "other")
    errors(again, ask(3))
    assert again.submit() == 1
    assert len(host.batches) == 1
    assert again.collect().replies == 3


def test_a_lost_ledger_is_filled_again_for_nothing(engine: Any, host: Any, tmp_path: Path) -> None:
    made = engine()
    errors(made, ask(3))
    made.submit()
    host.finish()
    made.collect()
    with Ledger(tmp_path / "new.sqlite") as new:
        again = engine(ledger=new)
        assert again.collect().replies == 3
        assert texts(again, ask(3)) == echoed(ask(3))
        again.close()
    assert len(host.batches) == 1


def test_two_processes_do_not_work_in_one_folder(
    engine: Any, tmp_path: Path, ledger: Ledger
) -> None:
    made = engine()
    errors(made, ask(3))
    with BatchEngine(tmp_path / "batch", ledger=ledger) as other:
        with pytest.raises(ArenaJudgeError, match="another process"):
            errors(other, ask(3))
        assert other.progress() == made.progress()
        made.close()
        assert errors(other, ask(3)) == [WAITING] * 3


def test_what_is_answered_elsewhere_is_not_sent(engine: Any, host: Any, ledger: Ledger) -> None:
    requests = ask(4)
    made = engine()
    errors(made, requests)
    ledger.put_many((ledger.key(r), "tiny", Reply("elsewhere")) for r in requests[:2])
    assert made.submit() == 0
    assert any("2 of the 4 requests" in note for note in made.notes)
    errors(made, requests)
    assert made.submit() == 1
    host.finish()
    assert made.collect().replies == 2


# What comes back.


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_was_lost_is_written_anew(engine: Any, host: Any, tmp_path: Path, status: str) -> None:
    requests = ask(10)
    made = engine()
    errors(made, requests)
    made.submit()
    host.finish(status, answered=6)
    found = made.collect()
    assert (found.replies, found.failed) == (6, 4)
    assert list(found.errors) == [f"This request was {status}."]
    assert made.progress().files[0].status == status
    again = engine()
    assert errors(again, requests) == [None] * 6 + [WAITING] * 4
    assert prompts(tmp_path / "batch" / "requests-0002.jsonl") == echoed(requests)[6:]
    assert again.submit() == 1
    host.finish()
    again.collect()
    assert texts(again, requests) == echoed(requests)
    assert len(host.batches) == 2


def test_a_batch_of_which_nothing_was_answered_is_made_anew(engine: Any, host: Any) -> None:
    for _ in range(3):
        made = engine()
        errors(made, ask(3))
        assert made.submit() == 1
        host.finish("expired", answered=0)
        made.collect()
    assert errors(made, ask(3)) == [WAITING] * 3
    assert len(host.batches) == 3


def test_what_always_fails_is_given_up(engine: Any, host: Any) -> None:
    host.reply = lambda body: (500, host.error("no luck"))
    for _ in range(3):
        made = engine(retries=2)
        assert errors(made, ask(2)) == [WAITING] * 2
        made.submit()
        host.finish()
        assert made.collect().errors == {"no luck": 2}
    assert errors(made, ask(2)) == ["no luck (3 batches)"] * 2
    assert made.statistics.failed == 2
    assert made.submit() == 0


def test_what_cannot_be_asked_is_not_asked_again(engine: Any, host: Any) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if body["messages"][0]["content"] == "prompt 1":
            return 400, host.error("This model's maximum context length is 9 tokens")
        return host.echo(body)

    host.reply = reply
    made = engine()
    errors(made, ask(3))
    made.submit()
    host.finish()
    found = made.collect()
    assert (found.replies, found.failed) == (2, 1)
    again = engine()
    assert errors(again, ask(3)) == [
        None,
        "This model's maximum context length is 9 tokens",
        None,
    ]
    assert again.submit() == again.waiting == 0


def test_what_the_model_does_not_take_is_left_out_the_next_time(
    engine: Any, host: Any, tmp_path: Path
) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, host.error(words, param="max_tokens", code="unsupported_parameter")
        if "seed" in body:
            return 400, host.error("Unsupported parameter: 'seed'", param="seed")
        return host.echo(body)

    host.reply = reply
    for _ in range(2):
        made = engine()
        assert errors(made, ask(30, seed=1)) == [WAITING] * 30
        made.submit()
        host.finish()
        assert made.collect().failed == 30
    made = engine()
    assert errors(made, ask(30, seed=1)) == [WAITING] * 30
    sent = lines(tmp_path / "batch" / "requests-0003.jsonl")[0]["body"]
    assert "max_completion_tokens" in sent
    assert not {"max_tokens", "seed"} & set(sent)
    made.submit()
    host.finish()
    assert made.collect().replies == 30


def test_a_cap_of_tokens_is_kept_the_next_time(engine: Any, host: Any, tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if body["max_tokens"] > 512:
            return 400, host.error("max_tokens must be at most 512", param="max_tokens")
        return host.echo(body)

    host.reply = reply
    made = engine()
    errors(made, ask(5, max_tokens=1000))
    made.submit()
    host.finish()
    made.collect()
    again = engine()
    errors(again, ask(5, max_tokens=1000))
    assert lines(tmp_path / "batch" / "requests-0002.jsonl")[0]["body"]["max_tokens"] == 512


def test_logprobs_and_time_come_with_the_reply(engine: Any, host: Any) -> None:
    logprobs = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": []}]}
    host.reply = lambda body: (200, host.completion("A", logprobs=logprobs))
    made = engine()
    errors(made, ask(1, top_logprobs=2))
    made.submit()
    host.finish()
    made.collect()
    reply = replies(made, ask(1, top_logprobs=2))[0]
    assert reply.logprobs is not None
    assert [(each.token, each.logprob) for each in reply.logprobs] == [("A", -0.1)]
    assert (reply.time, reply.seconds) == (1_750_000_000, 0)


def test_a_server_that_answers_as_another_model_is_named(engine: Any, host: Any) -> None:
    host.reply = lambda body: (200, host.completion("hello", "large"))
    made = engine()
    errors(made, ask(2))
    made.submit()
    host.finish()
    made.collect()
    assert made.notes == ["replies-0001.jsonl has replies of large, and tiny was asked"]


def test_a_file_that_is_not_taken_is_explained(engine: Any, host: Any) -> None:
    made = engine()
    errors(made, ask(2))
    made.submit()
    for batch in host.batches.values():
        fault = {"code": "model_not_found", "message": "The model tiny does not exist"}
        batch.update(status="failed", errors={"object": "list", "data": [fault]})
    made.collect()
    assert made.notes == [
        "requests-0001.jsonl was not taken: model_not_found: The model tiny does not exist"
    ]
    assert made.progress().files[0].status == "failed"
    assert errors(made, ask(2)) == [WAITING] * 2


def test_replies_that_are_not_there_yet_are_waited_for(engine: Any, host: Any) -> None:
    made = engine()
    errors(made, ask(2))
    made.submit()
    host.finish()
    batch = host.batches["batch_0001"]
    there, batch["output_file_id"] = batch["output_file_id"], None
    assert made.collect().replies == 0
    assert errors(made, ask(2)) == [WAITING] * 2
    assert made.submit() == 0
    batch["output_file_id"] = there
    assert made.collect().replies == 2


def test_a_requests_file_that_is_gone_costs_no_replies(
    engine: Any, host: Any, tmp_path: Path
) -> None:
    made = engine()
    errors(made, ask(2))
    made.submit()
    host.finish()
    (tmp_path / "batch" / "requests-0001.jsonl").unlink()
    made = engine()
    assert made.collect().replies == 2
    assert texts(made, ask(2)) == echoed(ask(2))


# Money.


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    file = tmp_path / "prices.yaml"
    file.write_text("models: {tiny: {prompt: 10, completion: 20, batch: 0.5}}")
    return file


def test_replies_cost_their_share_and_are_paid_once(engine: Any, host: Any, prices: Path) -> None:
    made = engine(prices=prices)
    errors(made, ask(4))
    made.submit()
    host.finish()
    each = (1000 * 10 + 100 * 20) / 1e6 / 2
    assert made.collect().cost == pytest.approx(4 * each)
    assert [reply.cost for reply in replies(made, ask(4))] == pytest.approx([each] * 4)
    assert made.statistics.cost == pytest.approx(4 * each)
    assert not any(reply.from_ledger for reply in replies(engine(), ask(4))[4:])
    again = engine(prices=prices)
    again.collect()
    assert all(reply.from_ledger for reply in replies(again, ask(4)))
    assert again.statistics.cost == 0


def test_the_budget_keeps_requests_from_being_written(
    engine: Any, host: Any, prices: Path, tmp_path: Path
) -> None:
    one = (6 * 10 + 64 * 20) / 1e6 / 2  # as estimated: 4 tokens of a template, 2 of text
    made = engine(prices=prices, max_cost=4.5 * one)
    found = errors(made, ask(10))
    assert found == [WAITING] * 4 + [BUDGET] * 6
    assert made.statistics.unsent == 6
    assert errors(made, ask(10)) == found
    assert len(prompts(tmp_path / "batch" / "requests-0001.jsonl")) == 4
    made.submit()
    assert errors(engine(prices=prices, max_cost=4.5 * one), ask(10)) == found
    assert errors(engine(prices=prices, max_cost=6.5 * one), ask(10)) == (
        [WAITING] * 6 + [BUDGET] * 4
    )


def test_what_was_spent_counts_the_next_time(engine: Any, host: Any, prices: Path) -> None:
    each = (1000 * 10 + 100 * 20) / 1e6 / 2
    made = engine(prices=prices, max_cost=2.5 * each)
    errors(made, ask(2))
    made.submit()
    host.finish()
    made.collect()
    again = engine(prices=prices, max_cost=2.0001 * each)
    assert errors(again, ask(3)) == [None, None, BUDGET]
    assert errors(engine(prices=prices, max_cost=3 * each), ask(3)) == [None, None, WAITING]


def test_a_budget_without_a_price_is_refused(engine: Any, tmp_path: Path) -> None:
    made = engine(max_cost=1.0)
    with pytest.raises(ArenaJudgeError, match="the price of tiny is not known"):
        errors(made, ask(1))
    assert request_files(tmp_path / "batch") == []
    assert errors(engine(max_cost=1.0, vllm=True), ask(1)) == [WAITING]


def test_the_estimate_is_what_the_budget_counts(engine: Any, ledger: Ledger, prices: Path) -> None:
    ledger.put_many([(ledger.key(ask(1)[0]), "tiny", Reply("there"))])
    found = engine(prices=prices).estimate(iter([*ask(4), *ask(4)]))
    assert (found.requests, found.from_ledger) == (8, 5)
    assert (found.prompt_tokens, found.completion_tokens) == (3 * 6, 3 * 64)
    assert found.cost == pytest.approx(3 * (6 * 10 + 64 * 20) / 1e6 / 2)
    assert engine().estimate(iter(ask(4))).cost is None
