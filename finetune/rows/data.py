"""What a judge is trained on: battles of one file and others beside it, each of them once.

    training = read_training("train.parquet", [Extra("more.parquet", 0.5)], held_out=["dev.csv"])
    training.battles, training.labels, training.weights, training.prompts

The main file is what the judge is for: where others say something of the same battle or prompt,
they give way, and their responses are exchanged by chance (see `finetune.rows.shuffling`). Battles
with empty texts stay: a judge meets such, and has to learn what people make of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.rows.shuffling import turns
from finetune.rows.sifting import Reason, exchanged, kin, pooled_labels, sift
from finetune.rows.sources import Extra, Floats, Ints, Pool, parse_extra, read_pool
from judge.battles import ID
from judge.comparing.leaks import Seen, merged
from judge.comparing.marks import Marks, joined
from judge.errors import InputError
from judge.files.turns import RESPONSES

__all__ = ["Extra", "FileCounts", "TrainingSet", "parse_extra", "read_training", "training_of"]


@dataclass(frozen=True)
class FileCounts:
    """What became of a file's battles.

    Attributes:
        name: of the file.
        weight: what one counts for.
        battles: how many there are.
        left_out: how many are not trained on, by reason.
        used: how many are.
        turned: of these, how many had their responses exchanged.
        pooled: how many have the mean of several labels.
    """

    name: str
    weight: float
    battles: int
    left_out: dict[str, int]
    used: int
    turned: int
    pooled: int


@dataclass(frozen=True)
class TrainingSet:
    """N battles to train on.

    Attributes:
        battles: their ids and texts (see `judge.battles`).
        labels: (N, 3) shares of A, B and tie.
        weights: (N,) what each counts for.
        prompts: (N,) a number for each prompt; battles that are another's but for small edits have
            its number.
        source: (N,) which of the files each is from; 0 is the main one.
        names: of the files.
        counts: what became of the battles of each file.
        dropped: a row a battle that was read and is not here: `source`, `id`, its number in the
            file from 1 (`battle`), and the `reason`.
        seen: marks of all of them, which the judge keeps (see `judge.comparing.leaks`).
        places: (N,) which of all that was read each is.
        turned: (N,) those whose responses were exchanged.
    """

    battles: pd.DataFrame
    labels: Floats
    weights: Floats
    prompts: Ints
    source: Ints
    names: tuple[str, ...]
    counts: tuple[FileCounts, ...]
    dropped: pd.DataFrame
    seen: Seen
    places: Ints
    turned: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.battles)

    def take(self, rows: npt.ArrayLike) -> TrainingSet:
        """Those of the chosen rows; the counts stay those of all that was read."""
        chosen = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            battles=self.battles.iloc[chosen].reset_index(drop=True),
            labels=self.labels[chosen],
            weights=self.weights[chosen],
            prompts=self.prompts[chosen],
            source=self.source[chosen],
            seen=replace(
                self.seen, marks=self.seen.marks.take(chosen), sources=self.seen.sources[chosen]
            ),
            places=self.places[chosen],
            turned=self.turned[chosen],
        )

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(N,) those with a label; the others are there for what teachers say of them."""
        return np.asarray(~np.isnan(self.labels).any(axis=1))


def read_training(
    file: str,
    extras: Sequence[Extra] = (),
    *,
    held_out: Sequence[str] = (),
    apart: Sequence[Marks] = (),
    dedupe: str = "prompt",
    near: bool = False,
    seed: int = 0,
    workers: int = 1,
) -> TrainingSet:
    """The labelled battles of files, each battle once.

    Args:
        file: the main file, in any form of `judge.battles`.
        extras: files beside it; earlier ones take precedence.
        held_out: files whose battles, near-copies of them and prompts are left out.
        apart: marks of others that are left out in the same way.
        dedupe: `prompt`: what the main file or an earlier extra asks, a later extra does not;
            `battle`: only the same battles go, swapped or not; `none`: nothing goes. Within a file
            the labels of the same battle are pooled, unless nothing goes.
        near: near-copies of battles go as well.
        seed: of which responses of extras are exchanged.
        workers: threads.

    Raises:
        InputError: a file cannot be read, has no labels or is named twice, or nothing is left.
    """
    pool = read_pool([file, *(extra.file for extra in extras)], workers=workers)
    held = joined([read_pool(held_out, labelled=False, workers=workers).marks, *apart])
    return training_of(pool, held, extras, dedupe=dedupe, near=near, seed=seed, file=file)


def training_of(
    pool: Pool,
    held: Marks,
    extras: Sequence[Extra] = (),
    *,
    dedupe: str = "prompt",
    near: bool = False,
    seed: int = 0,
    file: str | None = None,
    known: npt.NDArray[np.bool_] | None = None,
) -> TrainingSet:
    """What `read_training` makes of what it has read.

    Args:
        pool: the battles of the main file and of the extras.
        held: marks of what is left out, with its prompts.
        known: (N,) battles that are learned from without a label, since teachers speak of them.
        file: the main one, for messages.
    """
    reasons = sift(pool, held, dedupe=dedupe, near=near, known=known)
    labels = pool.labels if dedupe == "none" else pooled_labels(pool, reasons)
    rows = np.flatnonzero(reasons == None)  # noqa: E711 of each cell
    if not len(rows):
        raise InputError(_nothing_left(reasons), file=file, mend="give it battles of its own")
    turned = turns(pool.marks, seed) & (pool.source > 0)
    pooled = _pooled(pool, reasons) if dedupe != "none" else np.zeros(len(pool), dtype=np.bool_)
    weights = np.array([1.0, *(extra.weight for extra in extras)])
    left = pool.take(rows)
    return TrainingSet(
        exchanged_responses(left.battles, turned[rows]),
        exchanged(labels[rows], turned[rows]),
        weights[left.source] * left.weights,
        kin(left.marks),
        left.source,
        pool.names,
        _counts(pool, reasons, weights, turned, pooled),
        _dropped(pool, reasons),
        Seen(left.marks, left.source.astype(np.uint16), pool.names),
        rows,
        turned[rows],
    )


def seen_of(*parts: TrainingSet) -> Seen:
    """What a judge that was trained on these has seen, each battle once; for `write_seen`."""
    return merged(part.seen for part in parts)


def exchanged_responses(battles: pd.DataFrame, where: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Battles with response A and B exchanged in some rows."""
    a, b = (battles[name].to_numpy() for name in RESPONSES)
    return battles.assign(
        **{RESPONSES[0]: np.where(where, b, a), RESPONSES[1]: np.where(where, a, b)}
    )


def _pooled(pool: Pool, reasons: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """(N,) battles that are trained on and stand in their file again."""
    again = reasons == Reason.COPY
    copies = set(zip(pool.source[again].tolist(), pool.marks.battles[again].tolist(), strict=True))
    own = zip(pool.source.tolist(), pool.marks.battles.tolist(), strict=True)
    there = np.fromiter((key in copies for key in own), dtype=np.bool_, count=len(pool))
    used: npt.NDArray[np.bool_] = reasons == None  # noqa: E711 of each cell
    return there & used


def _counts(
    pool: Pool,
    reasons: npt.NDArray[np.object_],
    weights: Floats,
    turned: npt.NDArray[np.bool_],
    pooled: npt.NDArray[np.bool_],
) -> tuple[FileCounts, ...]:
    counts = []
    for place, name in enumerate(pool.names):
        own = pool.source == place
        why = Counter(reasons[own].tolist())
        left_out = {reason.value: why[reason] for reason in Reason if why[reason]}
        used = own & (reasons == None)  # noqa: E711 of each cell
        counts.append(
            FileCounts(
                name,
                float(weights[place]),
                int(own.sum()),
                left_out,
                int(used.sum()),
                int((turned & used).sum()),
                int((pooled & used).sum()),
            )
        )
    return tuple(counts)


def _dropped(pool: Pool, reasons: npt.NDArray[np.object_]) -> pd.DataFrame:
    gone = np.flatnonzero(reasons != None)  # noqa: E711 of each cell
    return pd.DataFrame(
        {
            "source": [pool.names[place] for place in pool.source[gone].tolist()],
            "id": pool.battles[ID].iloc[gone].tolist(),
            "battle": pool.rows[gone] + 1,
            "reason": [reason.value for reason in reasons[gone].tolist()],
        }
    )


def _nothing_left(reasons: npt.NDArray[np.object_]) -> str:
    why = Counter(reason.value for reason in reasons.tolist())
    said = ", ".join(f"{count:,} {reason}" for reason, count in why.most_common())
    return f"leaves no battle to train on ({said})"
