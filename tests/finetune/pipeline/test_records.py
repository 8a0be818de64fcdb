"""What a stage hangs on: what is in the files that its words name, however they name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from finetune.pipeline.records import Records

COMMAND = ("finetune", "logits")


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The key of a command with such words, seen from a folder with some files."""
    monkeypatch.chdir(tmp_path)
    for name in ("logits/a-0.parquet", "logits/a-1.parquet", "more.csv", "judges/x/judge.yaml"):
        file = Path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return lambda *words: Records(tmp_path / "run").key((*COMMAND, *words), "out")


@pytest.mark.parametrize(
    ("word", "file"),
    [
        ("more.csv", "more.csv"),
        ("0.5*more.csv", "more.csv"),
        ("--extra=more.csv", "more.csv"),
        ("logits/*.parquet", "logits/a-1.parquet"),
        ("--merge=logits/a-*.parquet", "logits/a-0.parquet"),
        ("log*/a-0.parquet", "logits/a-0.parquet"),
        ("judges", "judges/x/judge.yaml"),
        ("judges/x", "judges/x/judge.yaml"),
        ("./judges/*/judge.yaml", "judges/x/judge.yaml"),
    ],
)
def test_a_word_counts_with_what_is_in_the_files_that_it_names(
    key: Callable[..., str], word: str, file: str
) -> None:
    before = key(word)
    assert key(word) == before
    Path(file).write_text("another")
    assert key(word) != before
    Path(file).unlink()
    assert key(word) != before


def test_names_and_places_count_for_nothing(key: Callable[..., str]) -> None:
    before = key("--battles", "more.csv", "-o", "out")
    Path("elsewhere").mkdir()
    Path("more.csv").rename("elsewhere/other.csv")
    assert key("--battles", "elsewhere/other.csv", "-o", "out") == before


def test_options_and_weights_before_a_file_count(key: Callable[..., str]) -> None:
    words = ("more.csv", "0.5*more.csv", "2*more.csv", "--extra=more.csv", "--dev=more.csv")
    assert len({key(word) for word in words}) == len(words)


def test_a_command_is_no_folder(key: Callable[..., str]) -> None:
    before = key("more.csv")
    for name in COMMAND:
        Path(name).mkdir(exist_ok=True)
        (Path(name) / "file").write_text("x")
    assert key("more.csv") == before


def test_a_judge_that_is_made_of_others_changes_with_them(key: Callable[..., str]) -> None:
    """The file that composes students stays the same when they are trained anew."""
    member = Path("judges/x")
    (member / "judge.yaml").write_text(yaml.safe_dump({"kind": "classifier"}))
    (member / "model.safetensors").write_bytes(b"1")
    inner = Path("inner.yaml")
    inner.write_text(yaml.safe_dump({"kind": "blended", "judges": ["judges/x", "statistical"]}))
    outer = Path("outer.yaml")
    outer.write_text(yaml.safe_dump({"kind": "calibrated", "judge": "inner.yaml"}))
    words = ("judges/x", "inner.yaml", "outer.yaml")
    before = [key(word) for word in words]
    assert [key(word) for word in words] == before
    (member / "model.safetensors").write_bytes(b"2")
    assert all(new != old for new, old in zip(map(key, words), before, strict=True))


def test_what_is_no_judge_counts_as_a_file(key: Callable[..., str]) -> None:
    for text in ("epochs: 1\n", "judge: [\n", "kind: nothing\njudges: [inner.yaml]\n"):
        Path("some.yaml").write_text(text)
        before = key("some.yaml")
        Path("some.yaml").write_text(text + "# more\n")
        assert key("some.yaml") != before


@pytest.mark.parametrize(
    "word", ["x" * 5000, "a\0b", "*", "[", "--x=", "2*", "--judge=statistical"]
)
def test_any_word_counts_as_something(key: Callable[..., str], word: str) -> None:
    assert key(word) == key(word)
