"""`finetune train --auto-fit`: what is lowered and said, and that a run goes on with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch")

from finetune.runs import autofit
from finetune.runs.autofit import LOWERED, auto_fit, hardware_of
from finetune.runs.running import run
from finetune.settings.config import Config, leaves, read_config, value_of, with_values
from judge.classifier.sizing.devices import GIB, Hardware, named, processor
from judge.classifier.sizing.fitting import fit_settings, fits
from judge.classifier.sizing.memory import training_memory
from judge.classifier.sizing.runs import Run
from judge.cli.main import cli
from judge.errors import ArenaJudgeError
from tests.finetune.small import battles_file, small
from tests.finetune.tiny import tiny_model
from tests.finetune.training.test_resume import EndAfter, Ended

MIB = 1 << 20
LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("fitting")
    return battles_file(folder / "battles.csv"), tiny_model("llama", folder / "base")


def with_memory(hardware: Hardware, size: float) -> Hardware:
    return replace(hardware, memory=size)


def has(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """A machine with so much memory free."""
    monkeypatch.setattr("judge.classifier.sizing.devices.free_memory", lambda: size)


def eight(**told: Any) -> Config:
    values = {"data.battles": "battles.csv", "model.base": LLAMA, "run.dtype": "bfloat16"}
    return with_values(Config(), values | {k.replace("__", "."): v for k, v in told.items()})


def train(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", "train", *map(str, arguments)])


@pytest.mark.parametrize("gpu", ["RTX-3090", "A10G", "T4:2", "H100"])
def test_what_is_lowered_is_what_doctor_lowers(gpu: str) -> None:
    there = named(gpu)
    config = eight(run__batch_tokens=8192)
    found = auto_fit(config, hardware=there)
    run = Run(base=LLAMA, batch_tokens=8192)
    wanted = fit_settings(LLAMA, run, there)
    assert found.lowered == wanted.steps
    assert bool(found.lowered) == (gpu != "H100")
    settings = wanted.settings()
    for path in LOWERED:
        section, name = path.split(".")
        after, before = value_of(found.config, path), value_of(config, path)
        assert after == (before if fits_already(path, wanted.steps) else settings[section][name])


def fits_already(path: str, steps: tuple[str, ...]) -> bool:
    """Whether a leaf is not among what was lowered."""
    flag = next(leaf.flag for leaf in leaves() if leaf.path == path)
    return not any(step.split()[0] == flag for step in steps)


def test_nothing_else_of_the_config_is_changed() -> None:
    config = eight(run__batch_tokens=8192, optimisation__lr=3e-4)
    found = auto_fit(config, hardware=named("A10G"))
    same = with_values(found.config, {path: value_of(config, path) for path in LOWERED})
    assert found.config != config == same
    assert auto_fit(found.config, hardware=named("A10G")).config == found.config


@pytest.mark.parametrize(
    ("told", "run"),
    [
        ({}, {"lora_r": 16}),
        ({"lora__lora": False}, {"lora_r": 0}),
        ({"model__form": "single"}, {"form": "single"}),
        ({"model__head": "symmetric"}, {"form": "single"}),
        ({"optimisation__step_battles": 4}, {"step_tokens": 4 * 1024}),
        ({"optimisation__objective": "votes"}, {"objective": "votes", "max_length": 4096}),
        ({"model__quantize": "4bit", "optimisation__ema": 0.9}, {"quantize": "4bit", "ema": True}),
    ],
)
def test_the_run_that_is_reckoned_with(told: dict[str, Any], run: dict[str, Any]) -> None:
    from judge.classifier.sizing.sources import look_up

    anatomy = look_up(LLAMA).anatomy
    wanted = Run(base=LLAMA, batch_tokens=4096)
    config = eight(run__device="cpu", **told)
    assert autofit.run_wanted(config, anatomy, {}, processor(measure=False)) == replace(
        wanted, **run
    )


def test_on_a_processor_it_goes_by_what_is_free(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    battles, base = made
    config = small(battles, base, model__max_length=512, run__batch_tokens=8192)
    config = with_values(config, {"optimisation.step_battles": 0})
    assert hardware_of(config).memory > 0
    plenty = auto_fit(config)
    assert (plenty.config, plenty.lowered) == (config, ())
    assert plenty.lines[0] == "auto-fit: nothing had to be lowered"
    has(monkeypatch, 460 * MIB)
    found = auto_fit(config)
    assert found.config.run.batch_tokens < 8192
    assert found.verdict.startswith("fits: ")
    assert "of 0.45 GiB" in found.verdict


def test_what_fits_nothing_is_refused_in_doctors_words(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    battles, base = made
    has(monkeypatch, 300 * MIB)
    target = tmp_path / "judge"
    done = train(battles, "--base", base, "--device", "cpu", "--auto-fit", "-o", target)
    assert done.exit_code == 2
    assert "does not fit: " in done.stderr
    assert "GiB where there are 0.29" in done.stderr
    assert "nothing that can be lowered makes it fit" in done.stderr
    assert "Traceback" not in done.output
    assert not target.exists()


def test_few_bits_are_no_help_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    there = with_memory(named("RTX-3090"), 14.6 * GIB)
    monkeypatch.setattr(autofit, "find_spec", lambda name: None)
    with pytest.raises(ArenaJudgeError, match=r"does not fit.*--quantize .bit.*bitsandbytes"):
        auto_fit(eight(), hardware=there)
    monkeypatch.setattr(autofit, "find_spec", lambda name: name)
    assert auto_fit(eight(), hardware=there).config.model.quantize in ("8bit", "4bit")


def test_the_judge_keeps_what_was_lowered(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    battles, base = made
    has(monkeypatch, 460 * MIB)
    target = tmp_path / "judge"
    told = ["--base", base, "--device", "cpu", "--no-tensorboard", "--batch-tokens", "8192"]
    told += ["--max-length", "512", "--auto-fit"]
    done = train(battles, *told, "-o", target, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    kept = read_config(target / "train.yaml")
    assert f"auto-fit: --batch-tokens {kept.run.batch_tokens} in place of 8192" in done.stderr
    assert kept.run.batch_tokens < 8192
    assert f"--batch-tokens {kept.run.batch_tokens} in place of 8192" in said["lowered"]
    # Each thing in a line of its own, before anything was read.
    lines = [line for line in done.stderr.splitlines() if line.startswith("auto-fit: ")]
    assert len(lines) == len(said["lowered"]) + 1
    assert done.stderr.startswith("auto-fit: ")
    stats = train(battles, *told, "--stats-only", "--json")
    assert stats.exit_code == 0, stats.output
    assert json.loads(stats.stdout)["lowered"] == said["lowered"]


def test_a_run_goes_on_with_what_it_began_with_whatever_is_free_by_now(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    battles, base = made
    config = small(battles, base, model__max_length=512, run__batch_tokens=8192)
    more = {"run.eval_every": 1, "optimisation.step_battles": 0, "optimisation.epochs": 4.0}
    config = with_values(config, more)
    target = tmp_path / "judge"
    has(monkeypatch, 460 * MIB)
    first = auto_fit(config, target=target)
    assert first.lowered
    with pytest.raises(Ended):
        run(first.config, target, watch=EndAfter(2))
    has(monkeypatch, 64 * GIB)
    again = auto_fit(config, target=target)
    assert again.config == first.config
    assert "as the unfinished run has it" in again.lines[-1]
    assert auto_fit(config, target=target, fresh=True).config == config
    other = with_values(config, {"optimisation.lr": 0.5})
    assert auto_fit(other, target=target).config == other
    assert run(again.config, target).outcome.resumed == 2


def test_an_adapter_that_goes_on_keeps_its_rank(made: tuple[Path, Path], tmp_path: Path) -> None:
    battles, base = made
    first = tmp_path / "first"
    run(small(battles, base, lora__r=8), first)
    config = with_values(small(battles, base), {"model.base": None, "model.init": str(first)})
    there = with_memory(processor(measure=False), 8 * GIB)
    found = auto_fit(config, hardware=there)
    assert found.config.lora.r == config.lora.r
    anatomy, judge = autofit._model(config)
    wanted = autofit.run_wanted(config, anatomy, judge, there)
    assert (wanted.lora_r, wanted.max_length) == (8, 64)
    least = replace(wanted, batch_tokens=64, checkpointing=True)
    tight = training_memory(anatomy, least, there).total / 0.95 - 1024
    with pytest.raises(ArenaJudgeError, match="nothing that can be lowered"):
        auto_fit(config, hardware=with_memory(there, tight * 0.9))
    assert fits(training_memory(anatomy, wanted, there))


@pytest.mark.slow
def test_processes_come_to_the_same(made: tuple[Path, Path], tmp_path: Path) -> None:
    battles, base = made
    told = ["--base", str(base), "--device", "cpu", "--no-tensorboard", "--auto-fit", "--json"]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *several, "-m", "judge", "finetune", "train", str(battles), *told]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "judge")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("auto-fit: fits") == 1
    assert json.loads(done.stdout)["lowered"] == []
