"""`arena-judge finetune quantize`, from a judge's folder to a small one that judges alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from finetune.quantizing.making import quantize
from finetune.quantizing.settings import Settings
from finetune.quantizing.texts import asked_texts, judged_texts, stratified
from finetune.rows.sources import Pool, read_pool
from judge.classifier.network import build
from judge.classifier.quantized import ByteLinear, PackedLinear, load_quantized, scheme_of
from judge.classifier.storing import load_network, save_network
from judge.classifier.templates import load_template
from judge.classifier.tokens import BattleEncoder
from judge.cli.main import cli
from judge.errors import ArenaJudgeError, InputError
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.finetune.runs.test_votes import chat_model
from tests.finetune.small import battles_file
from tests.finetune.tiny import CAUSAL, FAMILIES, tiny_model, tiny_tokenizer

FLOAT32 = ClassifierSettings(dtype="float32", device=("cpu",))


def judge_folder(family: str, folder: Path, **more: Any) -> Path:
    """A judge of a tiny model whose head has much to say."""
    base = tiny_model(family, folder / "base")
    form: dict[str, Any] = {} if family in CAUSAL else {"form": "single", "head": "symmetric"}
    network, tokenizer = build(str(base), max_length=64, seed=1, **form, **more)
    with torch.no_grad():
        for one in network.head.parameters():
            one.mul_(10)
    judge = folder / "judge"
    said = save_network(network, tokenizer, judge)
    (judge / "judge.yaml").write_text(yaml.safe_dump({**said, "name": "mine"}))
    return judge


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles_file(tmp_path_factory.mktemp("battles") / "battles.csv", 40)


@pytest.fixture(scope="module")
def pool(battles: Path) -> Pool:
    return read_pool([str(battles)], labelled=False)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Judges by family, made once."""
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            made[family] = judge_folder(family, tmp_path_factory.mktemp(family))
        return made[family]

    return of


def settings_for(**values: Any) -> Settings:
    return Settings(**{"texts": 16, "group": 16, "device": "cpu", **values})


def said_by(folder: Path, pool: Pool) -> np.ndarray[Any, np.dtype[np.float64]]:
    judge = load_judge(str(folder), running=FLOAT32)
    try:
        return judge.predict_proba(pool.battles)
    finally:
        judge.close()


def states_of(folder: Path, pool: Pool) -> torch.Tensor:
    """What the network makes of battles before its head."""
    settings = yaml.safe_load((folder / "judge.yaml").read_text())
    network, tokenizer = load_network(folder, settings)
    shape = network.shape
    encoder = BattleEncoder(tokenizer, load_template(shape.template), shape.max_length)
    encoded = encoder.encode(pool.battles.iloc[:8])
    with torch.inference_mode():
        return network.states(encoded.ids)


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_what_it_says(
    family: str, judges: Callable[[str], Path], pool: Pool, tmp_path: Path
) -> None:
    judge = judges(family)
    before = states_of(judge, pool)
    found = {}
    for bits, how in ((8, "gptq"), (8, "w8a8"), (4, "gptq")):
        target = tmp_path / f"{how}-{bits}"
        made = quantize(judge, pool, target, settings_for(bits=bits, how=how))
        assert made.layers > 4
        assert made.after < made.half < made.before
        found[how, bits] = alike(before, states_of(target, pool))
    assert found["gptq", 8] > 0.9995
    assert found["w8a8", 8] > 0.995
    assert found["gptq", 4] > 0.85


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_small_judge_judges_alike(
    family: str, judges: Callable[[str], Path], pool: Pool, tmp_path: Path
) -> None:
    judge, target = judges(family), tmp_path / "small"
    told: list[tuple[int, int]] = []
    made = quantize(
        judge, pool, target, settings_for(), tick=lambda done, layers: told.append((done, layers))
    )
    assert told == [(1, 2), (2, 2)]
    assert (made.how, made.scheme, made.texts) == ("gptq", "W8A16", 16)
    first, second = said_by(judge, pool), said_by(target, pool)
    assert second == pytest.approx(first, abs=0.02)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, said_by(target, pool))
    recipe = yaml.safe_load((target / "judge.yaml").read_text())
    assert recipe["kind"] == "classifier"
    assert recipe["weights"] == "full"
    assert recipe["name"] == "mine"
    assert recipe["quantized"]["bits"] == 8
    head = load_file(judge / "head.safetensors")
    for name, tensor in load_file(target / "head.safetensors").items():
        assert torch.equal(tensor, head[name])
    assert not (tmp_path / "small.quantizing").exists()


def test_the_same_again_and_from_battles_in_another_order(
    judges: Callable[[str], Path], pool: Pool, tmp_path: Path
) -> None:
    judge = judges("bert")
    turned = pool.take(np.arange(len(pool))[::-1].copy())
    renamed = turned.battles.assign(id=[f"other {n}" for n in range(len(turned))])
    other = replace(turned, battles=renamed)
    found = []
    for number, (seen, seed) in enumerate(((pool, 0), (other, 0), (pool, 1))):
        target = tmp_path / str(number)
        quantize(judge, seen, target, settings_for(bits=4, seed=seed, texts=4))
        found.append((target / "model.safetensors").read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_goes_on_where_it_was(
    judges: Callable[[str], Path], pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, target, whole = judges("llama"), tmp_path / "small", tmp_path / "whole"
    quantize(judge, pool, whole, settings_for(bits=4))

    def killed(done: int, layers: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(judge, pool, target, settings_for(bits=4), tick=killed)
    assert not target.exists()
    import finetune.quantizing.rounding as rounding

    worked: list[int] = []
    own = rounding._rounded

    def counted(*everything: Any) -> Any:
        worked.append(1)
        return own(*everything)

    monkeypatch.setattr(rounding, "_rounded", counted)
    quantize(judge, pool, target, settings_for(bits=4))
    assert len(worked) == 1
    assert (target / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        quantize(judge, pool, target, settings_for(bits=4), tick=killed)
    quantize(judge, pool, target, settings_for(bits=8))  # another run begins anew
    assert len(worked) == 4


def test_what_lies_in_the_way_stays(
    judges: Callable[[str], Path], pool: Pool, tmp_path: Path
) -> None:
    other = tmp_path / "small.quantizing" / "thesis.txt"
    other.parent.mkdir()
    other.write_text("mine")
    with pytest.raises(InputError, match="something else"):
        quantize(judges("bert"), pool, tmp_path / "small", settings_for())
    assert other.read_text() == "mine"


def test_an_adapter_is_merged_first(battles: Path, pool: Pool, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from finetune.runs import lora
    from finetune.settings.config import LoraConfig

    base = tiny_model("llama", tmp_path / "base")
    network, tokenizer = build(str(base), max_length=64, seed=1)
    network.backbone = lora.adapted(network.backbone, LoraConfig(), seed=0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
    judge = tmp_path / "judge"
    said = save_network(network, tokenizer, judge)
    assert said["weights"] == "lora"
    (judge / "judge.yaml").write_text(yaml.safe_dump(said))
    target = tmp_path / "deep" / "small"
    quantize(judge, pool, target, settings_for())
    recipe = yaml.safe_load((target / "judge.yaml").read_text())
    assert recipe["weights"] == "full"
    assert (target / recipe["base"]).resolve() == base.resolve()
    assert said_by(target, pool) == pytest.approx(said_by(judge, pool), abs=0.02)


@pytest.mark.parametrize("how", ["gptq", "w8a8"])
def test_weights_stay_small_on_a_gpu(
    how: str, judges: Callable[[str], Path], pool: Pool, tmp_path: Path
) -> None:
    """Where they are kept in few bits, they say what they say multiplied out."""
    from judge.classifier.loading import load_config

    target = tmp_path / "small"
    quantize(judges("bert"), pool, target, settings_for(how=how))
    config = load_config(str(target))
    scheme = scheme_of(config, target)
    assert scheme is not None
    model = load_quantized(
        target, config, scheme, dtype=torch.float32, device="meta" if how == "gptq" else "cpu"
    )
    kinds = {type(one) for one in model.modules()}
    assert (PackedLinear if how == "gptq" else ByteLinear) in kinds


# --- judges that write ballots --------------------------------------------------------------------


def vote_judge(folder: Path) -> Path:
    judge = folder / "writes"
    chat_model("llama", judge / "model")
    said = {"kind": "prompted", "judge": "vllm:model", "asking": {"prompt": "discriminator"}}
    (judge / "judge.yaml").write_text(yaml.safe_dump(said))
    return judge


def test_a_judge_that_writes(pool: Pool, battles: Path, tmp_path: Path) -> None:
    judge, target = vote_judge(tmp_path), tmp_path / "small"
    made = quantize(judge, pool, target, settings_for(bits=4, texts=4))
    recipe = yaml.safe_load((target / "judge.yaml").read_text())
    assert recipe["judge"] == "vllm:model"
    assert recipe["asking"] == {"prompt": "discriminator"}
    said = json.loads((target / "model" / "config.json").read_text())
    assert said["quantization_config"]["quant_method"] == "compressed-tensors"
    assert said["quantization_config"]["ignore"] == ["lm_head"]
    assert made.kept == 1
    held = load_file(target / "model" / "model.safetensors")
    assert held["model.layers.0.mlp.down_proj.weight_packed"].dtype == torch.int32
    assert held["lm_head.weight"].dtype == torch.float16
    dev = run(judge, tmp_path / "other", battles, "--dev", battles)
    assert dev.exit_code == 2
    assert "arena-judge compare" in dev.stderr


def test_what_a_judge_is_asked_is_what_it_is_calibrated_by(pool: Pool, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("llama")
    with pytest.raises(InputError, match="no chat template"):
        asked_texts("discriminator", tokenizer, pool, 4, seed=0)
    tokenizer.chat_template = "{% for one in messages %}{{ one['content'] }}{% endfor %}"
    texts = asked_texts("discriminator", tokenizer, pool, 4, seed=0)
    assert len(texts) == 4
    assert "which" in tokenizer.decode(texts[0])


# --- what it is calibrated by ---------------------------------------------------------------------


def test_texts_are_of_all_lengths() -> None:
    lengths = np.random.default_rng(0).permutation(1000)
    rows = stratified(lengths, 10, np.random.default_rng(1))
    assert sorted(lengths[rows] // 100) == list(range(10))
    assert len(stratified([5, 6], 10, np.random.default_rng(0))) == 2


def test_texts_are_read_as_the_judge_reads_them(pool: Pool) -> None:
    encoder = BattleEncoder(tiny_tokenizer("llama"), load_template("a-then-b"), 64)
    texts = judged_texts(encoder, pool, 12, seed=0)
    every = encoder.encode(pool.battles, ("AB", "BA")).ids
    known = {one.tobytes() for one in every}
    assert len(texts) == 12
    assert all(one.tobytes() in known for one in texts)
    with pytest.raises(InputError, match="no battles"):
        judged_texts(encoder, pool.take(np.array([], dtype=np.int64)), 12, seed=0)


# --- the command ----------------------------------------------------------------------------------


def run(judge: Path, target: Path, battles: Path, *more: object) -> Result:
    words = ["finetune", "quantize", judge, "--calibration", battles, "-o", target]
    words += ["--texts", 8, "--group-size", 16, "--device", "cpu", *more]
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_the_command(judges: Callable[[str], Path], battles: Path, tmp_path: Path) -> None:
    target = tmp_path / "small"
    done = run(judges("bert"), target, battles, "--dev", battles)
    assert done.exit_code == 0, done.output
    assert "log loss" in done.stdout
    assert "tokens/s" in done.stdout
    assert f"{target}: written; 12 weights as W8A16 by gptq, calibrated on 8 texts" in done.stderr
    measured = yaml.safe_load((target / "judge.yaml").read_text())["quantized"]["measured"]
    assert measured["battles"] == 40
    assert abs(measured["difference"]) < 0.02
    assert measured["low"] <= measured["difference"] <= measured["high"]
    scored = CliRunner().invoke(
        cli, ["score", str(battles), "--judge", str(target), "-o", str(tmp_path / "p.csv")]
    )
    assert scored.exit_code == 0, scored.output
    assert pd.read_csv(tmp_path / "p.csv").iloc[:, 1:].sum(axis=1).to_numpy() == pytest.approx(1)
    again = run(judges("bert"), target, battles)
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    forced = run(judges("bert"), target, battles, "--force", "--json", "--how", "nearest")
    assert forced.exit_code == 0, forced.output
    told = json.loads(forced.stdout)
    assert told["how"] == "nearest"
    assert told["worth"] is None
    assert told["after"] < told["before"]


def test_refusals(judges: Callable[[str], Path], battles: Path, tmp_path: Path) -> None:
    judge, target = judges("bert"), tmp_path / "small"
    for words, what in (
        (("--how", "w8a8", "--bits", 4), "w8a8 is 8 bits"),
        (("--group-size", 9), "by the eight"),
        (("--dev", tmp_path / "none.csv"), "no such file"),
    ):
        done = run(judge, target, battles, *words)
        assert done.exit_code == 2, done.output
        assert what in done.stderr
    inside = run(judge, judge, battles, "--force")
    assert inside.exit_code == 2
    assert "which is read" in inside.stderr
    statistical = tmp_path / "counts"
    statistical.mkdir()
    (statistical / "judge.yaml").write_text("kind: statistical\n")
    done = run(statistical, target, battles)
    assert done.exit_code == 2
    assert not target.exists()
    assert run(judge, target, battles).exit_code == 0
    twice = run(target, tmp_path / "smaller", battles)
    assert twice.exit_code == 2
    assert "few bits" in twice.stderr


def test_a_model_with_a_weight_that_is_no_number(
    pool: Pool, tmp_path: Path, judges: Callable[[str], Path]
) -> None:
    judge = judge_folder("bert", tmp_path)
    weights = load_file(judge / "model.safetensors")
    name = next(one for one in weights if one.endswith("query.weight"))
    weights[name][0, 0] = float("nan")
    save_file(weights, judge / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArenaJudgeError, match="finite"):
        quantize(judge, pool, tmp_path / "small", settings_for())
    assert not (tmp_path / "small").exists()


def test_without_the_library(
    judges: Callable[[str], Path],
    battles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    done = run(judges("bert"), tmp_path / "small", battles, "--how", "bitsandbytes")
    assert done.exit_code != 0
    assert "pip install bitsandbytes" in done.stderr
    assert not (tmp_path / "small").exists()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("bits", [8, 4])
def test_the_library(
    family: str, bits: int, judges: Callable[[str], Path], pool: Pool, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    judge, target = judges(family), tmp_path / "small"
    made = quantize(judge, pool, target, settings_for(bits=bits, how="bitsandbytes"))
    assert made.texts == 0
    assert made.after < made.before
    assert alike(states_of(judge, pool), states_of(target, pool)) > (0.99 if bits == 8 else 0.7)
    assert np.array_equal(said_by(target, pool), said_by(target, pool))


# --- folders that were tampered with --------------------------------------------------------------


@pytest.fixture(scope="module")
def small(
    judges: Callable[[str], Path], pool: Pool, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    target = tmp_path_factory.mktemp("small") / "judge"
    quantize(judges("bert"), pool, target, settings_for(bits=4))
    return target


def _config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    said = json.loads((folder / "config.json").read_text())
    change(said["quantization_config"])
    (folder / "config.json").write_text(json.dumps(said))


def _weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    held = load_file(folder / "model.safetensors")
    change(held)
    save_file(held, folder / "model.safetensors", {"format": "pt"})


def _one(held: dict[str, torch.Tensor], ending: str) -> str:
    return next(name for name in sorted(held) if name.endswith(ending))


TAMPERED: list[Callable[[Path], object]] = [
    lambda folder: _config(folder, lambda said: said.update(config_groups={})),
    lambda folder: _config(folder, lambda said: said.update(config_groups={"a": {"weights": 3}})),
    lambda folder: _config(
        folder, lambda said: said.update(config_groups={"a": {"weights": {"num_bits": 3}}})
    ),
    lambda folder: _config(
        folder, lambda said: said.update(config_groups={"a": {"weights": {"num_bits": 8}}})
    ),
    lambda folder: _weights(folder, lambda held: held.pop(_one(held, "weight_packed"))),
    lambda folder: _weights(folder, lambda held: held.pop(_one(held, "weight_scale"))),
    lambda folder: _weights(folder, lambda held: held.pop(_one(held, "LayerNorm.weight"))),
    lambda folder: _weights(folder, lambda held: held[_one(held, "_scale")].fill_(float("nan"))),
    lambda folder: _weights(folder, lambda held: held[_one(held, "_shape")].fill_(10**9)),
    lambda folder: _weights(
        folder, lambda held: held.update({_one(held, "_shape"): torch.tensor([[1]])})
    ),
    lambda folder: _weights(folder, lambda held: held.update(more=torch.ones(3))),
    lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"),
    lambda folder: (folder / "model.safetensors").unlink(),
]


@pytest.mark.parametrize("place", range(len(TAMPERED)))
def test_what_was_tampered_with_is_refused(
    place: int, small: Path, battles: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "judge"
    shutil.copytree(small, folder)
    TAMPERED[place](folder)
    done = CliRunner().invoke(
        cli, ["score", str(battles), "--judge", str(folder), "-o", str(tmp_path / "p.csv")]
    )
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "p.csv").exists()


def test_few_bits_are_not_made_fewer(small: Path, battles: Path, tmp_path: Path) -> None:
    words = ["score", str(battles), "--judge", str(small), "--quantize", "8bit"]
    done = CliRunner().invoke(cli, [*words, "-o", str(tmp_path / "p.csv")])
    assert done.exit_code == 2
    assert "4 bits already" in done.stderr


def test_few_bits_learn_no_more(small: Path, battles: Path, tmp_path: Path) -> None:
    words = ["finetune", "train", str(battles), "--init", str(small), "--device", "cpu"]
    done = CliRunner().invoke(cli, [*words, "-o", str(tmp_path / "newer")])
    assert done.exit_code == 2, done.output
    assert "learn no more" in done.stderr
