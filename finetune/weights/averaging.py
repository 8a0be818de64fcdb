"""Several judges of one base made into one, by the mean of what they have learned.

    plan = planned([read_judge_folder(path) for path in opened(["teachers/minilm"])], how=DELTAS)
    with written_folder(target) as draft:
        result = write_average(plan, weights, draft)

Of LoRA judges the mean of the changes that they make to the base's weights is taken (`deltas`), or
the mean of their factors (`factors`); see `finetune.weights.low_rank`. Of judges all whose weights
learned it is the mean of these. Heads are averaged as they are. Nothing but the files of weights is
read: a mean of adapters needs no base.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from finetune.weights.folders import ADAPTER, ADAPTER_CONFIG, HEAD, JudgeFolder, named_from
from finetune.weights.plans import FACTORS, A, B, Plan, alpha_of, config_of, scale_of
from judge.errors import ArenaJudgeError, InputError
from judge.judges.recipes import FILE as RECIPE

if TYPE_CHECKING:
    from torch import Tensor

    from finetune.weights.low_rank import Change

_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"


@dataclass(frozen=True)
class Result:
    """What an average came to.

    Attributes:
        settings: what its judge.yaml is to say of what it is.
        rank: of its adapter; None without one.
        lost: the share of the mean change, by its squared norm, that the rank could not hold.
        matrices: how many matrices were averaged.
    """

    settings: dict[str, Any]
    rank: int | None
    lost: float
    matrices: int


def write_average(plan: Plan, weights: Sequence[float], folder: Path) -> Result:
    """Writes the mean into a folder, judge.yaml aside.

    Args:
        plan: what is averaged.
        weights: of each judge, 1 together.
        folder: a draft beside the folder that it becomes will do.
    """
    first = plan.judges[0]
    inside = (folder / first.inner).resolve()
    inside.mkdir(parents=True, exist_ok=True)
    for file in first.copied():
        copyfile(file, inside / file.name)
    rank, lost, matrices = None, 0.0, 0
    if plan.adapted:
        rank = plan.rank
        lost, matrices = _write_adapter(plan, weights, inside)
    else:
        matrices = _write_weights(plan.judges, weights, inside)
    if first.classifies:
        files = [one.path / HEAD for one in plan.judges]
        _save(_mean_of_files([_tensors(file) for file in files], weights, files), folder / HEAD)
    return Result(_settings(first, folder), rank, lost, matrices)


# --- adapters -------------------------------------------------------------------------------------


def _write_adapter(plan: Plan, weights: Sequence[float], inside: Path) -> tuple[float, int]:
    """Writes the adapter; the share that was lost, and how many matrices it changes."""
    from finetune.weights.low_rank import mean_of_changes, mean_of_factors

    files = [one.weights / ADAPTER for one in plan.judges]
    held = [_tensors(file) for file in files]
    _same_names(held, files)
    configs = [config_of(one) for one in plan.judges]
    rank = plan.rank
    assert rank is not None
    made: dict[str, Tensor] = {}
    energy = lost = 0.0
    modules = sorted(name.removesuffix(A) for name in held[0] if name.endswith(A))
    for module in modules:
        changes = [
            _change(tensors, module, config, file)
            for tensors, config, file in zip(held, configs, files, strict=True)
        ]
        if plan.how == FACTORS:
            change = mean_of_factors(changes, weights)
        else:
            mean = mean_of_changes(changes, weights, rank)
            change, energy, lost = mean.change, energy + mean.energy, lost + mean.lost
        made[module + A], made[module + B] = change.a, change.b
    rest = [name for name in held[0] if not name.endswith((A, B))]
    unknown = [name for name in rest if "lora_magnitude_vector" not in name]
    if unknown:
        raise InputError(f"has {unknown[0]}, which has no mean", file=files[0])
    parts = [{name: tensors[name] for name in rest} for tensors in held]
    made |= _mean_of_files(parts, weights, files)
    _save(made, inside / ADAPTER)
    config = configs[0]
    if rank != config["r"]:
        config["lora_alpha"], config["r"] = alpha_of(config, rank), rank
    config["base_model_name_or_path"] = named_from(plan.judges[0].base, inside)
    text = json.dumps(config, indent=2, sort_keys=True)
    (inside / ADAPTER_CONFIG).write_text(text, encoding="utf-8")
    return (lost / energy if energy > 0 else 0.0), len(modules)


def _change(
    tensors: Mapping[str, Tensor], module: str, config: Mapping[str, Any], file: Path
) -> Change:
    from finetune.weights.low_rank import Change

    rank = config["r"]
    a, b = tensors[module + A], tensors.get(module + B)
    sound = b is not None and a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1] == rank
    if b is None or not sound:
        raise InputError(
            f"has no two factors of rank {rank} of {module}", file=file, mend="make the judge anew"
        )
    return Change(a, b, scale_of(config))


# --- whole weights --------------------------------------------------------------------------------


def _write_weights(judges: Sequence[JudgeFolder], weights: Sequence[float], inside: Path) -> int:
    """Writes the mean of all weights, in files as the first judge's are; how many matrices."""
    from safetensors import safe_open

    places = [_places(one.weights) for one in judges]
    _same_names(places, [one.weights for one in judges])
    matrices = 0
    for shard in sorted(set(places[0].values())):
        names = [name for name, file in places[0].items() if file == shard]
        made: dict[str, Tensor] = {}
        for name in names:
            found = []
            for judge, place in zip(judges, places, strict=True):
                file = judge.weights / place[name]
                with _explained(file), safe_open(file, framework="pt") as stored:
                    found.append(stored.get_tensor(name))
            files = [judge.weights for judge in judges]
            made |= _mean_of_files([{name: one} for one in found], weights, files)
            matrices += made[name].ndim == 2
        _save(made, inside / shard, {"format": "pt"})
    index = judges[0].weights / _INDEX
    if index.is_file():
        copyfile(index, inside / _INDEX)
    return matrices


def _places(folder: Path) -> dict[str, str]:
    """The file that each tensor of a model lies in."""
    from safetensors import safe_open

    index = folder / _INDEX
    if index.is_file():
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = {str(name): Path(str(file)).name for name, file in places.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError("cannot be read", file=index) from None
    else:
        with _explained(folder / _WHOLE), safe_open(folder / _WHOLE, framework="pt") as stored:
            names = dict.fromkeys(stored.keys(), _WHOLE)
    return names


# --- files ----------------------------------------------------------------------------------------


def _same_names(held: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> None:
    for tensors, file in zip(held[1:], files[1:], strict=True):
        odd = sorted(set(tensors) ^ set(held[0]))
        if odd:
            where = "has" if odd[0] in tensors else "lacks"
            raise InputError(
                f"{where} {odd[0]}, other than {files[0]}",
                file=file,
                mend="average judges that learned in the same places",
            )


def _mean_of_files(
    held: Sequence[Mapping[str, Tensor]], weights: Sequence[float], files: Sequence[Path]
) -> dict[str, Tensor]:
    """The means of tensors of the same names."""
    from finetune.weights.low_rank import mean_of_tensors

    _same_names(held, files)
    made = {}
    for name in held[0]:
        tensors = [one[name] for one in held]
        for one, file in zip(tensors, files, strict=True):
            if one.shape != tensors[0].shape:
                sizes = f"{tuple(one.shape)} and not {tuple(tensors[0].shape)}"
                raise InputError(f"has {name} of the size {sizes}", file=file)
        try:
            made[name] = mean_of_tensors(tensors, weights)
        except ValueError as error:
            raise InputError(f"{name}: {error}", file=files[0]) from None
    return made


def _tensors(file: Path) -> dict[str, Tensor]:
    from judge.classifier.storing import read_tensors

    return read_tensors(file)


def _save(tensors: Mapping[str, Tensor], file: Path, about: dict[str, str] | None = None) -> None:
    from safetensors.torch import save_file

    unsound = [name for name, one in tensors.items() if not bool(one.isfinite().all())]
    if unsound:
        raise ArenaJudgeError(f"the mean of {unsound[0]} is no number; a judge has broken weights")
    save_file({name: one.contiguous() for name, one in tensors.items()}, file, about)


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    from judge.classifier.loading import explained

    with explained(file, "the weights"):
        yield


def _settings(first: JudgeFolder, folder: Path) -> dict[str, Any]:
    """What judge.yaml says of what it is: as the first judge's, seen from the new folder."""
    if first.classifies:
        from judge.classifier.shape import shape_of

        shape = shape_of(first.settings, first.path / RECIPE).to_settings()
        found = {"kind": first.settings["kind"], **shape}
        found |= {"base": named_from(first.base, folder)}
        found["weights"] = first.settings.get("weights", "full")
    else:
        found = {"kind": first.settings["kind"], "judge": first.settings["judge"]}
        if first.adapted:
            found["judge"] = f"vllm:{named_from(first.base, folder)}"
        found["asking"] = first.settings.get("asking", {})
    if "running" in first.settings:
        found["running"] = first.settings["running"]
    return found


def kept_marks(judges: Iterable[JudgeFolder]) -> tuple[Any, list[str]]:
    """What judges learned from, together, or None; and the names of those that do not say it."""
    from judge.comparing.leaks import merged, read_seen

    found, silent = [], []
    for one in judges:
        seen = read_seen(one.path)
        if seen is None:
            silent.append(one.name)
        else:
            found.append(seen)
    return (merged(found) if found else None), silent
