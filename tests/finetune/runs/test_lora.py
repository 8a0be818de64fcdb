"""Adapters by family, and what training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from finetune.runs.running import run
from finetune.runs.starting import start
from judge.battles import read_battles
from judge.errors import ArenaJudgeError, InputError
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.finetune.small import battles_file, small
from tests.finetune.tiny import FAMILIES, LAYERS, tiny_model

CPU = torch.device("cpu")
EXACT = ClassifierSettings(device=("cpu",), dtype="float32")
EXPECTED = {
    "llama": "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj",
    "qwen2": "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj",
    "gemma2": "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj",
    "phi3": "qkv_proj o_proj gate_up_proj down_proj",
    "bert": "query key value dense",
    "modernbert": "Wqkv Wo Wi",
    "deberta-v2": "query_proj key_proj value_proj dense",
    "distilbert": "q_lin k_lin v_lin out_lin lin1 lin2",
}


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles_file(tmp_path_factory.mktemp("battles") / "battles.csv")


def adapters(network: torch.nn.Module) -> dict[str, set[int]]:
    """The modules that have one, with the layers they are in."""
    import re

    found: dict[str, set[int]] = {}
    for name, _ in network.named_parameters():
        if "lora_A" in name:
            module = name.split(".lora_A")[0]
            number = re.search(r"\.(\d+)\.", module)
            assert number is not None
            found.setdefault(module.rpartition(".")[2], set()).add(int(number[1]))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_adapted_in_every_layer(family: str, battles: Path, tmp_path: Path) -> None:
    base = tiny_model(family, tmp_path / "base")
    network = start(small(battles, base, lora__lora=True), CPU).network
    found = adapters(network)
    if family in EXPECTED:
        assert set(found) == set(EXPECTED[family].split())
    assert set().union(*found.values()) == set(range(LAYERS))
    learning = {n for n, one in network.named_parameters() if one.requires_grad}
    assert all("lora_" in name or name.startswith("head.") for name in learning)
    assert any(name.startswith("head.") for name in learning)


def test_layers_and_modules_can_be_left_out(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("llama", tmp_path / "base")
    told = {"lora__skip_layers": 1, "lora__targets": ("q_proj", "v_proj"), "lora__r": 3}
    network = start(small(battles, base, **told), CPU).network
    assert adapters(network) == {"q_proj": {1}, "v_proj": {1}}
    ranks = {one.shape[0] for name, one in network.named_parameters() if "lora_A" in name}
    assert ranks == {3}
    with pytest.raises(InputError, match=r"no modules called query to adapt; it has down_proj"):
        start(small(battles, base, lora__targets=("query",)), CPU)
    with pytest.raises(InputError, match="has 2 layers, and 2 are skipped"):
        start(small(battles, base, lora__skip_layers=2), CPU)


@pytest.mark.parametrize(
    "told", [{}, {"lora__dora": True}, {"lora__rslora": True}, {"lora__skip_layers": 1}]
)
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_an_adapted_judge_is_the_one_that_was_trained(
    family: str, told: dict[str, Any], battles: Path, tmp_path: Path
) -> None:
    base = tiny_model(family, tmp_path / "base")
    made = run(small(battles, base, lora__lora=True, **told), tmp_path / "judge")
    assert made.learning < made.parameters / 2
    files = {file.name for file in (tmp_path / "judge").iterdir()}
    assert {"adapter_model.safetensors", "head.safetensors", "train.yaml", "seen.npz"} <= files
    assert "model.safetensors" not in files
    judge = load_judge(tmp_path / "judge", running=EXACT)
    proba = judge.predict_proba(read_battles(battles))
    assert np.isfinite(proba).all()
    again = measured(judge, battles, tmp_path / "judge")
    assert again == pytest.approx(made.scores[0].log_loss, abs=1e-4)


def measured(judge: Any, battles: Path, folder: Path) -> float:
    """A judge's log loss on the dev battles of its own run."""
    from finetune.runs.preparing import read
    from finetune.settings.config import read_config
    from judge.metrics import log_loss

    dev = read(read_config(folder / "train.yaml")).dev
    assert dev is not None
    return float(log_loss(dev.labels, judge.predict_proba(dev.battles)))


# --- going on -------------------------------------------------------------------------------------


def predictions(folder: Path, battles: Path) -> Any:
    return load_judge(folder, running=EXACT).predict_proba(read_battles(battles))


@pytest.mark.parametrize("lora", [True, False])
def test_a_judge_that_learns_nothing_more_stays_what_it_is(
    lora: bool, battles: Path, tmp_path: Path
) -> None:
    base = tiny_model("llama", tmp_path / "base")
    run(small(battles, base, lora__lora=lora, model__head="symmetric"), tmp_path / "first")
    still = {
        "model__init": str(tmp_path / "first"), "model__base": None, "optimisation__lr": 0.0,
    }  # fmt: skip
    run(small(battles, base, **still), tmp_path / "second")
    one, other = (predictions(tmp_path / name, battles) for name in ("first", "second"))
    np.testing.assert_allclose(one, other, atol=1e-5)
    run(small(battles, base, **still, lora__lora=not lora), tmp_path / "third")
    np.testing.assert_allclose(one, predictions(tmp_path / "third", battles), atol=1e-5)


def test_going_on_with_a_judge_goes_on_learning(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "base")
    first = run(small(battles, base, optimisation__epochs=4.0), tmp_path / "first")
    told = {"model__init": str(tmp_path / "first"), "model__base": None}
    second = run(small(battles, base, **told), tmp_path / "second")
    assert first.outcome.dev_log_loss is not None
    assert second.outcome.dev_log_loss is not None
    assert second.outcome.dev_log_loss < first.outcome.dev_log_loss + 0.3
    with pytest.raises(InputError, match="is a judge of the form pair, and --form single"):
        run(small(battles, base, **told, model__form="single"), tmp_path / "third")


def test_a_reward_model_is_a_judge_from_the_beginning(battles: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from finetune.runs.preparing import encoder_of

    reward = tiny_model("llama", tmp_path / "reward", labels=1)
    config = small(battles, reward, model__base=None, model__init=str(reward), model__form="single")
    begun = start(config, CPU)
    assert "the head begins with the reward" in begun.notes[0]
    encoded = encoder_of(begun).encode(read_battles(battles).head(4))
    with torch.no_grad():
        logits = begun.network.eval()(encoded.ids, encoded.shared.tolist())
    plain = AutoModelForSequenceClassification.from_pretrained(reward, dtype=torch.float32).eval()
    assert AutoTokenizer.from_pretrained(reward) is not None
    rewards = []
    for ids in encoded.ids:
        with torch.no_grad():
            rewards.append(float(plain(torch.tensor(ids[None].astype(np.int64))).logits[0, 0]))
    apart = np.array(rewards[0::2]) - np.array(rewards[1::2])
    np.testing.assert_allclose((logits[:, 0] - logits[:, 1]).numpy(), apart, atol=1e-4)


def test_a_reward_is_left_aside_where_it_says_nothing(battles: Path, tmp_path: Path) -> None:
    reward = tiny_model("llama", tmp_path / "reward", labels=1)
    config = small(battles, reward, model__base=None, model__init=str(reward))
    assert "is left aside; --form single would use it" in start(config, CPU).notes[0]
    with pytest.raises(InputError, match="leave out --base"):
        start(small(battles, reward, model__init=str(reward)), CPU)


def test_an_adapter_of_a_model_that_writes_goes_on_as_a_judge(
    battles: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = tiny_model("llama", tmp_path / "base")
    writer = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(writer, settings)
    with torch.no_grad():
        for name, one in adapted.named_parameters():
            if "lora_B" in name:
                one.normal_(0, 0.3)
    adapted.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    network = start(small(battles, base, model__init=str(tmp_path / "adapter")), CPU).network
    ids = torch.arange(5, 20)
    with torch.no_grad():
        expected = adapted.eval().base_model.model.model(ids[None]).last_hidden_state[0, -1]
        found = network.eval().states([ids])[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    other = tiny_model("llama", tmp_path / "wide", num_hidden_layers=3)
    (tmp_path / "short").mkdir()
    import shutil

    shutil.copytree(tmp_path / "adapter", tmp_path / "short", dirs_exist_ok=True)
    with pytest.raises(InputError, match="adapter for another model: it lacks"):
        start(small(battles, other, model__init=str(tmp_path / "short")), CPU)


# --- what cannot be -------------------------------------------------------------------------------


def test_what_does_not_go_together_is_one_line(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "base")
    with pytest.raises(InputError, match="name one: --base MODEL"):
        start(small(battles, base, model__base=None), CPU)
    with pytest.raises(InputError, match="weights in few bits cannot be trained; add --lora"):
        start(small(battles, base, model__quantize="4bit", lora__lora=False), CPU)
    with pytest.raises(InputError, match="a plain head would see only one"):
        start(small(battles, base, model__form="single", model__head="plain"), CPU)
    with pytest.raises(InputError, match="is no folder to go on from"):
        start(small(battles, base, model__init=str(tmp_path / "nowhere")), CPU)
    with pytest.raises(InputError, match="holds no judge, adapter or model"):
        start(small(battles, base, model__init=str(tmp_path)), CPU)
    with pytest.raises(ArenaJudgeError, match="max_length is 4000"):
        start(small(battles, base, model__max_length=4000), CPU)


@pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("bitsandbytes") is not None,
    reason="bitsandbytes is here",
)
def test_without_bitsandbytes_few_bits_are_one_line(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("llama", tmp_path / "base")
    with pytest.raises(ArenaJudgeError, match="bitsandbytes") as caught:
        start(small(battles, base, model__quantize="4bit"), CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_of_the_base_is_what_is_asked_for(
    family: str, battles: Path, tmp_path: Path
) -> None:
    base = tiny_model(family, tmp_path / "base")
    ids = [np.arange(5, 25), np.arange(9, 19)]
    spread = {}
    for share in (0.0, 0.4):
        told = small(battles, base, model__inner_dropout=share, lora__lora=False)
        network = start(told, CPU).network.train()
        with torch.no_grad():
            spread[share] = float((network.states(ids) - network.states(ids)).abs().max())
    assert spread[0.0] == 0.0
    assert spread[0.4] > 0.0
