"""What is said of fine-tuned judges on a command line; none is there, and torch need not be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from judge.cli.classifier_options import NAMES
from judge.cli.judging import Judging, judge_options
from judge.judges.classifier_settings import ClassifierSettings

Run = Callable[..., Result]
Write = Callable[..., str]


def said(*arguments: str) -> ClassifierSettings:
    """The settings that a command line comes to."""
    found: list[ClassifierSettings] = []

    @click.command()
    @judge_options
    def command(judging: Judging) -> None:
        found.append(judging.settings(0)[1])

    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return found[0]


def refused(*arguments: str) -> str:
    @click.command()
    @judge_options
    def command(judging: Judging) -> None:
        judging.settings(0)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    return result.output


def test_nothing_said() -> None:
    assert said() == ClassifierSettings()


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["--device", "cpu"], {"device": ("cpu",)}),
        (["--device", "cuda:0", "--device", "cuda:1"], {"device": ("cuda:0", "cuda:1")}),
        (["--device", "cpu, cpu", "--device", "mps"], {"device": ("cpu", "cpu", "mps")}),
        (["--dtype", "bfloat16"], {"dtype": "bfloat16"}),
        (["--dtype", "auto"], {"dtype": "auto"}),
        (["--quantize", "4bit"], {"quantize": "4bit"}),
        (["--quantize", "none"], {"quantize": None}),
        (["--lengths", "512,1024"], {"lengths": (512, 1024)}),
        (["--lengths", "512", "--lengths", "64, 96"], {"lengths": (512, 64, 96)}),
        (["--batch-tokens", "100"], {"batch_tokens": 100}),
        (["--no-share-prompt"], {"share_prompt": False}),
        (["--share-prompt"], {"share_prompt": True}),
        (["--attention", "padded"], {"attention": "padded"}),
        (["--template", "interleaved"], {"template": "interleaved"}),
        (["--order", "ba"], {"orders": ("BA",)}),
        (["--order", "both"], {"orders": ("AB", "BA")}),
        (["--fit-context", "recent"], {"policy": "recent"}),
        (["--fit-context", "chunks"], {}),
        (["--samples", "3"], {}),
    ],
)
def test_what_is_said_becomes_settings(arguments: list[str], values: dict[str, Any]) -> None:
    assert said(*arguments) == ClassifierSettings(**values, said=frozenset(values))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--lengths", "512,"], "such as 512,1024"),
        (["--lengths", ""], "such as 512,1024"),
        (["--lengths", "0"], "from 1 to"),
        (["--lengths", "99999999"], "from 1 to"),
        (["--lengths", "9" * 5000], "such as 512,1024"),
        (["--lengths", "-3"], "such as 512,1024"),
        (["--lengths", "٣"], "such as 512,1024"),
        (["--lengths", "64,64"], "each length once"),
        (["--device", ""], "a name is empty"),
        (["--device", "cpu,,cpu"], "a name is empty"),
        (["--dtype", "float8"], "--dtype"),
        (["--quantize", "2bit"], "--quantize"),
        (["--batch-tokens", "0"], "--batch-tokens"),
    ],
)
def test_what_cannot_be(arguments: list[str], why: str) -> None:
    assert why in refused(*arguments)


# --- heeded, or refused ---------------------------------------------------------------------------

ANY = {
    "device": ["cpu"],
    "dtype": ["float32"],
    "quantize": ["8bit"],
    "lengths": ["64"],
    "batch_tokens": ["64"],
    "share_prompt": [],
    "attention": ["padded"],
    "template": ["interleaved"],
}


@pytest.mark.parametrize("name", NAMES)
def test_judges_that_are_not_fine_tuned_have_no_use_for_it(
    run: Run, battle_file: Write, folder: Path, name: str
) -> None:
    option = f"--{name.replace('_', '-')}"
    result = run("score", battle_file(), option, *ANY[name])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{option} is for judges that are fine-tuned (hf:MODEL, a folder" in result.stderr
    assert "finetune made): statistical" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [file.name for file in folder.iterdir()] == ["battles.csv"]


@pytest.mark.parametrize("option", [("--order", "ab"), ("--fit-context", "recent")])
def test_what_both_kinds_know_is_refused_where_there_is_neither(
    run: Run, battle_file: Write, option: tuple[str, str]
) -> None:
    result = run("score", battle_file(), *option)
    assert result.exit_code == 2
    assert f"{option[0]} is for judges that ask a model (endpoint:" in result.stderr
    assert "or are fine-tuned" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["compare", "battles.csv", "statistical", "p.csv"],
        ["calibrate", "battles.csv", "--judge", "statistical"],
        ["calibrate", "battles.csv", "--predictions", "p.csv"],
        ["blend", "battles.csv", "statistical", "p.csv"],
        ["cascade", "battles.csv", "statistical", "p.csv"],
        ["fit", "battles.csv", "--judge", "statistical", "-o", "made"],
        ["leaderboard", "battles.csv"],
        ["leaderboard", "battles.csv", "--judge", "statistical"],
        ["serve", "--port", "0"],
        ["synth", "plan", "battles.csv", "--size", "3"],
        ["synth", "plan", "battles.csv", "--size", "3", "--by", "length"],
    ],
)
def test_every_command_that_loads_judges_refuses_what_none_heeds(
    run: Run, battle_file: Write, folder: Path, command: list[str]
) -> None:
    battle_file()
    if "p.csv" in command:
        assert run("score", "battles.csv", "-o", "p.csv").exit_code == 0
    before = set(folder.iterdir())
    result = run(*command, "--lengths", "64")
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "--lengths is for judges that are fine-tuned" in result.stderr
    assert set(folder.iterdir()) == before


def test_ballots_at_hand_are_judged_by_nobody(run: Run, battle_file: Write) -> None:
    battle_file()
    assert run("score", "battles.csv", "--ballots", "b.csv").exit_code == 0
    for command in (["calibrate"], ["fit", "-o", "made"]):
        result = run(*command, "battles.csv", "--ballots", "b.csv", "--dtype", "float32")
        assert result.exit_code == 2
        assert "says nothing where the ballots are at hand" in result.stderr


def test_a_jury_is_not_fine_tuned(run: Run, battle_file: Write) -> None:
    jury = ["--judge", "endpoint:one", "--judge", "endpoint:two", "--no-cache"]
    result = run("score", battle_file(), *jury, "--dtype", "float32")
    assert result.exit_code == 2
    assert "--dtype is for judges that are fine-tuned" in result.stderr


def test_nothing_is_kept_that_was_not_said(run: Run, battle_file: Write, folder: Path) -> None:
    made = run("calibrate", battle_file(count=40), "--judge", "statistical", "-o", "made")
    assert made.exit_code == 0, made.output
    text = (folder / "made" / "judge.yaml").read_text()
    assert "running" not in text
    assert "asking" not in text


@pytest.mark.parametrize("command", ["score", "compare", "serve", "synth plan"])
def test_help_is_quick(command: str) -> None:
    script = (
        "import sys\n"
        "from judge.cli.main import cli\n"
        "try:\n"
        f"    cli({[*command.split(), '--help']}, prog_name='arena-judge')\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'numpy', 'pandas', 'torch', 'transformers', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "--lengths" in done.stdout
    assert "--device" in done.stdout


def test_help_names_fine_tuned_judges(run: Run) -> None:
    for command in ("score", "serve"):
        said = " ".join(run(command, "--help").stdout.split())
        assert "hf:MODEL_OR_FOLDER" in said
        assert "fine-tuned" in said
