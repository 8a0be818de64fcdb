"""A judge says so when it is measured on what it learned from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from judge.cli.main import cli
from judge.judges import SHIPPED
from judge.provenance import fingerprint, learned_from, sources

HEADER = "id,prompt,response_a,response_b,winner\n"


@pytest.fixture
def battles(tmp_path: Path) -> Path:
    file = tmp_path / "mine.csv"
    file.write_text(HEADER + "1,Why?,Because it is so.,No.,a\n2,How?,No.,Like this: so.,b\n")
    return file


@pytest.fixture
def judge_made_from(tmp_path: Path, battles: Path) -> Path:
    """A judge folder whose judge.yaml names the battles."""
    folder = tmp_path / "mine"
    shutil.copytree(SHIPPED["statistical"], folder)
    settings = yaml.safe_load((folder / "judge.yaml").read_text())
    source = fingerprint(battles)
    settings["made_from"] = {source.name: {"bytes": source.size, "sha256": source.sha256}}
    (folder / "judge.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.mark.parametrize("command", ["score", "compare"])
def test_figures_on_own_battles_carry_a_note(
    command: str, battles: Path, judge_made_from: Path, tmp_path: Path
) -> None:
    more = ["--judge", str(judge_made_from), "-o", str(tmp_path / "p.csv")]
    arguments = more if command == "score" else [str(judge_made_from)]
    result = CliRunner().invoke(cli, [command, str(battles), *arguments])
    assert result.exit_code == 0
    assert "learned from" in result.stderr
    assert "flatter" in result.stderr


@pytest.mark.parametrize("command", ["score", "compare"])
def test_other_battles_carry_none(
    command: str, battles: Path, judge_made_from: Path, tmp_path: Path
) -> None:
    battles.write_text(battles.read_text().replace("Why?", "Who?"))  # same size, other content
    more = ["--judge", str(judge_made_from), "-o", str(tmp_path / "p.csv")]
    arguments = more if command == "score" else [str(judge_made_from)]
    result = CliRunner().invoke(cli, [command, str(battles), *arguments])
    assert result.exit_code == 0
    assert "flatter" not in result.stderr


def test_a_copy_under_another_name_is_known_again(battles: Path, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.csv"
    shutil.copy(battles, copy)
    assert learned_from((fingerprint(battles),), copy)


def test_the_shipped_judge_names_its_sources() -> None:
    known = sources(yaml.safe_load((SHIPPED["statistical"] / "judge.yaml").read_text()))
    assert {"arena_train.parquet", "arena_dev.csv"} <= {source.name for source in known}


@pytest.mark.parametrize(
    "settings",
    [{}, {"made_from": None}, {"made_from": ["x"]}, {"made_from": {"x": 1, "y": {"bytes": "9"}}}],
)
def test_a_card_that_says_little_is_no_error(settings: dict[str, object]) -> None:
    assert sources(settings) == ()
    assert not learned_from((), "-")
