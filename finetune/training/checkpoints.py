"""Where an unfinished run stands, so that a killed one goes on as if nothing had been.

Beside the judge folder that a run is going to write lies another, `NAME.training`:

    run.json           which run it is
    curve.csv          a line a step
    step-000120/       weights.safetensors, optimizer.safetensors, perhaps mean.safetensors, and
                       state.json
    best-000090/       weights.safetensors: those that the dev battles liked best

Each folder in it appears whole or not at all. Nothing is pickled.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from finetune.training.sharding import part_of, whole
from judge.errors import ArenaJudgeError, InputError
from judge.files.atomic import explained, written_whole
from judge.files.drafts import discard, remove_stale
from judge.files.folders import written_folder

ENDING = ".training"
RUN, STATE, LOCK = "run.json", "state.json", "lock"
WEIGHTS, OPTIMIZER, MEAN = "weights.safetensors", "optimizer.safetensors", "mean.safetensors"
_STEP, _BEST = "step", "best"


@dataclass
class State:
    """How far a run is.

    Attributes:
        step: steps that are done.
        tokens: worked through so far.
        seconds: of training so far.
        best: the lowest dev log loss so far, and the step after which it was seen.
        stale: looks at the dev battles since.
        last: what the last look saw.
        scaler: of gradients in 16 bits.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    last: float | None = None
    scaler: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensors:
    """What a run holds, by the names of the model's parameters.

    Attributes:
        weights: of what is trained.
        optimizer: by name and what of it: `layer.weight/exp_avg`.
        mean: the running mean of the weights, if there is one.
    """

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    mean: Mapping[str, Tensor] | None = None


def place_of(output: Path) -> Path:
    """Where the run that is going to write a folder keeps what is unfinished."""
    return output.resolve().with_name(output.resolve().name + ENDING)


class Checkpoints:
    """Those of one run.

    Args:
        folder: theirs.
        run: what makes the run this one: another run's checkpoints are not gone on with.
        fresh: leave what another run began.
        reads: another process of the run writes; this one only reads.

    Raises:
        InputError: another run's are there, or this very run is under way.
    """

    def __init__(
        self, folder: Path, run: Mapping[str, Any], *, fresh: bool = False, reads: bool = False
    ) -> None:
        self.folder = folder
        if reads:
            return
        mine = json.loads(json.dumps(run))
        with suppress(OSError):
            remove_stale(folder.resolve())
        if fresh and (folder / RUN).is_file():
            with explained(folder):
                discard(folder)
        known = _read(folder / RUN) if folder.is_dir() else None
        if known is not None and known != mine:
            raise InputError(
                f"holds an unfinished run with {difference(known, mine)}",
                file=folder,
                mend="run the same command again to finish it, or add --fresh to begin anew",
            )
        if known is None:
            if folder.exists() and any(folder.iterdir()) and not _ours(folder):
                raise InputError("is there already and is no unfinished run", file=folder)
            with explained(folder):
                folder.mkdir(parents=True, exist_ok=True)
            with written_whole(folder / RUN) as file:
                file.write(json.dumps(mine, indent=1).encode())
        self._lock = _locked(folder / LOCK)

    def latest(self) -> State | None:
        """Where to go on; None at the beginning."""
        steps = sorted(_numbered(self.folder, _STEP))
        if not steps:
            return None
        found = _read(self._step(steps[-1]) / STATE)
        try:
            if found is not None:
                return State(**found)
        except TypeError:
            pass
        raise InputError("is damaged", file=self._step(steps[-1]), mend="remove it")

    def load(self, step: int) -> Tensors:
        """What a run held after a step."""
        folder = self._step(step)
        mean = folder / MEAN
        return Tensors(
            _tensors(folder / WEIGHTS),
            _tensors(folder / OPTIMIZER),
            _tensors(mean) if mean.is_file() else None,
        )

    def save(self, state: State, tensors: Tensors) -> None:
        """Keeps where a run stands, and lets go of what it has no more use for."""
        target = self._step(state.step)
        with written_folder(target) as draft:
            _write(draft / WEIGHTS, tensors.weights)
            _write(draft / OPTIMIZER, tensors.optimizer)
            if tensors.mean is not None:
                _write(draft / MEAN, tensors.mean)
            (draft / STATE).write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
        for step in _numbered(self.folder, _STEP):
            if step < state.step:
                shutil.rmtree(self._step(step), ignore_errors=True)
        for step in _numbered(self.folder, _BEST):
            if step != state.best_step:
                shutil.rmtree(self._best(step), ignore_errors=True)

    def save_best(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keeps the weights that the dev battles like best."""
        with written_folder(self._best(step)) as draft:
            _write(draft / WEIGHTS, weights)

    def best(self, step: int) -> dict[str, Tensor]:
        """Those weights."""
        return _tensors(self._best(step) / WEIGHTS)

    def remove(self) -> None:
        """The run is finished. Part of a folder would be taken for somebody else's by the same
        command after a kill."""
        with suppress(OSError):
            discard(self.folder)

    def _step(self, step: int) -> Path:
        return self.folder / f"{_STEP}-{step:07d}"

    def _best(self, step: int) -> Path:
        return self.folder / f"{_BEST}-{step:07d}"


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]
) -> dict[str, Tensor]:
    """What an optimizer remembers of each parameter, by name."""
    return {
        f"{names[one]}/{what}": whole(value)
        for one, state in optimizer.state.items()
        for what, value in state.items()
    }


def fill_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], names: Mapping[Tensor, str]
) -> None:
    """Puts back what `optimizer_tensors` took."""
    parameters = {name: one for one, name in names.items()}
    for key, value in tensors.items():
        name, _, what = key.rpartition("/")
        if name not in parameters:
            raise ArenaJudgeError(f"the checkpoint remembers {name}, which is not trained here")
        one = parameters[name]
        # Counts of steps stay where the optimizer wants them; the rest goes with the weights.
        stays = what == "step" and not _fused_cuda(optimizer, one)
        kept = value if stays else part_of(value, one)
        optimizer.state[one][what] = kept.clone()


def _fused_cuda(optimizer: torch.optim.Optimizer, one: Tensor) -> bool:
    return one.is_cuda and bool(optimizer.defaults.get("fused"))


# --- files ----------------------------------------------------------------------------------------


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    # A copy each: tied weights share memory, which the format does not allow.
    kept = {name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()}
    save_file(kept, path)


def _tensors(path: Path) -> dict[str, Tensor]:
    from judge.classifier.storing import read_tensors

    return read_tensors(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", file=path, mend="add --fresh") from None
    if not isinstance(found, dict):
        raise InputError("is damaged", file=path, mend="add --fresh")
    return found


def _locked(path: Path) -> IO[bytes]:
    """Keeps other runs from writing here while this one lives.

    Raises:
        InputError: one is.
    """
    file = path.open("ab")
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock

        flock(file, LOCK_EX | LOCK_NB)
    except ImportError:  # Windows has none
        pass
    except OSError as error:
        file.close()
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            what = "is being written by the same command"
            raise InputError(what, file=path.parent, mend="let it end") from None
        return path.open("ab")  # a file system that knows no locks
    return file


def _numbered(folder: Path, kind: str) -> list[int]:
    pattern = re.compile(rf"{kind}-(\d+)")
    return [
        int(match.group(1)) for one in folder.iterdir() if (match := pattern.fullmatch(one.name))
    ]


def _ours(folder: Path) -> bool:
    """Whether what is in a folder is what a run leaves that was killed at its very beginning."""
    return all(RUN in one.name for one in folder.iterdir())


def difference(known: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The first thing that two runs do not have in common, in words."""
    for name in sorted({*known, *mine}):
        one, other = known.get(name), mine.get(name)
        if isinstance(one, dict) and isinstance(other, dict) and one != other:
            return difference(one, other)
        if one != other:
            return f"{name} {one!r} and not {other!r}"
    return "other settings"
