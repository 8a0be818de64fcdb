"""`arena-judge doctor`: what it says, to people and to machines, and what it does not do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

from finetune.settings.config import leaves, read_config

Run = Callable[..., Result]

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-hub"))


@pytest.fixture
def bert(folder: Path) -> str:
    (folder / "bert").mkdir()
    (folder / "bert" / "config.json").write_text(json.dumps(BERT))
    return "bert"


def said(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_8b_does_not_fit_as_it_is_and_what_to_lower_is_said(run: Run) -> None:
    result = run("doctor", "meta-llama/Llama-3.1-8B", "--gpu", "A10G")
    assert result.exit_code == 3
    assert "8.03 B" in result.stdout
    assert "does not fit" in result.stdout
    assert "--auto-fit takes: " in result.stdout
    assert "the table of known models" in result.stdout
    lowered = re.findall(r"^(--[a-z-]+) .*\d", result.stdout, re.MULTILINE)
    assert lowered[:3] == ["--batch-tokens", "--checkpointing", "--max-length"]
    assert lowered[3:5] == ["--quantize", "--quantize"]
    assert "arena-judge finetune train BATTLES --base meta-llama/Llama-3.1-8B" in result.stdout


def test_auto_fit_writes_settings_that_training_reads(run: Run, folder: Path) -> None:
    options = ("--gpu", "A10G", "--auto-fit", "-o", "settings.yaml", "--epochs", "2")
    result = run("doctor", "meta-llama/Llama-3.1-8B", *options)
    assert result.exit_code == 0, result.output
    assert "lowered: " in result.stdout
    assert "fits: " in result.stdout
    assert "settings.yaml: written" in result.stderr
    config = read_config(folder / "settings.yaml")
    assert config.model.base == "meta-llama/Llama-3.1-8B"
    assert config.run.checkpointing
    assert config.optimisation.epochs == 2
    again = run("doctor", "meta-llama/Llama-3.1-8B", *options)
    assert "settings.yaml: replaced" in again.stderr


def test_two_gpus_share_the_weights(run: Run) -> None:
    result = run("doctor", "Llama-3.1-8B", "--gpu", "T4:2", "--auto-fit")
    assert result.exit_code == 0
    assert "torchrun --nproc-per-node 2 -m judge finetune train" in result.stdout
    assert "--fsdp" in result.stdout
    assert "float16" in result.stdout


def test_a_judge_that_fits_no_device_whole_is_said(run: Run) -> None:
    result = run("doctor", "Llama-3.1-8B", "--gpu", "T4:2", "--auto-fit")
    assert "judging does not fit T4 with whole weights; in 8bit" in result.stdout


@pytest.mark.parametrize(
    "options",
    [
        ("Llama-3.1-8B", "--gpu", "T4:2", "--auto-fit"),
        ("Llama-3.1-8B", "--gpu", "T4", "--auto-fit", "--objective", "votes"),
        ("deberta-v3-base", "--gpu", "L4", "--form", "single", "--epochs", "3"),
        ("Qwen3-0.6B", "--gpu", "H100", "--lora-target", "q_proj"),
    ],
)
def test_the_command_that_is_shown_has_options_that_training_knows(
    run: Run, options: tuple[str, ...]
) -> None:
    line = run("doctor", *options).stdout.splitlines()[-1]
    assert " finetune train BATTLES " in line
    words = line.split(" finetune train BATTLES ")[1].split()
    used = {word for word in words if word.startswith("--")}
    known = {leaf.flag for leaf in leaves()}
    known |= {f"--no-{leaf.flag[2:]}" for leaf in leaves() if leaf.kind is bool}
    assert used <= known


def test_json_says_everything_in_numbers(run: Run, bert: str) -> None:
    found = said(run("doctor", bert, "--gpu", "T4", "--json", "--battles", "100"))
    assert found["family"] == "bert"
    assert found["verdict"] == "fits"
    assert found["attention"] == "packed"
    assert found["parameters"]["trainable"] == found["parameters"]["backbone"] + 3 * 32 + 3
    assert found["training"]["bytes"] == pytest.approx(sum(found["training"]["parts"].values()))
    assert found["training"]["spare"] > 0
    assert found["training"]["seconds"] > 0
    assert found["auto_fit"]["settings"]["model"]["base"] == "bert"
    assert found["lowered"] == []
    assert found["run"]["max_length"] == 512


def test_a_file_of_battles(run: Run, bert: str, folder: Path) -> None:
    rows = "".join(f"question {n},{'yes ' * n},{'no ' * n}\n" for n in range(1, 21))
    (folder / "battles.csv").write_text("prompt,response_a,response_b\n" + rows)
    found = said(run("doctor", bert, "--gpu", "T4", "--json", "--battles", "battles.csv"))
    assert found["battles"] == 20
    assert found["cut"] == 0


def test_full_rank_and_targets(run: Run) -> None:
    name = "Qwen/Qwen2.5-0.5B"
    full = said(run("doctor", name, "--gpu", "H100", "--full", "--json"))
    assert full["parameters"]["trainable"] > full["parameters"]["backbone"]
    options = ("--lora-r", "8", "--lora-target", "q_proj", "--lora-target", "v_proj")
    some = said(run("doctor", name, "--gpu", "H100", *options, "--json"))
    assert some["parameters"]["trainable"] == 24 * 8 * (896 + 896 + 896 + 128) + 3 * 896 + 3
    assert some["auto_fit"]["settings"]["lora"]["targets"] == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody/knows",), "no model 'nobody/knows'"),
        (("Qwen/Qwen3-8",), "did you mean Qwen/Qwen3-8B"),
        (("Qwen/Qwen3-8B", "--gpu", "Z9"), "no known GPU 'Z9'"),
        (("Qwen/Qwen3-8B", "--gpu", "T4:0"), "no GPU and count"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "--battles", "0"), "none that can be reckoned with"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "--battles", "9" * 40), "none that can be reckoned"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "--battles", "gone.csv"), "gone.csv"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "--full", "--lora-r", "4"), "--full trains all"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "--full", "--quantize", "4bit"), "cannot learn"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "--lora-target", "zzz"), "no layer 'zzz'"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "--fsdp"), "name several"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "--epochs", "nan"), "no number"),
        (("all-MiniLM-L6-v2", "--gpu", "T4", "--max-length", "513"), "lower it to 512"),
        (("all-MiniLM-L6-v2", "--gpu", "T4", "--objective", "votes"), "writes no ballots"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "-o", "x.txt"), "end it in .yaml"),
        (("Qwen/Qwen3-8B", "--gpu", "T4", "-o", "gone/x.yaml"), "its folder is not there"),
        ((".",), "no config.json"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run("doctor", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_settings_take_the_place_of_nothing_else(run: Run, folder: Path) -> None:
    (folder / "mine.yaml").write_text("dear: to me\n")
    options = ("doctor", "Qwen/Qwen3-0.6B", "--gpu", "H100", "-o", "mine.yaml")
    assert run(*options).exit_code == 2
    assert (folder / "mine.yaml").read_text() == "dear: to me\n"
    assert run(*options, "--force").exit_code == 0
    assert "Qwen/Qwen3-0.6B" in yaml.safe_load((folder / "mine.yaml").read_text())["model"]["base"]


def test_names_and_tokens_from_files_do_not_reach_the_terminal_raw(
    run: Run, bert: str, folder: Path
) -> None:
    tokens = {"pad_token": "\x1b]0;gone\x07[PAD]"}
    (folder / bert / "tokenizer_config.json").write_text(json.dumps(tokens))
    (folder / bert / "tokenizer.json").write_text("{}")
    result = run("doctor", bert, "--gpu", "T4")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "[PAD]" in result.stdout


def test_weights_of_another_model_are_seen(run: Run, bert: str, folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [64], "data_offsets": [0, 64]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(64)
    (folder / bert / "model.safetensors").write_bytes(whole)
    assert "part of the weights is missing" in run("doctor", bert, "--gpu", "T4").stdout


def test_this_processor_is_measured_where_there_is_nothing_else(run: Run, bert: str) -> None:
    found = said(run("doctor", bert, "--gpu", "cpu", "--json"))
    assert found["hardware"]["origin"] == "measured"
    assert found["hardware"]["memory"] > 0
    assert found["run"]["dtype"] == "float32"


def test_nothing_heavy_is_loaded_for_a_known_gpu() -> None:
    code = (
        "import sys\n"
        "from judge.classifier.sizing.checkup import default_run, examine\n"
        "from judge.classifier.sizing.devices import named\n"
        "from judge.classifier.sizing.lengths import usual\n"
        "from judge.classifier.sizing.sources import look_up\n"
        "found, gpu = look_up('Qwen/Qwen3-8B'), named('H100')\n"
        "examine(found, default_run(found, gpu), gpu, usual(10))\n"
        "print(sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
