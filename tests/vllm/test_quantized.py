"""Judges in few bits: vLLM answers with them, and transformers reads the same numbers from them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import torch
import yaml

from finetune.quantizing.making import quantize
from finetune.quantizing.settings import Settings
from finetune.rows.sources import read_pool
from judge.battles import read_battles
from judge.encoding import BattleText
from judge.engines.base import Parameters, Request
from judge.engines.vllm import VllmEngine
from judge.prompt_files import load_prompt

if TYPE_CHECKING:
    from conftest import TinyModel

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

BATTLES = Path(__file__).parents[2] / "examples" / "battles.csv"
LENGTH = 2048
PATIENCE = 600.0
# What transformers makes of a folder, with the package that it reads such weights by.
READ = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
with torch.inference_mode():
    print(json.dumps(model(input_ids=torch.arange(5, 40)[None]).logits[0, -1].tolist()))
"""


def small_judge(model: Path, folder: Path, **settings: Any) -> Path:
    """A judge that writes ballots, in few bits; the folder of its model."""
    judge = folder / "judge"
    shutil.copytree(model, judge / "model")
    said = {"kind": "prompted", "judge": "vllm:model", "asking": {"prompt": "discriminator"}}
    (judge / "judge.yaml").write_text(yaml.safe_dump(said))
    pool = read_pool([str(BATTLES)], labelled=False)
    wanted = Settings(texts=8, group=32, device="cpu", **settings)
    quantize(judge, pool, folder / "small", wanted)
    return folder / "small" / "model"


@pytest.mark.parametrize(("bits", "how"), [(8, "w8a8"), (4, "gptq")])
def test_vllm_answers_with_it(
    bits: int, how: str, vllm_python: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    small = small_judge(tiny_model.model, tmp_path, bits=bits, how=how)
    prompt = load_prompt("discriminator")
    battle = read_battles(BATTLES).iloc[0]
    texts = BattleText(
        tuple(battle["prompt"]), tuple(battle["response_a"]), tuple(battle["response_b"])
    )
    parameters = Parameters("tiny", schema=prompt.schema(), max_tokens=prompt.max_tokens)
    requests = [
        Request(prompt.render(texts, order, prompt.questions[0]), parameters)
        for order in ("AB", "BA")
    ]
    with VllmEngine(small, interpreter=vllm_python, max_model_len=LENGTH) as engine:
        replies = dict(engine.answer(requests))
    assert sorted(replies) == [0, 1]
    for reply in replies.values():
        assert reply.error is None
        assert reply.text


@pytest.mark.parametrize(("bits", "how"), [(8, "gptq"), (4, "gptq"), (8, "nearest")])
def test_transformers_reads_the_same_numbers(
    bits: int, how: str, vllm_python: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    from judge.classifier.quantized import Scheme, read_codes

    small = small_judge(tiny_model.model, tmp_path, bits=bits, how=how)
    done = subprocess.run(
        [vllm_python, "-c", READ, small],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    theirs = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    codes, rest = read_codes(small, Scheme(bits))
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model.model, dtype=torch.float32)
    dense = {f"{name}.weight": one.dense(torch.float32) for name, one in codes.items()}
    model.load_state_dict({name: one.float() for name, one in (rest | dense).items()})
    with torch.inference_mode():
        ours = model(input_ids=torch.arange(5, 40)[None]).logits[0, -1]
    assert torch.allclose(ours, theirs, atol=1e-4)
