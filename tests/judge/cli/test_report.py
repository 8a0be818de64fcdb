"""`--report`: every command that has it writes a page, and nothing else over what is not one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

Run = Callable[..., Result]
Make = Callable[..., str]

FEW = ("--rounds", "100")


@pytest.fixture
def commands(length_judge: Make, battle_file: Make) -> dict[str, tuple[str, ...]]:
    """A run of each, without its report."""
    file, judge = battle_file(count=60), length_judge()
    table = pd.read_csv(file)
    table["model_b"] = [f"m{n % 3}" for n in range(60)]
    table.to_csv(file, index=False)
    return {
        "score": ("score", file, "--judge", judge, "-o", "p.csv"),
        "compare": ("compare", file, judge, "statistical", *FEW, "--slices", "all"),
        "calibrate": ("calibrate", file, "--judge", judge),
        "leaderboard": ("leaderboard", file, "--judge", judge, *FEW),
        "cascade": ("cascade", file, judge, "statistical", *FEW),
    }


NAMES = ["score", "compare", "calibrate", "leaderboard", "cascade"]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_drawn_and_drawn_again(
    run: Run, commands: dict[str, tuple[str, ...]], name: str
) -> None:
    plain = run(*commands[name])
    assert plain.exit_code == 0, plain.stderr
    result = run(*commands[name], "--report", "page.html")
    assert result.exit_code == 0, result.stderr
    timeless = re.compile(r" +[\d.]+ m?s$", re.MULTILINE)
    assert timeless.sub("", result.stdout) == timeless.sub("", plain.stdout)
    assert "page.html: written" in result.stderr
    html = Path("page.html").read_text()
    assert "battles.csv" in html
    assert "Made by arena-judge" in html
    assert f", {name}, seed 0, on " in html
    assert html.count("<figure>") >= 2
    again = run(*commands[name], "--report", "page.html")
    assert "page.html: replaced" in again.stderr


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is_written_over(
    run: Run, commands: dict[str, tuple[str, ...]], name: str
) -> None:
    Path("notes.html").write_text("<p>mine</p>")
    for target in ("notes.html", "page.txt", "nowhere/page.html", "battles.csv"):
        result = run(*commands[name], "--report", target)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
    assert Path("notes.html").read_text() == "<p>mine</p>"
    assert not Path("p.csv").exists()
    forced = run(*commands[name], "--report", "notes.html", "--force")
    assert forced.exit_code == 0, forced.stderr


def test_a_folder_that_was_learned_may_abstain(
    run: Run, commands: dict[str, tuple[str, ...]], battle_file: Make
) -> None:
    assert run(*commands["calibrate"], "-o", "made").exit_code == 0
    new = battle_file("new.csv", count=9, labels=False)
    result = run("score", new, "--judge", "made", "--coverage", "0.8", "-o", "q.csv")
    assert result.exit_code == 0, result.stderr
    assert "at a coverage of 0.8" in result.stderr
    for command in (("blend", "battles.csv", "made", "statistical", "-o", "both"),):
        assert run(*command).exit_code == 0
    result = run("score", new, "--judge", "both", "--coverage", "0.8", "-o", "q.csv")
    assert result.exit_code == 0, result.stderr
