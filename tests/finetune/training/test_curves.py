"""The curve of a run: its file, and TensorBoard with the package and without it."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

pytest.importorskip("torch")

from finetune.runs.running import run
from finetune.training.curves import BOARD, FILE, Curve, Point, read_curve
from judge.errors import InputError
from tests.finetune.small import battles_file, small
from tests.finetune.tiny import tiny_model
from tests.finetune.training.test_resume import EndAfter, Ended

MODULE = "torch.utils.tensorboard"


class Writer:
    """As `SummaryWriter` is called; what it was told is kept."""

    made: ClassVar[list[Writer]] = []

    def __init__(self, folder: str, purge_step: int | None = None) -> None:
        self.folder, self.purge_step = Path(folder), purge_step
        self.told: dict[str, dict[int, float]] = {}
        self.closed = False
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"events.{purge_step}").touch()
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.told.setdefault(name, {})[step] = value

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """A TensorBoard that is installed."""
    module: Any = ModuleType(MODULE)
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setattr(Writer, "made", [])
    return Writer.made


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("curves")
    return battles_file(folder / "battles.csv"), tiny_model("bert", folder / "base")


def test_a_board_has_what_the_file_has(
    board: list[Writer], parts: tuple[Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "judge"
    run(small(*parts, run__tensorboard=True, run__eval_every=2), target)
    points = read_curve(target / FILE)
    (writer,) = board
    assert writer.told["train/loss"] == pytest.approx({p.step: p.loss for p in points})
    assert writer.told["train/gradient_norm"] == pytest.approx({p.step: p.norm for p in points})
    looks = {p.step: p.dev_log_loss for p in points if p.dev_log_loss is not None}
    assert writer.told["dev/log_loss"] == pytest.approx(looks)
    assert writer.closed
    assert [one.name for one in (target / BOARD).iterdir()] == ["events.1"]


def test_a_run_that_goes_on_takes_back_what_it_does_again(
    board: list[Writer], parts: tuple[Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "judge"
    config = small(*parts, run__tensorboard=True, run__eval_every=2)
    with pytest.raises(Ended):
        run(config, target, watch=EndAfter(3))
    run(config, target)
    assert [writer.purge_step for writer in board] == [1, 3]
    assert all(writer.closed for writer in board)
    assert {one.name for one in (target / BOARD).iterdir()} == {"events.1", "events.3"}


@pytest.mark.parametrize("kind", ["missing", "broken"])
def test_without_the_package_there_is_the_file(
    kind: str, parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None is what is not there; a module without the class is one for other versions.
    module = None if kind == "missing" else ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    target = tmp_path / "judge"
    run(small(*parts, run__tensorboard=True), target)
    assert len(read_curve(target / FILE)) == 4
    assert not (target / BOARD).exists()


def test_nothing_is_written_for_it_unasked(
    board: list[Writer], parts: tuple[Path, Path], tmp_path: Path
) -> None:
    run(small(*parts), tmp_path / "judge")
    assert not board
    assert not (tmp_path / "judge" / BOARD).exists()


def test_what_is_installed_here_does_as_it_should(parts: tuple[Path, Path], tmp_path: Path) -> None:
    run(small(*parts, run__tensorboard=True), tmp_path / "judge")
    folder = tmp_path / "judge" / BOARD
    assert folder.is_dir() == (find_spec("tensorboard") is not None)
    if folder.is_dir():
        module: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
        events = module.EventAccumulator(str(folder))
        events.Reload()
        assert len(events.Scalars("train/loss")) == 4


def point(step: int, **told: Any) -> Point:
    values = {"epoch": 0.5, "tokens": 10, "loss": 1.0, "lr": 0.1, "dev_log_loss": None}
    return Point(step=step, **{**values, "norm": 1.0, "seconds": 2.0, **told})


def test_gradients_that_overflowed_are_in_the_file_too(tmp_path: Path) -> None:
    curve = Curve(tmp_path)
    curve.add(point(1, norm=float("inf")))
    curve.add(point(2))
    curve.close()
    assert [p.norm for p in read_curve(tmp_path / FILE)] == [float("inf"), 1.0]


def test_another_file_of_the_name_is_no_curve(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is no curve of training"):
        Curve(tmp_path)
