"""A judge in 8 or 4 bits, from its folder and battles to calibrate by to a folder of its own.

    made = quantize("judges/merged", pool, Path("judges/small"), Settings(bits=8))

The head stays as it is. A judge with an adapter is merged with its base first. What a judge that
says who won was worth before and after is measured on labelled battles; one that writes ballots
needs vLLM for that, so compare the two with `arena-judge compare`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.quantizing.loading import Loaded, load_model
from finetune.quantizing.settings import Quantized, Settings
from finetune.quantizing.ways import Done, by_library, rounded, way_of
from finetune.quantizing.writing import MODEL, bytes_of, save_head, write_recipe
from finetune.weights.folders import JudgeFolder, read_judge_folder
from judge.errors import InputError

if TYPE_CHECKING:
    from finetune.measuring.labelled import Measured
    from finetune.rows.sources import Pool

_SEEN, _CONFIG = "seen.npz", "train.yaml"


def quantize(
    judge: str | Path,
    pool: Pool,
    target: Path,
    settings: Settings,
    *,
    dev: Measured | None = None,
    sources: Mapping[str, Any] | None = None,
    tick: Callable[[int, int], None] = lambda done, all: None,
) -> Quantized:
    """Writes a judge in few bits.

    Args:
        judge: its folder.
        pool: battles to calibrate by; their labels are not looked at.
        target: the folder to write.
        settings: what is wanted.
        dev: battles to measure on, before and after.
        sources: what judge.yaml says of the battles' files.
        tick: is told how many layers of how many are done.

    Raises:
        ArenaJudgeError: it cannot be had, or what is asked for cannot be done.
    """
    folder = read_judge_folder(judge)
    if dev is not None and not folder.classifies:
        raise InputError(
            "writes ballots, which are not measured here",
            file=judge,
            mend="leave out --dev, and use arena-judge compare",
        )
    loaded = load_model(folder, pool, settings)
    way = way_of(settings, loaded.model)
    done = by_library(loaded, settings) if way is None else rounded(loaded, way, target, tick)
    made = _written(folder, loaded, done, target, settings, dev, dict(sources or {}))
    if done.finished is not None:
        done.finished.remove()
    return made


def _written(
    folder: JudgeFolder,
    loaded: Loaded,
    done: Done,
    target: Path,
    settings: Settings,
    dev: Measured | None,
    sources: dict[str, Any],
) -> Quantized:
    """The judge folder, measured before it appears."""
    from finetune.measuring.worth import worth
    from judge.files.folders import written_folder

    weights = sum(one.numel() for one in loaded.model.parameters())
    with written_folder(target) as draft:
        model = draft if folder.classifies else draft / MODEL
        model.mkdir(exist_ok=True)
        done.save(model)
        if folder.classifies:
            save_head(loaded, draft)
        for name in (_SEEN, _CONFIG):
            if (folder.path / name).is_file():
                shutil.copy(folder.path / name, draft / name)
        made = Quantized(
            folder=target,
            how=done.how,
            scheme=done.scheme,
            layers=done.layers,
            kept=done.kept,
            texts=len(loaded.texts) if done.calibrated else 0,
            tokens=sum(map(len, loaded.texts)) if done.calibrated else 0,
            before=bytes_of(folder),
            after=sum(file.stat().st_size for file in draft.rglob("*.safetensors")),
            half=2 * weights,
        )
        write_recipe(folder, made, settings, sources, draft)
        if dev is not None:
            found = worth(folder.path, draft, dev, device=settings.device, seed=settings.seed)
            made = replace(made, worth=found)
            write_recipe(folder, made, settings, sources, draft)
    return made
