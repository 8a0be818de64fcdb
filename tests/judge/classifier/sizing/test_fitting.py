"""Memory goes with what it should, and what is lowered fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from finetune.settings.config import read_config
from judge.classifier.sizing.checkup import default_run, examine
from judge.classifier.sizing.devices import GIB, Hardware, named
from judge.classifier.sizing.fitting import fit_settings, fits
from judge.classifier.sizing.lengths import Lengths, measured, usual
from judge.classifier.sizing.memory import judging_memory, kv_bytes, trainable, training_memory
from judge.classifier.sizing.runs import Run
from judge.classifier.sizing.sources import look_up
from judge.classifier.sizing.timing import judging_time, operations, training_time
from judge.errors import InputError

LLAMA = look_up("meta-llama/Llama-3.1-8B").anatomy
MINILM = look_up("all-MiniLM-L6-v2").anatomy
DEBERTA = look_up("microsoft/deberta-v3-large").anatomy
GEMMA = look_up("google/gemma-2-9b-it").anatomy
A10G, T4, T4S = named("A10G"), named("T4"), named("T4:2")
MODELS = st.sampled_from([LLAMA, MINILM, DEBERTA, GEMMA, look_up("ModernBERT-base").anatomy])
MACHINES = st.sampled_from([A10G, T4, T4S, named("H100:8"), named("A100-80"), named("V100-16:4")])


@st.composite
def runs(draw: st.DrawFn) -> Run:
    r = draw(st.sampled_from([0, 1, 8, 16, 256]))
    return Run(
        base="some/model",
        max_length=draw(st.integers(8, 8192)),
        batch_tokens=draw(st.integers(1, 65536)),
        checkpointing=draw(st.booleans()),
        quantize=draw(st.sampled_from([None, "8bit", "4bit"])) if r else None,
        lora_r=r,
        dtype=draw(st.sampled_from(["float32", "bfloat16", "float16"])),
        form=draw(st.sampled_from(["pair", "single"])),
        fsdp=draw(st.booleans()),
        ema=draw(st.booleans()),
    )


def total(run: Run, hardware: Hardware = A10G, anatomy: Any = LLAMA) -> float:
    return training_memory(anatomy, run, hardware).total


@given(MODELS, runs(), MACHINES)
def test_every_part_is_there_and_grows_with_what_it_should(
    anatomy: Any, run: Run, hardware: Hardware
) -> None:
    memory = training_memory(anatomy, run, hardware)
    assert all(size >= 0 for size in memory.parts.values())
    assert memory.total == pytest.approx(sum(memory.parts.values()))
    longer = replace(run, max_length=run.max_length * 2)
    assert total(longer, hardware, anatomy) >= memory.total
    bigger = replace(run, batch_tokens=run.batch_tokens * 2)
    assert total(bigger, hardware, anatomy) >= memory.total
    assert judging_memory(anatomy, run, hardware).total > 0


@given(MODELS, runs(), MACHINES)
def test_what_was_lowered_fits_or_it_is_said(anatomy: Any, run: Run, hardware: Hardware) -> None:
    fit = fit_settings(anatomy, run, hardware)
    assert fit.fits == fits(training_memory(anatomy, fit.run, hardware))
    assert fit.memory == training_memory(anatomy, fit.run, hardware)
    assert fit.run.max_length <= run.max_length
    assert fit.run.pass_tokens <= run.pass_tokens
    assert fit.run.lora_r <= run.lora_r
    assert fit.run.full == run.full
    assert fit.run.checkpointing >= run.checkpointing
    if fits(training_memory(anatomy, run, hardware)):
        assert fit.run == run
        assert fit.steps == ()
    # Once it fits, nothing more is lowered.
    assert fit_settings(anatomy, fit.run, hardware).run == fit.run or not fit.fits


@given(runs())
def test_settings_are_read_as_a_config_and_say_the_same(run: Run) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "settings.yaml")
        file.write_text(yaml.safe_dump(run.settings()))
        config = read_config(file)
    assert config.model.base == run.base
    assert config.model.max_length == run.max_length
    assert config.model.quantize == run.quantize
    assert config.run.batch_tokens == run.batch_tokens
    assert config.run.checkpointing == run.checkpointing
    assert config.run.fsdp == run.fsdp
    assert config.lora.lora is not run.full
    assert run.full or config.lora.r == run.lora_r
    assert config.run.dtype == run.dtype


def test_fewer_bits_take_less() -> None:
    run = Run(checkpointing=True)
    sizes = [total(replace(run, quantize=bits)) for bits in (None, "8bit", "4bit")]
    assert sizes[0] > sizes[1] > sizes[2]
    # The linear layers of the 8B are 6.98 B weights: half a byte each, and an eighth for scales.
    weights = training_memory(LLAMA, replace(run, quantize="4bit"), A10G).parts["weights"]
    assert weights / GIB == pytest.approx((6.98e9 * 0.516 + 0.525e9 * 2) / GIB, rel=0.01)


def test_all_weights_take_sixteen_bytes_and_short_copies() -> None:
    parts = training_memory(MINILM, Run(lora_r=0, dtype="float32", max_length=256), A10G).parts
    held = sum(parts[name] for name in ("weights", "gradients", "optimiser"))
    assert held == pytest.approx(16 * MINILM.backbone, rel=0.01)
    short = training_memory(MINILM, Run(lora_r=0, max_length=256), A10G).parts
    assert short["short copies"] == 2 * MINILM.linear


def test_fsdp_shares_what_ddp_has_on_each() -> None:
    run = Run(checkpointing=True, dtype="float16", batch_tokens=1024)
    alone, shared = total(run, T4S), total(replace(run, fsdp=True), T4S)
    assert alone > T4S.memory > shared
    assert total(replace(run, fsdp=True), named("T4:8")) < shared


def test_the_8b_on_24_gb_and_on_two_of_16() -> None:
    on_one = fit_settings(LLAMA, Run(base="8b"), A10G)
    assert on_one.fits
    assert on_one.run.checkpointing
    assert on_one.run.quantize is None
    assert on_one.run.max_length == 1024
    on_two = fit_settings(LLAMA, Run(base="8b", dtype="float16"), T4S)
    assert on_two.fits
    assert on_two.run.fsdp
    assert not fits(training_memory(LLAMA, replace(on_two.run, fsdp=False), T4S))


def test_length_goes_before_bits_only_if_it_helps() -> None:
    fit = fit_settings(LLAMA, Run(base="8b", dtype="float16"), T4)
    assert fit.fits
    assert fit.run.quantize == "8bit"
    assert fit.run.max_length == 1024


def test_what_can_never_fit() -> None:
    fit = fit_settings(look_up("Llama-3.1-70B").anatomy, Run(lora_r=0), T4)
    assert not fit.fits
    assert fit.memory.total > T4.memory


def test_gradients_and_states_are_of_what_learns() -> None:
    run = Run(lora_r=8, lora_targets=("q_proj", "v_proj"))
    parts = training_memory(LLAMA, run, A10G).parts
    assert trainable(LLAMA, run) == 3_407_872 + 3 * 4096 + 3
    assert parts["optimiser"] == 8 * trainable(LLAMA, run)


def test_scores_of_deberta_and_gemma_go_with_the_length() -> None:
    for anatomy in (DEBERTA, GEMMA):
        run = Run(lora_r=8, max_length=512, batch_tokens=4096)
        rise = total(replace(run, max_length=2048), A10G, anatomy) / total(run, A10G, anatomy)
        assert rise > 1.3
    same = [total(Run(max_length=n, batch_tokens=4096)) for n in (512, 2048)]
    assert same[0] == same[1]


def test_keys_and_values_of_a_token() -> None:
    assert kv_bytes(LLAMA, 2) == 128 * 1024  # Llama 3 8B in half precision: 128 KiB a token


@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "int3"},
        {"objective": "x"},
        {"form": "x"},
        {"quantize": "2bit"},
        {"max_length": 1},
        {"batch_tokens": 0},
        {"lora_r": -1},
        {"epochs": -1.0},
        {"lora_r": 0, "quantize": "4bit"},
    ],
)
def test_runs_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Run(**values)


# --- time -----------------------------------------------------------------------------------------


def test_operations_are_two_a_weight_forward_and_six_in_training() -> None:
    full, lora = Run(lora_r=0), Run(lora_r=16)
    weights = float(LLAMA.multiplied)
    assert operations(LLAMA, full, 0.0, training=False) == 2 * weights
    assert operations(LLAMA, full, 0.0, training=True) == 6 * weights
    again = operations(LLAMA, replace(full, checkpointing=True), 0.0, training=True)
    assert again == 8 * weights
    assert operations(LLAMA, lora, 0.0, training=True) == pytest.approx(4 * weights, rel=0.02)


def test_attention_of_a_causal_model_is_half() -> None:
    run = Run(lora_r=0)
    looks = operations(LLAMA, run, 1000.0, training=False) - 2.0 * LLAMA.multiplied
    assert looks == 2 * 32 * 4096 * 1000


def test_time_goes_with_battles_epochs_and_gpus() -> None:
    run = Run()
    one = training_time(LLAMA, run, A10G, usual(1000)).seconds
    assert training_time(LLAMA, run, A10G, usual(3000)).seconds == pytest.approx(3 * one)
    twice = training_time(LLAMA, replace(run, epochs=2.0), A10G, usual(1000)).seconds
    assert twice == pytest.approx(2 * one)
    assert one / 2 < training_time(LLAMA, run, named("A10G:2"), usual(1000)).seconds < one
    assert training_time(LLAMA, replace(run, fsdp=True), T4S, usual(1000)).moving > 0


def test_judging_shows_both_orders_of_pairs() -> None:
    pair, single = Run(max_length=8192), Run(max_length=8192, form="single")
    lengths = Lengths(10, np.full(10, 420.0), np.full(10, 4200.0), 4.2, "here")
    assert lengths.tokens(pair) == pytest.approx(10 * 1124)
    assert judging_time(LLAMA, pair, A10G, lengths).tokens == pytest.approx(20 * 1124)
    assert judging_time(LLAMA, single, A10G, lengths).tokens == pytest.approx(10 * 2 * 624)


def test_what_is_cut_is_not_worked_through() -> None:
    lengths = Lengths(4, np.zeros(4), np.array([0.0, 420.0, 42_000.0, 84_000.0]), 4.2, "here")
    run = Run(max_length=512)
    assert lengths.cut(run) == 0.5
    assert lengths.tokens(run) == pytest.approx(24 + 124 + 512 + 512)


def test_the_battles_of_a_file_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "battles.csv"
    rows = "".join(f"q{'x' * n},{'a' * n},{'b' * n}\n" for n in (10, 20, 30))
    file.write_text("prompt,response_a,response_b\n" + rows)
    lengths = measured(str(file))
    assert lengths.battles == 3
    assert lengths.prompts.tolist() == [11, 21, 31]
    assert lengths.responses.tolist() == [20, 40, 60]
    (tmp_path / "tokenizer.json").write_text("{")
    assert measured(str(file), tmp_path / "tokenizer.json").token == lengths.token


def test_no_battles_take_no_time() -> None:
    nothing = Lengths(0, np.zeros(0), np.zeros(0), 4.2, "here")
    assert training_time(LLAMA, Run(), A10G, nothing).seconds == 0
    assert nothing.cut(Run()) == 0


# --- everything together --------------------------------------------------------------------------


def test_defaults_are_those_of_training() -> None:
    llama, minilm = look_up("Llama-3.1-8B"), look_up("all-MiniLM-L6-v2")
    assert default_run(llama, A10G).lora_r == 16
    run = default_run(minilm, A10G)
    assert run.full
    assert run.max_length == 512
    with pytest.raises(InputError, match="512 tokens at most"):
        default_run(minilm, A10G, max_length=513)
    with pytest.raises(InputError, match="writes no ballots"):
        default_run(minilm, A10G, objective="votes")
    with pytest.raises(InputError, match="no layer 'q_proj'"):
        default_run(minilm, A10G, lora_r=4, lora_targets=("q_proj",))


@given(runs(), MACHINES)
def test_the_ladder_goes_down(run: Run, hardware: Hardware) -> None:
    found = look_up("Llama-3.1-8B")
    checkup = examine(found, run, hardware, usual(10))
    sizes = [size for step, size in checkup.ladder if step != "--fsdp"]
    assert sizes == sorted(sizes, reverse=True)
    assert bool(checkup.ladder) or checkup.verdict == "fits" or not checkup.fit.fits


def test_votes_have_a_head_over_the_vocabulary() -> None:
    votes, who = Run(objective="votes"), Run()
    parts = training_memory(LLAMA, votes, A10G).parts
    held = training_memory(LLAMA, who, A10G).parts["weights"]
    assert parts["weights"] - held == 2 * LLAMA.lm_head
    assert parts["logits"] > 0
