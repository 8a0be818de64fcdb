"""The vLLM engine over a stand-in for vLLM that is told what to do: what happens to each request
when processes die, hang or refuse. tests/vllm runs the same engine on the real thing."""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from judge.engines.base import Message, Parameters, Reply, Request
from judge.engines.ledger import Ledger
from judge.engines.vllm import VllmEngine, choose_places, group_by_prefix, identify
from judge.engines.vllm_pool import Run, Task
from judge.engines.vllm_worker import default_dtype, llm_options, lora_rank, one_line
from judge.errors import ArenaJudgeError

STAND_IN = Path(__file__).parents[2] / "vllm" / "stand_in"
PARAMETERS = Parameters("tiny")
Start = Callable[..., VllmEngine]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 4096}')
    return folder


@pytest.fixture
def start(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Makes engines over the stand-in, and closes them."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log.jsonl"))
    monkeypatch.delenv("ARENA_JUDGE_VLLM_PYTHON", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    engines: list[VllmEngine] = []

    def make(folder: Path = model, **settings: Any) -> VllmEngine:
        engines.append(VllmEngine(folder, **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """What the stand-in was asked, in order."""
    path = tmp_path / "log.jsonl"
    return lambda: (
        [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    )


def ask(text: str, *, prefix: str = "", sample: int = 0, **parameters: Any) -> Request:
    chosen = Parameters("tiny", **parameters) if parameters else PARAMETERS
    return Request((Message("user", text),), chosen, sample, prefix)


def answers(engine: VllmEngine, requests: list[Request]) -> list[Reply]:
    found = dict(engine.answer(requests))
    assert sorted(found) == list(range(len(requests)))
    return [found[index] for index in range(len(requests))]


def test_every_request_has_its_own_reply(start: Start) -> None:
    engine = start()
    replies = answers(engine, [ask(f"say {number}") for number in range(1500)])
    assert [reply.text for reply in replies] == [str(number) for number in range(1500)]
    assert engine.statistics.calls == 1500
    assert engine.statistics.prompt_tokens == sum(reply.usage.prompt for reply in replies)


def test_replies_come_before_slower_ones(start: Start) -> None:
    order = [index for index, _ in start().answer([ask("slow a"), ask("say b")])]
    assert order == [1, 0]


def test_requests_are_taken_a_bounded_number_ahead(start: Start) -> None:
    taken = 0

    def endless() -> Iterator[Request]:
        nonlocal taken
        while True:
            taken += 1
            yield ask(f"say {taken}")

    stream = start().answer(endless())
    for _ in range(10):
        next(stream)
    assert taken <= 2048
    stream.close()


def test_requests_that_begin_alike_go_together_to_one_process(
    start: Start, log: Callable[[], list[dict[str, Any]]]
) -> None:
    engine = start(cpu_engines=min(2, len(os.sched_getaffinity(0))))
    # As a judge that goes criterion by criterion would send them: apart.
    requests = [
        ask(f"battle {battle}\nsay {question}", prefix=f"battle {battle}")
        for question in range(5)
        for battle in range(40)
    ]
    answers(engine, requests)
    queries, hits = engine.prefix_cache
    assert queries == sum(len(request.messages[0].content) for request in requests)
    assert hits > queries / 2
    for pid in {entry["pid"] for entry in log()}:
        battles = [entry["text"].split("\n")[0] for entry in log() if entry["pid"] == pid]
        changes = sum(one != other for one, other in itertools.pairwise(battles))
        assert changes == len(set(battles)) - 1
        assert all(battles.count(battle) == 5 for battle in battles)


def test_groups_keep_the_order_of_their_first_and_are_not_too_large() -> None:
    run = Run()
    prefixes = ["x", "", "y", "x", "", *["z"] * 40]
    tasks = [Task(run, index, ask("a", prefix=p), None, "") for index, p in enumerate(prefixes)]
    groups = [[task.index for task in group] for group in group_by_prefix(tasks)]
    assert groups[:4] == [[0, 3], [1], [2], [4]]
    assert [len(group) for group in groups[4:]] == [32, 8]


def test_each_gpu_has_a_process_bound_to_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_GPUS", "2")
    replies = answers(start(gpus=(0, 1)), [ask("where") for _ in range(600)])
    assert {reply.text.split()[0] for reply in replies} == {"0", "1"}
    assert len({reply.text.split()[1] for reply in replies}) == 2


def test_gpus_count_among_the_visible_ones(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_GPUS", "8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert answers(start(gpus=[1]), [ask("where")])[0].text.split()[0] == "7"


def empty_adapter(folder: Path, rank: int) -> Path:
    """A LoRA adapter without a matrix."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder


def test_parameters_reach_vllm(
    start: Start, log: Callable[[], list[dict[str, Any]]], tmp_path: Path
) -> None:
    adapter = empty_adapter(tmp_path / "adapter", 24)
    schema = {"type": "object"}
    requests = [
        ask("say a", seed=3, temperature=1.0, sample=4, schema=schema),
        ask("say b", choices=("A", "B"), top_logprobs=1),
        ask("say c", regex="[AB]"),
    ]
    replies = answers(start(adapter=adapter, max_model_len=512), requests)
    asked = {entry["text"]: entry for entry in log()}
    assert asked["say a"]["seed"] == 7
    assert asked["say a"]["constraint"] == {"json": schema}
    assert asked["say b"]["constraint"] == {"choice": ["A", "B"]}
    assert asked["say c"]["constraint"] == {"regex": "[AB]"}
    assert asked["say a"]["adapter"] == str(adapter)
    assert asked["say a"]["options"]["max_lora_rank"] == 32
    assert asked["say a"]["options"]["max_model_len"] == 512
    assert replies[0].logprobs is None
    choice = replies[1].logprobs
    assert choice is not None
    assert (choice[0].token, choice[0].logprob, choice[0].top) == ("b", -2.0, (("other", -0.5),))


def test_what_cannot_be_computed_is_an_error_of_its_own(start: Start) -> None:
    engine = start(max_model_len=100)
    replies = answers(engine, [ask("say a"), ask("refuse"), ask("say " + "x" * 50)])
    assert replies[0].text == "a"
    assert replies[1].error == "the grammar cannot be compiled"
    assert replies[2].error == (
        "the prompt's 54 tokens and 64 for the reply are more than the 100 that the model takes"
    )
    assert engine.statistics.failed == 2


def test_a_template_without_a_system_role_has_it_before_the_prompt(
    start: Start, tmp_path: Path, log: Callable[[], list[dict[str, Any]]]
) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("no system")
    request = Request((Message("system", "Be fair."), Message("user", "say a")), PARAMETERS)
    assert answers(start(template=template), [request])[0].text == "a"
    assert log()[0]["text"] == "Be fair.\n\nsay a"


# --- processes that end ----------------------------------------------------------------------


def test_a_process_that_dies_is_started_again(start: Start, tmp_path: Path) -> None:
    engine = start()
    requests = [ask(f"say {number}") for number in range(200)]
    requests[20] = ask(f"die once {tmp_path / 'mark'}")
    replies = answers(engine, requests)
    assert not [reply.error for reply in replies if reply.error]
    assert engine.statistics.retries >= 1
    assert len(engine.notes) == 1
    assert "the system killed it" in engine.notes[0]
    assert engine.notes[0].endswith("started again")


def test_a_request_that_kills_its_process_takes_no_other_with_it(start: Start) -> None:
    requests = [ask(f"say {number}") for number in range(150)]
    requests[70] = ask("die")
    replies = answers(start(), requests)
    assert [index for index, reply in enumerate(replies) if reply.error] == [70]
    assert "vLLM on this machine ended" in str(replies[70].error)


def test_an_engine_that_raises_is_replaced(start: Start) -> None:
    replies = answers(start(), [ask("say a"), ask("fail"), ask("say b")])
    assert [reply.text for reply in replies] == ["a", "", "b"]
    assert "illegal memory access" in str(replies[1].error)


def test_a_process_that_hangs_is_replaced(start: Start) -> None:
    replies = answers(start(patience=0.5), [ask("hang"), ask("say a")])
    assert "gave no sign" in str(replies[0].error)
    assert replies[1].text == "a"


def test_a_process_that_dies_again_and_again_ends_with_errors_and_not_with_a_hang(
    start: Start,
) -> None:
    engine = start()
    replies = answers(engine, [ask(f"die {number}") for number in range(5)])
    assert all(reply.error for reply in replies)
    assert "not started again" in engine.notes[-1]
    assert answers(engine, [ask("say later")])[0].error


def test_the_other_process_goes_on_when_one_cannot_come_back(
    start: Start, model: Path, tmp_path: Path
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("wants two cores")
    engine = start(cpu_engines=2)
    stream = engine.answer(
        ask(f"die once {tmp_path / 'mark'}" if number == 300 else f"say {number}")
        for number in range(900)
    )
    found = dict([next(stream)])
    (model / "config.json").write_text('{"load": "No available memory for the cache blocks"}')
    found |= dict(stream)
    assert len(found) == 900
    assert not [reply.error for reply in found.values() if reply.error]
    assert "not started again: No available memory" in engine.notes[-1]


def test_closing_the_engine_frees_who_waits_for_it(start: Start) -> None:
    engine = start()
    stream = engine.answer([ask("say a"), ask("hang")])
    threading.Timer(0.3, engine.close).start()
    replies = dict(stream)
    assert replies[1].error == "the engine was closed"


def test_an_abandoned_run_gives_way_to_the_next(start: Start) -> None:
    engine = start(max_num_seqs=2)
    stream = engine.answer([ask("slow a") for _ in range(400)])
    next(stream)
    stream.close()
    assert answers(engine, [ask("say b")])[0].text == "b"


def test_several_threads_may_ask_at_once(start: Start) -> None:
    engine = start()
    found: dict[int, list[str]] = {}

    def work(part: int) -> None:
        requests = [ask(f"say {part} {number}") for number in range(100)]
        found[part] = [reply.text for reply in answers(engine, requests)]

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part in range(4):
        assert found[part] == [f"{part} {number}" for number in range(100)]
    assert engine.statistics.calls == 400


# --- the ledger ------------------------------------------------------------------------------


def test_what_was_answered_needs_no_model(start: Start, model: Path, tmp_path: Path) -> None:
    requests = [ask("say a"), ask("say a", sample=1), ask("refuse")]
    with Ledger(tmp_path / "ledger.db") as ledger:
        first = answers(start(ledger=ledger), requests)
        nothing = start(ledger=ledger, interpreter="/nowhere/python")
        again = answers(nothing, requests[:2])
        assert [reply.text for reply in again] == [reply.text for reply in first[:2]]
        assert all(reply.from_ledger for reply in again)
        assert ledger.count() == 2  # an error is asked for again


def test_what_is_asked_twice_is_computed_once(
    start: Start, tmp_path: Path, log: Callable[[], list[dict[str, Any]]]
) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        requests = [ask("say a"), ask("say b"), ask("say a"), ask("refuse"), ask("refuse")]
        replies = answers(start(ledger=ledger), requests)
    assert [reply.text for reply in replies] == ["a", "b", "a", "", ""]
    assert [reply.from_ledger for reply in replies] == [False, False, True, False, False]
    assert replies[4].error == replies[3].error
    assert [entry["text"] for entry in log()] == ["say a", "say b", "refuse"]


def test_another_model_of_the_same_name_is_not_taken_for_it(
    start: Start, model: Path, tmp_path: Path
) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        answers(start(ledger=ledger), [ask("say a")])
        (model / "model.safetensors").write_bytes(bytes(3_000_000))
        assert not answers(start(ledger=ledger), [ask("say a")])[0].from_ledger
        weights = bytearray(3_000_000)
        weights[1_500_000:1_700_000] = b"\1" * 200_000
        (model / "model.safetensors").write_bytes(weights)
        assert not answers(start(ledger=ledger), [ask("say a")])[0].from_ledger
        assert ledger.count() == 3


def test_how_fast_a_model_is_computed_does_not_make_it_another(model: Path) -> None:
    plain = VllmEngine(model).identity
    assert VllmEngine(model, gpus=(0, 1), options={"gpu_memory_utilization": 0.5}).identity == plain
    assert VllmEngine(model, template_options={"enable_thinking": False}).identity != plain
    assert str(model) not in plain
    assert identify(
        {"model": "owner/name", "adapter": None, "template": None, "options": {}}
        | {"template_options": {}, "dtype": None}
    ).startswith("vllm:name@")


# --- what cannot be had ----------------------------------------------------------------------


def refused(engine: VllmEngine) -> str:
    with pytest.raises(ArenaJudgeError) as caught:
        list(engine.answer([ask("say a")]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_vllm_not_installed(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # An empty namespace package would be found: a folder without vllm is what has to be named.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'vllm' "
        "else find(name, *rest)\n"
    )
    message = refused(start())
    assert "vLLM is not installed" in message
    assert "pip install 'arena-judge[vllm]'" in message
    assert "ARENA_JUDGE_VLLM_PYTHON" in message


def test_an_interpreter_that_is_not_there(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_JUDGE_VLLM_PYTHON", "/nowhere/python")
    assert "/nowhere/python cannot be run" in refused(start())


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("No available memory for the cache blocks.", "out of memory (No available memory"),
        ("die", "out of memory (the system killed it"),
        ("illegal", "try float32"),
        ("exit", "ended with status"),
        ("Unknown architecture", "vLLM cannot load it (Unknown architecture)"),
    ],
)
def test_a_model_that_cannot_be_loaded(start: Start, model: Path, load: str, said: str) -> None:
    (model / "config.json").write_text(json.dumps({"load": load}))
    message = refused(start())
    assert said in message
    assert str(model) in message


def test_a_gpu_that_is_not_there(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_GPUS", "1")
    assert "there is no GPU 1 here" in refused(start(gpus=(0, 1)))


def test_a_model_without_a_chat_template(start: Start, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("none")
    assert "no chat template; give a chat template" in refused(start(template=template))


def test_an_adapter_that_vllm_refuses_is_refused_before_anything_is_asked(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_REFUSES", "lora")
    adapter = empty_adapter(tmp_path / "adapter", 16)
    said = refused(start(adapter=adapter, options={"max_lora_rank": 8}))
    assert said == f"{adapter}: LoRA rank 16 is greater than max_lora_rank 8."


def test_folders_that_are_not_there(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ArenaJudgeError, match="no such model folder"):
        VllmEngine(tmp_path / "nothing")
    with pytest.raises(ArenaJudgeError, match=r"it has no config\.json"):
        VllmEngine(tmp_path)
    with pytest.raises(ArenaJudgeError, match="no LoRA adapter"):
        VllmEngine(model, adapter=tmp_path)
    with pytest.raises(ArenaJudgeError, match="chat template cannot be read"):
        VllmEngine(model, template=tmp_path / "nothing")


def test_places() -> None:
    assert [place.gpu for place in choose_places((2, 0), 1)] == [2, 0]
    cores = sorted(os.sched_getaffinity(0))
    parts = [place.cores for place in choose_places((), len(cores))]
    if len(cores) > 1:
        assert [core for part in parts for core in part] == cores
    for gpus, engines in (((0, 0), 1), ((-1,), 1), ((0,), 2), ((), 0), ((), 10_000)):
        with pytest.raises(ArenaJudgeError):
            choose_places(gpus, engines)


# --- what vLLM is told -----------------------------------------------------------------------


def test_hardware_decides_how_a_model_is_computed() -> None:
    settings = {"model": "m", "options": {"max_num_seqs": 7}}
    gpu = llm_options(settings, cpu=False, bf16=True, config={})
    assert gpu["enable_prefix_caching"]
    assert not gpu["enforce_eager"]
    assert gpu["dtype"] == "bfloat16"
    assert gpu["max_num_seqs"] == 7
    assert "enable_chunked_prefill" not in gpu
    cpu = llm_options(settings, cpu=True, bf16=False, config={"max_position_embeddings": 20000})
    assert cpu["enforce_eager"]
    assert cpu["dtype"] == "float32"
    assert cpu["max_num_batched_tokens"] >= cpu["max_model_len"] == 20000
    quantised = {"quantization_config": {}}
    assert default_dtype(cpu=False, bf16=False, config={}) == "float16"
    assert default_dtype(cpu=False, bf16=True, config=quantised) == "auto"
    assert default_dtype(cpu=True, bf16=True, config=quantised) == "float16"


def test_rank_of_an_adapter(tmp_path: Path) -> None:
    for rank, allowed in ((4, 8), (8, 8), (64, 64), (65, 128)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
        assert lora_rank(str(tmp_path)) == allowed
    pattern = {"r": 8, "rank_pattern": {"q_proj": 40, "v_proj": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(pattern))
    assert lora_rank(str(tmp_path)) == 64
    for damaged in ("{}", "[]", '{"r": 8, "rank_pattern": [1]}'):
        (tmp_path / "adapter_config.json").write_text(damaged)
        with pytest.raises(Exception, match="not a LoRA adapter"):
            lora_rank(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "1 validation error for M\n  Value error, too long [type=x, y=1]\n  For more see",
            "too long",
        ),
        ("1 validation error for M\ndtype\n  no such [type=x]\n    For more see", "no such"),
        ("first\n\nsecond", "first"),
        ("", "ValueError"),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_an_error_is_one_line(error: str, line: str) -> None:
    assert one_line(ValueError(error)) == line


def test_the_engine_brings_nothing_heavy() -> None:
    code = "import sys, judge.engines.vllm; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "judge.engines.vllm" in told.stdout.split()
    assert not {"torch", "vllm"} & set(told.stdout.split())
