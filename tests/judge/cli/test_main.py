"""The command as a whole: what it says of itself, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result

import judge
from judge.cli import main
from judge.errors import ArenaJudgeError

Run = Callable[..., Result]


def test_help_lists_the_commands_and_an_example(run: Run) -> None:
    for arguments in (["--help"], ["-h"], []):
        result = run(*arguments)
        assert result.exit_code == 0
        assert "Example:" in result.stdout
        for name, (_, short) in main.COMMANDS.items():
            assert name in result.stdout
            assert short in result.stdout


@pytest.mark.parametrize("command", list(main.COMMANDS))
def test_every_command_s_help_has_an_example_that_runs_it(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example:\n    arena-judge {command} " in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["score", "--help"], ["nothing"]])
def test_what_needs_no_battles_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from judge.cli.main import cli\n"
        "try:\n"
        f"    cli({arguments}, prog_name='arena-judge')\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'yaml'} & set(sys.modules)\n"
        "commands = 'judge.cli.score' in sys.modules\n"
        f"assert not heavy and commands <= ('score' in {arguments}), heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_the_version(run: Run) -> None:
    result = run("--version")
    assert result.stdout == f"arena-judge, version {judge.__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "judge", "--version"], capture_output=True, text=True, check=True
    )
    assert judge.__version__ in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scor"], "No such command 'scor', did you mean score; see arena-judge --help"),
        (["fly"], "No such command 'fly'; see arena-judge --help"),
        (["score"], "Missing argument 'BATTLES'; see arena-judge score --help"),
        (["score", "b.csv", "--workers", "0"], "'--workers'"),
        (["score", "b.csv", "-o", "-", "--json"], "--json and -o - both want standard output"),
        (
            ["score", "b.csv", "--ballots", "b.txt"],
            "--ballots takes a file named .csv, .jsonl or .parquet",
        ),
        (["compare", "b.csv"], "Missing argument"),
        (["compare", "b.csv", "p.csv", "--rounds", "3"], "'--rounds'"),
    ],
)
def test_a_command_line_that_is_wrong_gets_one_line(
    run: Run, arguments: list[str], said: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("arena-judge: error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ArenaJudgeError("b.csv: \x1b[2Jbad\nrow"), 2, "arena-judge: error: b.csv: [2Jbad row\n"),
        (MemoryError(), 2, "arena-judge: error: out of memory; try fewer --chunk-rows"),
        (OSError(28, "No space left on device"), 2, "arena-judge: error: No space left on device"),
        (OSError(13, "Permission denied", "f.csv"), 2, "error: f.csv: Permission denied\n"),
        (KeyboardInterrupt(), 130, "arena-judge: interrupted\n"),
    ],
)
def test_whatever_stops_it_is_said_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(main.CommandLine, "get_command", fail)
    result = run("score", "battles.csv")
    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert "Traceback" not in result.stderr


def test_a_bug_is_not_dressed_up_as_the_user_s_mistake(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main.CommandLine, "get_command", fail)
    assert isinstance(run("score", "battles.csv").exception, ZeroDivisionError)
