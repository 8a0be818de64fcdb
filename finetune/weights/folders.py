"""Judge folders that fine-tuning has made: what lies in them, and folders of one judge a fold.

for path in opened(["teachers/minilm"]):      # fold-0, fold-1, ... or a judge folder itself
    folder = read_judge_folder(path)
    folder.adapted, folder.base, folder.weights
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.folds.folders import stated_folds
from finetune.folds.judges import find_fold_judges, is_folder_of_folds
from judge.errors import InputError
from judge.files.folders import folder_target
from judge.judges.recipes import FILE, read_recipe

CLASSIFIER, PROMPTED = "classifier", "prompted"
HEAD = "head.safetensors"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
# What a tokenizer and a model's configuration are kept in.
_COPIED = (
    *("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.*", "merges.txt", "*.model", "chat_template*"),
)
_VLLM = "vllm:"


@dataclass(frozen=True)
class JudgeFolder:
    """A judge folder of a fine-tuned judge, one that says who won or one that writes ballots.

    Attributes:
        path: where it is.
        settings: what its judge.yaml says.
        adapted: whether it has a LoRA adapter, and not all weights.
        weights: the folder in which they lie.
        base: the model that it began as: a folder, or a name on the hub.
    """

    path: Path
    settings: Mapping[str, Any]
    adapted: bool
    weights: Path
    base: str

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return str(self.settings.get("name") or self.path.name)

    @property
    def classifies(self) -> bool:
        """Whether it has a head that says who won; others write ballots."""
        return bool(self.settings["kind"] == CLASSIFIER)

    @property
    def fold(self) -> int | None:
        """The fold that it was held out from."""
        fold = self.settings.get("fold")
        return fold if isinstance(fold, int) and not isinstance(fold, bool) else None

    @property
    def inner(self) -> str:
        """Where the weights lie, seen from the folder."""
        return os.path.relpath(os.path.realpath(self.weights), os.path.realpath(self.path))

    def copied(self) -> list[Path]:
        """The files of tokenizer and configuration beside the weights."""
        found = {file for pattern in _COPIED for file in self.weights.glob(pattern)}
        return sorted(file for file in found if file.is_file())


def read_judge_folder(path: str | Path) -> JudgeFolder:
    """What a judge folder holds.

    Raises:
        InputError: it is none of a fine-tuned judge, or holds weights that were quantised.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError("is no judge folder", file=path, mend="name one that training has made")
    settings = dict(read_recipe(folder / FILE).settings)
    kind = settings["kind"]
    if "quantized" in settings:
        raise InputError(
            "has weights in few bits already", file=path, mend="name the judge before that step"
        )
    if kind == CLASSIFIER:
        return _classifier(folder, settings)
    if kind == PROMPTED and str(settings.get("judge", "")).startswith(_VLLM):
        return _writer(folder, settings)
    raise InputError(
        f"is a judge of the kind {kind}, which has no weights of its own",
        file=folder,
        mend="name one that `arena-judge finetune` has trained",
    )


def _classifier(folder: Path, settings: dict[str, Any]) -> JudgeFolder:
    kind = settings.get("weights", "full")
    if "model" in settings or kind not in ("full", "lora"):
        what = "names weights elsewhere" if "model" in settings else f"has weights of kind {kind}"
        raise InputError(what, file=folder / FILE, mend="name the judge folder before that step")
    adapted = kind == "lora"
    _there(folder, [HEAD, *((ADAPTER, ADAPTER_CONFIG) if adapted else ("config.json",))])
    base = _located(str(settings.get("base", "")), folder)
    return JudgeFolder(folder, settings, adapted, folder, base)


def _writer(folder: Path, settings: dict[str, Any]) -> JudgeFolder:
    model = str(settings["judge"]).removeprefix(_VLLM)
    asking = settings.get("asking")
    adapter = asking.get("adapter") if isinstance(asking, Mapping) else None
    base = _located(model, folder)
    if adapter is None:
        if not Path(base).is_relative_to(folder.resolve()):
            raise InputError("has no weights of its own", file=folder)
        _there(Path(base), ["config.json"])
        return JudgeFolder(folder, settings, False, Path(base), base)
    weights = folder / str(adapter)
    _there(weights, [ADAPTER, ADAPTER_CONFIG])
    return JudgeFolder(folder, settings, True, weights, base)


def _located(base: str, folder: Path) -> str:
    """A base by its whole path, or by its name on the hub."""
    beside = folder / base
    if beside.is_dir() or os.path.isabs(base) or base.startswith("."):
        return os.path.realpath(beside)
    return base


def _there(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"has no {name}", file=folder, mend="make or copy it anew, whole")


def target_beside(
    output: str, judges: Sequence[JudgeFolder], files: Sequence[str] = (), *, force: bool
) -> Path:
    """Where a judge that is made of others may be written: over none of them, nor of what they
    began as.

    Raises:
        InputError: not there.
    """
    target = folder_target(output, inputs=files, force=force)
    for read in (place for judge in judges for place in (judge.path, judge.base)):
        if os.path.isdir(read) and Path(read).resolve().is_relative_to(target.resolve()):
            mend = "name another folder"
            raise InputError(f"holds {read}, which is read", file=target, mend=mend)
    return target


def named_from(base: str, folder: Path) -> str:
    """How a base is named in a judge folder: by its path from there, or by its name on the hub."""
    return os.path.relpath(base, folder.resolve()) if os.path.isabs(base) else base


# --- folds ----------------------------------------------------------------------------------------


def fold_folders(folder: str | Path) -> list[Path]:
    """The judge folders `fold-0`, `fold-1`, ... in a folder, in the order of their numbers; none
    where the folder is a judge itself, or something else.

    Raises:
        InputError: they are of different folds, or one is missing.
    """
    if not is_folder_of_folds(str(folder)):
        return []
    members = find_fold_judges(folder).members
    missing = sorted(set(range(stated_folds(Path(folder)))) - set(members))
    if missing:
        what = f"has no judge of fold {missing[0]}, and folds.yaml says that there is to be one"
        mend = "make it with the command that made the others, or name their folders one by one"
        raise InputError(what, file=folder, mend=mend)
    return list(members.values())


def opened(names: Iterable[str | Path]) -> list[Path]:
    """Judge folders, and in place of a folder of folds those that are in it.

    Raises:
        InputError: a folder is neither, or is named twice.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        inside = fold_folders(path)
        if not inside and not (path / FILE).is_file():
            what = "is neither a judge folder nor one of judges fold-0, fold-1, ..."
            raise InputError(what if path.exists() else "is not there", file=name)
        found += inside or [path]
    seen: dict[str, Path] = {}
    for path in found:
        if seen.setdefault(os.path.realpath(path), path) is not path:
            raise InputError("is named twice", file=path, mend="name each judge once")
    return found


def own_loss(folder: JudgeFolder) -> float:
    """See `stated_loss`."""
    return stated_loss(folder.path, folder.settings)


def stated_loss(folder: Path, settings: Mapping[str, Any]) -> float:
    """The log loss that a judge's folder states: on its own fold where it says so; of a judge of no
    fold on the battles it was measured on at its end; else on those that its best step was chosen
    by. What is held out of all folds is for measuring in the end, and chooses nothing.

    Raises:
        InputError: it states none.
    """
    measured = settings.get("measured")
    stated = {
        str(name): entry["log_loss"]
        for name, entry in (measured if isinstance(measured, Mapping) else {}).items()
        if isinstance(entry, Mapping) and _sound(entry.get("log_loss"))
    }
    own = f"fold {settings.get('fold')}"
    if own in stated:
        return float(stated[own])
    others = [loss for name, loss in stated.items() if name != "dev"]
    if len(others) == 1 and "fold" not in settings:
        return float(others[0])
    if "dev" in stated:
        return float(stated["dev"])
    raise InputError(
        "states no log loss of its own to weigh it by",
        file=folder / FILE,
        mend="weigh all alike, or train it with a dev share",
    )


def _sound(loss: object) -> bool:
    return isinstance(loss, int | float) and not isinstance(loss, bool) and math.isfinite(loss)
