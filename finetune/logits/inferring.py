"""What teachers say of battles, worked out piece by piece, so that a killed run goes on.

    plan = plan_of(battles, fold=fold, speaks={0: ..., 1: ...})
    with Parts(Path("x.parquet.parts"), identity) as parts:
        for member in plan.members:
            infer(judge_of(member), member, plan, parts)
        values = combined(plan, parts)

Battles are cut into blocks of neighbours. What a judge says of a block is a part: a file that
appears whole or not at all. A shard has whole blocks, so that the same battles are in a batch
whatever is sharded, and shards together are the whole to the last bit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.logits.table import MEAN, log_softmax
from judge.errors import ArenaJudgeError, InputError
from judge.files.atomic import explained, written_whole
from judge.judges.base import Judge

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RUN = "run.json"
_MOST_BATTLES, _BLOCKS = 256, 32
_LEAST = 1e-15  # what is called impossible is given so much, as in the log loss


@dataclass(frozen=True)
class Shard:
    """A part of the blocks.

    Attributes:
        number, of: which one of how many, from 0.
        stride: whether it has every so many'th block, and not neighbours.
    """

    number: int = 0
    of: int = 1
    stride: bool = False

    def blocks(self, count: int) -> Ints:
        """The blocks of `count` that it has."""
        if self.stride:
            return np.arange(self.number, count, self.of)
        return np.asarray(np.array_split(np.arange(count), self.of)[self.number])


def block_size(battles: int, wanted: int | None = None) -> int:
    """How many battles a block has."""
    return wanted or int(np.clip(-(-battles // _BLOCKS), 1, _MOST_BATTLES))


def shard_rows(battles: int, size: int, shard: Shard) -> Ints:
    """The rows of N battles that a shard has, in their order."""
    blocks = shard.blocks(-(-battles // size))
    rows = (blocks[:, None] * size + np.arange(size)).ravel()
    return np.asarray(rows[rows < battles], dtype=np.int64)


@dataclass(frozen=True)
class Plan:
    """Who speaks of which battles.

    Attributes:
        battles: how many there are in the file.
        size: of a block.
        shard: which blocks are worked through.
        speaks: for each judge, by its fold (-1 for a judge that is none), the (N,) battles that it
            speaks of.
        orders: what is kept of each: several orders, or the mean.
    """

    battles: int
    size: int
    shard: Shard
    speaks: Mapping[int, Bools]
    orders: tuple[str, ...]

    @property
    def rows(self) -> Ints:
        """The rows of this shard."""
        return shard_rows(self.battles, self.size, self.shard)

    def parts(self, member: int) -> list[tuple[int, Ints]]:
        """The blocks in which a judge speaks, and the rows of each."""
        found = []
        for block in self.shard.blocks(-(-self.battles // self.size)).tolist():
            rows = np.arange(block * self.size, min((block + 1) * self.size, self.battles))
            rows = rows[self.speaks[member][rows]]
            if len(rows):
                found.append((block, rows))
        return found

    @property
    def work(self) -> int:
        """How many battles are judged, each once for each judge that speaks of it."""
        return int(sum(mask[self.rows].sum() for mask in self.speaks.values()))


class Parts:
    """What is done of a run, in a folder beside what it is going to write.

    Args:
        folder: where.
        identity: what the run is; parts of another are not taken for its own.
        fresh: leave what another has done.

    Raises:
        InputError: the folder is another run's, or is none of these.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.folder = folder
        said = json.dumps(identity, sort_keys=True, indent=1)
        if folder.exists():
            self._check(said, fresh)
        with explained(folder):
            folder.mkdir(exist_ok=True)
        if not (folder / RUN).is_file():
            with written_whole(folder / RUN) as file:
                file.write(said.encode())

    def _check(self, said: str, fresh: bool) -> None:
        run = self.folder / RUN
        ours = self.folder.is_dir() and (run.is_file() or not any(self.folder.iterdir()))
        if not ours:
            mend = "take it away"
            raise InputError("is in the way of an unfinished run", file=self.folder, mend=mend)
        if not run.is_file():
            return
        if fresh:
            self.clear()
        elif run.read_text(encoding="utf-8") != said:
            what = "holds an unfinished run with other battles, judges or settings"
            mend = "give the same command again, or add --fresh to leave what it has done"
            raise InputError(what, file=self.folder, mend=mend)

    def has(self, member: int, block: int) -> bool:
        """Whether a judge is done with a block."""
        return self.file(member, block).is_file()

    def put(self, member: int, block: int, values: Floats) -> None:
        """Keeps (n, O, 3) log-probabilities."""
        keep(self.file(member, block), values)

    def get(self, member: int, block: int, shape: tuple[int, ...]) -> Floats:
        """What was kept.

        Raises:
            InputError: it is not what it was.
        """
        file = self.file(member, block)
        try:
            found = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            found = None
        if found is None or found.shape != shape or found.dtype != np.float64:
            raise InputError("is damaged", file=file, mend="take it away, and go on")
        return np.asarray(found)

    def clear(self) -> None:
        """Takes all of it away."""
        with explained(self.folder):
            shutil.rmtree(self.folder)

    def file(self, member: int, block: int) -> Path:
        """Where a judge's word on a block is kept."""
        name = "judge" if member < 0 else f"fold-{member}"
        return self.folder / f"{name}-{block:06d}.npy"


def keep(file: Path, values: Floats) -> None:
    """Writes (n, O, 3) log-probabilities, whole."""
    with written_whole(file) as stream, explained(file):
        np.save(stream, values, allow_pickle=False)


def orders_of(judge: Judge, *, keep: bool) -> tuple[str, ...]:
    """What is kept of a judge's word: the orders apart, or their mean.

    Raises:
        ArenaJudgeError: it has no orders to keep apart.
    """
    if not keep:
        return (MEAN,)
    orders = getattr(judge, "orders", None)
    shape = getattr(judge, "shape", None)
    if not hasattr(judge, "logits") or orders is None or getattr(shape, "sequences", 1) != 1:
        raise ArenaJudgeError(
            f"{judge.name} does not say what it thinks in each order; leave out --keep-orders"
        )
    return tuple(orders)


def say(judge: Judge, battles: pd.DataFrame, orders: Sequence[str]) -> Floats:
    """(N, O, 3) log-probabilities of battles, for each of the orders that are kept; NaN where
    unjudged. The mean is that of the orders' log-probabilities where the judge gives those (a
    fine-tuned one), and else the logarithm of what it says."""
    raw = getattr(judge, "logits", None)
    if raw is None:
        proba = judge.predict_proba(battles)
        if proba.shape != (len(battles), 3):
            what = f"gave probabilities {proba.shape} for {len(battles)} battles"
            raise ArenaJudgeError(f"{judge.name} {what}")
        return np.log(np.maximum(proba, _LEAST))[:, None]
    each = np.asarray(raw(battles), dtype=np.float64)
    if tuple(orders) != (MEAN,):
        return each
    return log_softmax(each.mean(axis=1))[:, None]


def infer(
    judge: Judge,
    member: int,
    plan: Plan,
    battles: pd.DataFrame,
    parts: Parts,
    tick: Callable[[int], None],
) -> None:
    """Has a judge speak of its blocks, but for those that are done; `tick` is told of battles."""
    for block, rows in plan.parts(member):
        if not parts.has(member, block):
            parts.put(member, block, say(judge, battles.iloc[rows], plan.orders))
        tick(len(rows))


def combined(plan: Plan, parts: Parts) -> Floats:
    """(n, O, 3) what was said of the shard's battles: the mean of the log-probabilities of all
    judges that speak of one, up to a constant; NaN where one of them left it unjudged."""
    sums = np.zeros((plan.battles, len(plan.orders), 3))
    counts = np.zeros(plan.battles, dtype=np.int64)
    for member in sorted(plan.speaks):
        for block, rows in plan.parts(member):
            sums[rows] += parts.get(member, block, (len(rows), len(plan.orders), 3))
            counts[rows] += 1
    rows = plan.rows
    if (counts[rows] == 0).any():
        raise ArenaJudgeError("a battle is spoken of by no judge")
    return np.asarray(sums[rows] / counts[rows][:, None, None])


def merged_places(battles: int, size: int, shards: Sequence[Shard]) -> Ints:
    """Where each row of shards, one after the other, stands in the whole."""
    return np.concatenate([shard_rows(battles, size, one) for one in shards])
