"""Judges by name or folder, and what is said of those that cannot be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import judge
from judge.errors import InputError
from judge.judges import KINDS, SHIPPED, load_judge
from judge.judges.base import Judge, Judgments


class _Named(Judge):
    """Judges nothing; knows the folder it came from."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name

    @classmethod
    def load(cls, folder: Path) -> _Named:
        return cls(folder)

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        raise AssertionError("not asked for")


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for judges, and "statistical" as their one kind, shipped in a folder there."""
    module = type(sys)("stand_in_kinds")
    module.__dict__["Named"] = _Named
    monkeypatch.setitem(sys.modules, "stand_in_kinds", module)
    monkeypatch.setitem(KINDS, "statistical", "stand_in_kinds:Named")
    shipped = tmp_path / "the shipped one"
    shipped.mkdir()
    (shipped / "judge.yaml").write_text("kind: statistical\n")
    monkeypatch.setitem(SHIPPED, "statistical", shipped)
    return tmp_path


def _folder(parent: Path, text: str | bytes) -> Path:
    folder = parent / "mine"
    folder.mkdir()
    (folder / "judge.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


@pytest.mark.parametrize("spec", [None, "statistical"])
def test_the_default_ships_with_the_package(kinds: Path, spec: str | None) -> None:
    assert load_judge(spec).name == "the shipped one"
    assert load_judge().name == "the shipped one"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_loaded_by_the_kind_it_states(
    kinds: Path, kind: type[str] | type[Path]
) -> None:
    folder = _folder(kinds, "kind: statistical\nmeasured:\n  log_loss: 1.0\n")
    assert load_judge(kind(folder)).name == "mine"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("statistcal", "no such judge: 'statistcal'; did you mean statistical?"),
        ("Statistical", "did you mean statistical?"),
        (
            "gpt",
            "no such judge: 'gpt'; a judge is one of statistical, endpoint:MODEL, vllm:FOLDER, "
            "hf:MODEL_OR_FOLDER, a folder with a judge.yaml, or a .yaml that composes others",
        ),
    ],
)
def test_a_judge_that_is_not_there(spec: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_judge(spec)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [statistical", "judge.yaml, row 1: is not YAML ("),
        ("a: 1\nkind: @", "judge.yaml, row 2: is not YAML ("),
        ("- kind: statistical", "does not say its kind; add a line"),
        ("", "does not say its kind"),
        ("kind: 3", "does not say its kind"),
        ("name: statistical", "does not say its kind"),
        ("kind: statistic", "unknown kind of judge: 'statistic'; did you mean statistical?"),
        (
            "kind: oracle",
            "unknown kind of judge: 'oracle'; the kinds are adapters, aggregated, ",
        ),
        (b"kind: \xff\xfe", "cannot be read ("),
        ("kind: !!python/object/apply:os.getcwd []", "is not YAML ("),
        ("kind: 2020-99-99", "is not YAML ("),
        ("[" * 5000, "is not YAML ("),
    ],
)
def test_a_judge_yaml_that_cannot_be_used_is_one_line(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_judge(_folder(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_judge_yaml_is_no_judge(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"judge\.yaml: not found, so this is no judge folder"):
        load_judge(tmp_path)


def test_a_file_is_no_judge(tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"
    file.touch()
    with pytest.raises(InputError, match="no such judge"):
        load_judge(file)


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, judge, judge.judges\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'yaml', 'click'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from judge import load_judge, ArenaJudgeError\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_name_the_package_offers_is_there() -> None:
    for name in judge.__all__:
        assert getattr(judge, name).__name__ == name
        assert name in dir(judge)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        judge.nothing  # noqa: B018
