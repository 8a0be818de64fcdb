"""What a killed process leaves behind goes with the next run, and nobody else's draft does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from judge.cli.outputs import UnjudgedList
from judge.files.atomic import written_whole
from judge.files.drafts import remove_stale, replaced
from judge.files.folders import written_folder

pytest.importorskip("fcntl", reason="without locks, drafts stay")

ROOT = Path(__file__).parents[3]
# Writes to a file or a folder; then kills itself, or waits to be told to go on.
WRITER = """
import os, signal, sys
from pathlib import Path
from judge.files.atomic import written_whole
from judge.files.folders import written_folder
kind, target, fate = sys.argv[1:]
with (written_whole(target) if kind == "file" else written_folder(Path(target))) as draft:
    file = draft if kind == "file" else (draft / "judge.yaml").open("wb")
    file.write(b"whole")
    file.flush()
    if fate == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.readline()
    if kind != "file":
        file.close()
"""


def writer(kind: str, target: Path, fate: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, target, fate],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def killed(kind: str, target: Path) -> None:
    before = set(os.listdir(target.parent))
    with writer(kind, target, "kill") as process:
        assert process.wait() == -signal.SIGKILL
    (left,) = set(os.listdir(target.parent)) - before
    assert left.startswith(".arena-judge-")
    assert left.endswith(".part")


def write(kind: str, target: Path) -> None:
    if kind == "file":
        with written_whole(target) as file:
            file.write(b"new")
    else:
        with written_folder(target) as folder:
            (folder / "judge.yaml").write_bytes(b"new")


def content(kind: str, target: Path) -> bytes:
    return (target if kind == "file" else target / "judge.yaml").read_bytes()


@pytest.fixture
def alive(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.communicate()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_run_takes_away_what_a_killed_one_left(tmp_path: Path, kind: str) -> None:
    target = tmp_path / ("x" * 255)  # a draft's name is no longer than that
    killed(kind, target)
    killed(kind, target)
    other = tmp_path / "other"
    killed(kind, other)
    write(kind, target)
    assert content(kind, target) == b"new"
    left = set(os.listdir(tmp_path)) - {target.name}
    assert len(left) == 1  # not this target's
    write(kind, other)
    assert set(os.listdir(tmp_path)) == {target.name, "other"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_draft_that_is_being_written_is_left_alone(
    tmp_path: Path, kind: str, alive: list[subprocess.Popen[str]]
) -> None:
    target = tmp_path / "target"
    process = writer(kind, target, "wait")
    alive.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    write(kind, target)
    assert content(kind, target) == b"new"
    remove_stale(target)
    process.communicate("go on\n")
    assert process.returncode == 0
    assert content(kind, target) == b"whole"
    assert os.listdir(tmp_path) == ["target"]


def test_two_writers_in_one_process(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with written_whole(target) as one, written_whole(target) as other:
        one.write(b"one")
        other.write(b"other")
    assert target.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["target"]


def test_a_draft_taken_away_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from judge.files import drafts

    locked, times = drafts._locked, []

    def late(path: Path) -> int | None:
        times.append(path)
        if len(times) == 1:
            path.unlink()  # as another process does, between the two
        return locked(path)

    monkeypatch.setattr(drafts, "_locked", late)
    with written_whole(tmp_path / "target") as file:
        file.write(b"whole")
    assert (tmp_path / "target").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["target"]
    assert len(times) == 2


def test_what_only_looks_like_a_draft_does_no_harm(tmp_path: Path) -> None:
    target, precious = tmp_path / "target", tmp_path / "precious"
    killed("file", target)
    (draft,) = tmp_path.glob(".arena-judge-*")
    precious.write_bytes(b"precious")
    draft.with_name(draft.name.replace(".part", "1.part")).symlink_to(precious)
    os.mkfifo(draft.with_name(draft.name.replace(".part", "2.part")))
    draft.with_name(".arena-judge-mine.part").touch()
    write("file", target)
    assert precious.read_bytes() == b"precious"
    assert not draft.exists()
    assert len(os.listdir(tmp_path)) == 5


def test_a_list_that_this_run_does_not_need_is_taken_away_too(tmp_path: Path) -> None:
    target = tmp_path / "out.csv.unjudged.csv"
    killed("file", target)
    with UnjudgedList(target):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_whose_replacing_was_interrupted(tmp_path: Path, there: bool) -> None:
    """Killed between the two renames, the earlier folder is the only one there is."""
    target = tmp_path / "target"
    killed("folder", target)
    (draft,) = tmp_path.glob(".arena-judge-*.part")
    old = draft.with_suffix(".old")
    old.mkdir()
    (old / "judge.yaml").write_bytes(b"old")
    if there:
        target.mkdir()
        (target / "judge.yaml").write_bytes(b"new")
    with pytest.raises(RuntimeError):  # noqa: SIM117
        with written_folder(target):
            raise RuntimeError
    assert os.listdir(tmp_path) == ["target"]
    assert content("folder", target) == (b"new" if there else b"old")


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    target = tmp_path / "target"
    write("folder", target)
    with pytest.raises(OSError, match="No such file"):
        replaced(tmp_path / "missing.part", target)
    assert content("folder", target) == b"new"
    assert os.listdir(tmp_path) == ["target"]
