"""From battles and a config to what the loop of training works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.folds.sides import Fold, read_fold
from finetune.logits.teachers import Teachers, read_teachers
from finetune.measuring.labelled import Measured, labelled_of, read_measured
from finetune.rows.data import TrainingSet, parse_extra, read_training, training_of
from finetune.rows.sources import Pool, read_pool
from finetune.rows.splitting import split
from finetune.settings.config import Config
from judge.comparing.leaks import Seen, merged
from judge.comparing.marks import joined
from judge.errors import InputError

if TYPE_CHECKING:
    import torch

    from finetune.runs.starting import Start
    from finetune.training.objectives import Examples, Preference

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Battles:
    """What a run learns from and is measured on.

    Attributes:
        train: learned from.
        dev: what the best step is chosen on; None for nothing.
        held_out: what the judge is measured on in the end.
        seen: marks of all that the judge hangs on, dev battles among them.
        notes: what there is to say of the split.
        fold: the fold that is held out; None without folds.
        teachers: what they say of `train`; None without any.
        of_fold: which of `held_out` is the fold; None if the judge is not measured on it.
    """

    train: TrainingSet
    dev: Measured | None
    held_out: tuple[Measured, ...]
    seen: Seen
    notes: tuple[str, ...] = ()
    fold: Fold | None = None
    teachers: Teachers | None = None
    of_fold: Measured | None = None


def read(config: Config, *, workers: int = 1) -> Battles:
    """The battles that a config names, read by so many threads.

    Raises:
        InputError: none are named, or a file cannot be used.
    """
    data = config.data
    if data.battles is None:
        raise InputError("training wants battles", mend="name a file of them")
    pooled = _pooled(config, data.battles, workers)
    whole, fold = pooled.whole, pooled.fold
    held_out = tuple(read_measured(name, workers=workers) for name in data.held_out)
    held = None if fold is None else pooled.pool.take(np.flatnonzero(fold.held))
    of_fold = None
    if fold is not None and held is not None and data.measure_fold:
        of_fold = labelled_of(fold.name, held, fold.name)
        held_out = (of_fold, *held_out)
    train, dev, seen, notes = whole, None, whole.seen, []
    if data.dev is not None:
        # What is measured on in the end is not chosen by either.
        apart = [] if held is None else [held.marks]
        rest = read_training(data.dev, held_out=data.held_out, apart=apart, workers=workers)
        dev = _measured(Path(data.dev).name, rest)
        seen = merged([whole.seen, rest.seen])
    elif data.dev_share:
        parts = split(whole, data.dev_share, seed=config.run.seed)
        if len(parts.apart):
            what = "battles of --extra are about prompts of the dev battles and are left out"
            notes.append(f"{len(parts.apart):,} {what}")
        train = whole.take(parts.train)
        dev = _measured("dev", whole.take(parts.held_out))
    if dev is not None and not len(dev):
        raise InputError(
            "the dev battles have no labels",
            file=data.dev or data.battles,
            mend="add --dev FILE or --dev-share 0",
        )
    teachers = None
    if pooled.teachers is not None:
        teachers = pooled.teachers.take(pooled.rows[train.places], train.turned)
        notes.append(_taught(train, teachers))
    return Battles(train, dev, held_out, seen, tuple(notes), fold, teachers, of_fold)


@dataclass(frozen=True)
class _Pooled:
    """What the files hold, and what of it may be learned from."""

    pool: Pool
    rows: Ints
    whole: TrainingSet
    fold: Fold | None
    teachers: Teachers | None


def _pooled(config: Config, file: str, workers: int) -> _Pooled:
    data, asked = config.data, config.distillation.teacher
    extras = [parse_extra(extra) for extra in data.extra]
    files = [file, *(extra.file for extra in extras)]
    pool = read_pool(files, labelled=not asked, workers=workers)
    kept = [*([] if data.dev is None else [data.dev]), *data.held_out]
    held = read_pool(tuple(dict.fromkeys(kept)), labelled=False, workers=workers).marks
    fold, teachers = None, None
    if data.fold is not None and data.folds is None:
        raise InputError(f"fold {data.fold} of which folds?", mend="name them: --folds FOLDER")
    if data.folds is not None:
        if data.fold is None:
            raise InputError("a judge learns from all folds but one", mend="say which: --fold 0")
        fold = read_fold(data.folds, data.fold, pool, file)
        held = joined([held, pool.marks.take(fold.held)])
    if asked:
        teachers = read_teachers(asked, pool, in_fold=config.distillation.in_fold)
    rows = np.arange(len(pool)) if fold is None else np.flatnonzero(fold.learned)
    whole = training_of(
        pool.take(rows),
        held,
        extras,
        dedupe=data.dedupe,
        near=data.near,
        seed=config.run.seed,
        file=file,
        known=None if teachers is None else teachers.known[rows],
    )
    return _Pooled(pool, rows, whole, fold, teachers)


def _taught(train: TrainingSet, teachers: Teachers) -> str:
    """What there is to say of teachers."""
    known, labelled = teachers.known, train.labelled
    found = f"{int(known.sum()):,} of {len(train):,} battles have logits of "
    found += teachers.names[0] if len(teachers.names) == 1 else f"{len(teachers.names)} teachers"
    return found + (f", {int((~labelled).sum()):,} of them no label" if not labelled.all() else "")


def _measured(name: str, of: TrainingSet) -> Measured:
    of = of if of.labelled.all() else of.take(np.flatnonzero(of.labelled))
    return Measured(name, of.battles, of.labels, of.weights, of.prompts)


def encoder_of(start: Start) -> Any:
    """What writes battles as the network reads them."""
    from judge.classifier.templates import load_template
    from judge.classifier.tokens import BattleEncoder

    shape = start.network.shape
    template = load_template(shape.template)
    if template.form != shape.form:
        raise InputError(
            f"the template {template.spec} is of the form {template.form}, and not {shape.form}"
        )
    return BattleEncoder(start.tokenizer, template, shape.max_length, shape.policy)


def objective_of(config: Config, start: Start, battles: Battles) -> Preference:
    """What the loop works on."""
    from finetune.training.distilling import Distillation, mixture_of
    from finetune.training.objectives import Preference

    encoder = encoder_of(start)
    how = config.optimisation
    both = start.network.shape.sequences == 2 or how.orders != "AB"
    train, dev, teachers = battles.train, battles.dev, battles.teachers
    learned = examples(encoder, train.battles, train.labels, train.weights, both=both)
    measured = None
    if dev is not None:
        measured = examples(encoder, dev.battles, dev.labels, dev.weights)
    tokens = measuring_tokens(config, start.network.device)
    if teachers is None:
        return Preference(
            start.network,
            learned,
            measured,
            orders=how.orders,
            smoothing=how.smoothing,
            seed=config.run.seed,
            batch_tokens=tokens,
        )
    return Distillation(
        start.network,
        learned,
        measured,
        teachers=teachers.values,
        mixture=mixture_of(config.distillation),
        main=train.source == 0,
        orders=how.orders,
        smoothing=how.smoothing,
        seed=config.run.seed,
        batch_tokens=tokens,
    )


def examples(
    encoder: Any, battles: pd.DataFrame, labels: Floats, weights: Floats, *, both: bool = True
) -> Examples:
    """Battles as a network reads them, in both orders or in one."""
    from finetune.training.objectives import Examples

    orders = ("AB", "BA") if both else ("AB",)
    return Examples(encoder.encode(battles, orders), labels, weights)


def measuring_tokens(config: Config, device: torch.device) -> int:
    """Tokens at once where nothing is learned."""
    return config.run.batch_tokens or (4096 if device.type == "cpu" else 32768)
