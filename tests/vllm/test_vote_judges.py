"""Judges that `finetune train --objective votes` makes, on vLLM: it puts the adapter to the model
as peft does, in the process and behind a server, and the replies are the adapter's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml

from judge.ballots import CRITERIA
from judge.battles import read_battles
from judge.encoding import BattleText
from judge.engines.base import Parameters, Request
from judge.engines.ledger import Ledger
from judge.engines.vllm import INTERPRETER, VllmEngine
from judge.errors import ArenaJudgeError
from judge.judges import load_judge
from judge.judges.asking import Asking
from judge.judges.base import Judgments
from judge.judges.prompted import PromptedJudge
from judge.judges.prompted_settings import PromptedSettings
from judge.predictions import read_predictions
from judge.prompt_files import load_prompt

if TYPE_CHECKING:
    from conftest import Server, TinyModel

pytest.importorskip("torch")
pytest.importorskip("peft")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

ROOT = Path(__file__).parents[2]
BATTLES = ROOT / "examples" / "battles.csv"
LENGTH = 4096
PROMPT = "criterion"  # a ballot is five replies of a word: soon learned
ROWS = 2
ASKED = 2 * ROWS * len(CRITERIA)
SAID = 12  # tokens of a reply that are held against peft's, at most
TOP = 5
# A rank that vLLM has no kernels for by itself, another scale, and a layer without an adapter.
LORA = ["--lora", "--lora-r", "12", "--rslora", "--skip-layers", "1", "--lr", "0.01"]
FULL = ["--no-lora", "--lr", "0.003"]


def battles() -> pd.DataFrame:
    return read_battles(BATTLES).head(ROWS)


def requests(**more: Any) -> list[Request]:
    """What the judge is asked about these battles, in both orders."""
    prompt = load_prompt(PROMPT)
    table = battles()
    texts = map(BattleText, table["prompt"], table["response_a"], table["response_b"])
    return [
        Request(prompt.render(one, order, question), Parameters("tiny", **more))
        for one in texts
        for order in ("AB", "BA")
        for question in prompt.questions
    ]


@pytest.fixture(scope="module")
def ballots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ballots that find all answers equally good."""
    rows = [
        {
            "id": str(number * ROWS // ASKED),
            "messages": [
                *({"role": one.role, "content": one.content} for one in request.messages),
                {"role": "assistant", "content": "AB"},
            ],
        }
        for number, request in enumerate(requests())
    ]
    file = tmp_path_factory.mktemp("ballots") / "ballots.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def trained(ballots: Path, model: Path, target: Path, *options: str) -> Path:
    """A judge of a few steps, by the command."""
    command = [sys.executable, "-m", "judge", "finetune", "train", str(ballots)]
    command += ["--objective", "votes", "--base", str(model), "-o", str(target), *options]
    command += ["--step-battles", "4", "--epochs", "4", "--dev-share", "0", "--device", "cpu"]
    command += ["--max-length", str(LENGTH), "--no-tensorboard"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def folder(ballots: Path, tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge with an adapter."""
    target = tmp_path_factory.mktemp("judges") / "votes"
    return trained(ballots, tiny_model.model, target, *LORA)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger") / "ledger.sqlite"


@pytest.fixture(scope="module")
def judge(folder: Path, ledger: Path, vllm_python: str) -> Iterator[PromptedJudge]:
    """The judge in that folder, loaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(INTERPRETER, vllm_python)
        made = load_judge(folder, PromptedSettings(ledger=str(ledger)))
        assert isinstance(made, PromptedJudge)
        with closing(made):
            yield made


@pytest.fixture(scope="module")
def judged(judge: PromptedJudge) -> Judgments:
    return judge.judge(battles(), ballots=True)


@pytest.fixture(scope="module")
def base(engine: VllmEngine) -> Judgments:
    """What the model says without the adapter."""
    asking = Asking("tiny", context=LENGTH)
    return PromptedJudge(engine, load_prompt(PROMPT), asking).judge(battles())


def test_ballots_of_both_orders_come_out_as_they_were_taught(
    judged: Judgments, base: Judgments, ledger: Path
) -> None:
    assert np.isfinite(judged.proba).all()
    assert np.abs(judged.proba.sum(axis=1) - 1).max() < 1e-9
    assert judged.ballots is not None
    assert judged.ballots["order"].tolist() == ["AB", "BA"] * ROWS
    said = [line.split(": ") for reply in judged.ballots["reply"] for line in reply.split("\n")]
    assert [criterion for criterion, _ in said] == sorted(CRITERIA) * (2 * ROWS)
    assert np.mean([vote == "AB" for _, vote in said]) > 0.9
    assert (judged.proba[:, 2] > base.proba[:, 2] + 0.05).all()
    with Ledger(ledger) as kept:
        assert kept.count() >= ASKED


def test_the_adapter_does_what_it_does_in_peft(judge: PromptedJudge, folder: Path) -> None:
    """Token by token: what is likeliest, and how likely; nothing keeps the replies to a form."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = yaml.safe_load((folder / "judge.yaml").read_text())
    where = folder / settings["judge"].removeprefix("vllm:")
    tokenizer = AutoTokenizer.from_pretrained(where)
    plain = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32)
    asked = requests(max_tokens=SAID, top_logprobs=TOP)[::3]
    found = dict(judge.engine.answer(iter(asked)))
    model = PeftModel.from_pretrained(plain, str(folder / "adapter")).eval()
    changed = 0.0
    for place, request in enumerate(asked):
        reply = found[place]
        assert reply.error is None
        assert reply.logprobs is not None
        said = [{"role": one.role, "content": one.content} for one in request.messages]
        text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        before = ids.shape[1]
        assert before == reply.usage.prompt
        for choice in reply.logprobs:
            with torch.no_grad():
                likely = torch.log_softmax(model(ids).logits[0, -1].double(), -1)
                with model.disable_adapter():
                    bare = torch.log_softmax(model(ids).logits[0, -1].double(), -1)
            best = int(likely.argmax())
            changed = max(changed, float((likely - bare).abs().max()))
            assert tokenizer.decode([best]) == choice.token or best == tokenizer.eos_token_id
            said_so = [value for _, value in choice.top]
            np.testing.assert_allclose(likely.topk(TOP).values.numpy(), said_so, atol=2e-3)
            ids = torch.cat([ids, torch.tensor([[best]])], dim=1)
        assert len(reply.logprobs) == ids.shape[1] - before
    assert changed > 1, "the adapter has learned next to nothing, so that nothing is shown"


def run(*arguments: object, folder: Path, ledger: Path) -> subprocess.CompletedProcess[str]:
    """A command, as users run it."""
    environment = os.environ | {"ARENA_JUDGE_LEDGER": str(ledger), "PYTHONPATH": str(ROOT)}
    environment |= {"NO_PROXY": "127.0.0.1,localhost"}
    command = [sys.executable, "-m", "judge", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """The battles in a file."""
    file = tmp_path / "battles.jsonl"
    battles()[["id", "prompt", "response_a", "response_b"]].to_json(
        file, orient="records", lines=True
    )
    return file


def test_score_takes_the_folder_and_asks_nothing_twice(
    folder: Path, judged: Judgments, ledger: Path, few: Path, tmp_path: Path
) -> None:
    """All is known, and the context said, so that not even the model is loaded."""
    options = ("--context", LENGTH, "-o", "out.csv", "--ballots", "votes.csv", "--json")
    done = run("score", few, "--judge", folder, *options, folder=tmp_path, ledger=ledger)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)["asked"]
    assert report["statistics"]["calls"] == 0
    assert report["statistics"]["from_ledger"] == ASKED
    proba = read_predictions(tmp_path / "out.csv").iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(proba, judged.proba, atol=1e-9)
    votes = pd.read_csv(tmp_path / "votes.csv", keep_default_na=False)
    assert len(votes) == 2 * ROWS


def test_a_server_with_the_adapter_says_the_same(
    folder: Path,
    judged: Judgments,
    base: Judgments,
    tiny_model: TinyModel,
    vllm_python: str,
    serve: Callable[..., AbstractContextManager[Server]],
    few: Path,
    tmp_path: Path,
) -> None:
    """Served with --enable-lora --lora-modules NAME=FOLDER, under a recipe that asks for NAME."""
    adapter = ("--enable-lora", "--max-lora-rank", "16", "--lora-modules")
    with serve(
        vllm_python, tiny_model.model, tmp_path / "log.txt", *adapter, f"votes={folder / 'adapter'}"
    ) as server:
        asking = {"prompt": PROMPT, "base_urls": [server.url]}
        found = {}
        for name in ("votes", server.model):
            recipe = {"kind": "prompted", "judge": f"endpoint:{name}", "asking": asking}
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
            options = ("--judge", f"{name}.yaml", "-o", f"{name}.csv", "--json")
            done = run("score", few, *options, folder=tmp_path, ledger=tmp_path / "l.sqlite")
            assert done.returncode == 0, done.stderr
            (report,) = json.loads(done.stdout)["asked"]
            assert report["statistics"]["calls"] == ASKED
            found[name] = read_predictions(tmp_path / f"{name}.csv").iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(found["votes"], judged.proba, atol=5e-3)
    np.testing.assert_allclose(found[server.model], base.proba, atol=5e-3)
    assert np.abs(found["votes"] - found[server.model]).max() > 0.05


def test_a_judge_of_which_all_weights_learned_is_asked_as_it_lies(
    ballots: Path, tiny_model: TinyModel, base: Judgments, vllm_python: str, few: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Moved elsewhere, and its base gone: the folder has all."""
    made = trained(ballots, tiny_model.model, tmp_path / "made", *FULL)
    assert not (made / "adapter").exists()
    made.rename(tmp_path / "moved")
    monkeypatch.setenv(INTERPRETER, vllm_python)
    options = ("--judge", "moved", "-o", "out.csv", "--json")
    done = run("score", few, *options, folder=tmp_path, ledger=tmp_path / "ledger.sqlite")
    assert done.returncode == 0, done.stderr
    proba = read_predictions(tmp_path / "out.csv").iloc[:, 1:].to_numpy()
    assert (proba[:, 2] > base.proba[:, 2] + 0.05).all()


def test_what_vllm_refuses_of_an_adapter_is_one_line_before_anything_is_asked(
    folder: Path, tiny_model: TinyModel, vllm_python: str
) -> None:
    engine = VllmEngine(
        tiny_model.model,
        adapter=folder / "adapter",
        max_model_len=LENGTH,
        interpreter=vllm_python,
        options={"max_lora_rank": 8},
    )
    with engine, pytest.raises(ArenaJudgeError) as caught:
        list(engine.answer(requests()[:1]))
    assert str(caught.value) == (
        f"{folder / 'adapter'}: LoRA rank 12 is greater than max_lora_rank 8."
    )
