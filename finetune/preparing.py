"""From battles and a config to what the loop of training works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.config import Config
from finetune.data import TrainingSet, parse_extra, read_training
from finetune.sifting import kin
from finetune.sources import read_pool
from finetune.splitting import split
from judge.comparing.leaks import Seen, merged
from judge.errors import InputError

if TYPE_CHECKING:
    import torch

    from finetune.objectives import Examples, Preference
    from finetune.starting import Start

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """Labelled battles that are measured on.

    Attributes:
        name: what they are called.
        battles, labels, weights: N of them.
        prompts: (N,) a number for each prompt.
    """

    name: str
    battles: pd.DataFrame
    labels: Floats
    weights: Floats
    prompts: Ints

    def __len__(self) -> int:
        return len(self.battles)


@dataclass(frozen=True)
class Battles:
    """What a run learns from and is measured on.

    Attributes:
        train: learned from.
        dev: what the best step is chosen on; None for nothing.
        held_out: what the judge is measured on in the end.
        seen: marks of all that the judge hangs on, dev battles among them.
        notes: what there is to say of the split.
    """

    train: TrainingSet
    dev: Measured | None
    held_out: tuple[Measured, ...]
    seen: Seen
    notes: tuple[str, ...] = ()


def read(config: Config, *, workers: int = 1) -> Battles:
    """The battles that a config names, read by so many threads.

    Raises:
        InputError: none are named, or a file cannot be used.
    """
    data = config.data
    if data.battles is None:
        raise InputError("training wants battles", mend="name a file of them")
    kept = [*([] if data.dev is None else [data.dev]), *data.held_out]
    whole = read_training(
        data.battles,
        [parse_extra(extra) for extra in data.extra],
        held_out=tuple(dict.fromkeys(kept)),
        dedupe=data.dedupe,
        near=data.near,
        seed=config.run.seed,
        workers=workers,
    )
    held_out = tuple(_file(name, workers) for name in data.held_out)
    if data.dev is not None:
        # What is measured on in the end is not chosen by either.
        rest = read_training(data.dev, held_out=data.held_out, workers=workers)
        dev = _measured(Path(data.dev).name, rest)
        return Battles(whole, dev, held_out, merged([whole.seen, rest.seen]))
    if not data.dev_share:
        return Battles(whole, None, held_out, whole.seen)
    parts = split(whole, data.dev_share, seed=config.run.seed)
    notes: tuple[str, ...] = ()
    if len(parts.apart):
        what = "battles of --extra are about prompts of the dev battles and are left out"
        notes = (f"{len(parts.apart):,} {what}",)
    dev = _measured("dev", whole.take(parts.held_out))
    return Battles(whole.take(parts.train), dev, held_out, whole.seen, notes)


def _measured(name: str, of: TrainingSet) -> Measured:
    return Measured(name, of.battles, of.labels, of.weights, of.prompts)


def _file(name: str, workers: int) -> Measured:
    """The labelled battles of a file."""
    pool = read_pool([name], workers=workers)
    pool = pool.take(np.flatnonzero(~np.isnan(pool.labels).any(axis=1)))
    if not len(pool):
        raise InputError("has no labelled battles to measure on", file=name)
    return Measured(pool.names[0], pool.battles, pool.labels, np.ones(len(pool)), kin(pool.marks))


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
    from finetune.objectives import Preference

    encoder = encoder_of(start)
    how = config.optimisation
    both = start.network.shape.sequences == 2 or how.orders != "AB"
    train = battles.train
    dev = battles.dev
    return Preference(
        start.network,
        examples(encoder, train.battles, train.labels, train.weights, both=both),
        None if dev is None else examples(encoder, dev.battles, dev.labels, dev.weights),
        orders=how.orders,
        smoothing=how.smoothing,
        seed=config.run.seed,
        batch_tokens=measuring_tokens(config, start.network.device),
    )


def examples(
    encoder: Any, battles: pd.DataFrame, labels: Floats, weights: Floats, *, both: bool = True
) -> Examples:
    """Battles as a network reads them, in both orders or in one."""
    from finetune.objectives import Examples

    orders = ("AB", "BA") if both else ("AB",)
    return Examples(encoder.encode(battles, orders), labels, weights)


def measuring_tokens(config: Config, device: torch.device) -> int:
    """Tokens at once where nothing is learned."""
    return config.run.batch_tokens or (4096 if device.type == "cpu" else 32768)
