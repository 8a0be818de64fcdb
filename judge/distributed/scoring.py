"""Battles of a file, judged block by block on a cluster.

    spread = Spread(spec, asking, running, seed, votes)
    found = judged(spread, judge, "battles.parquet", folder, cluster, ...)
    found.judge(battles)  # tables as they come from the file, in order

Blocks are written as Parquet, judged by workers into Parquet, and then read again as they are due:
whoever has the result goes through the file of battles as if the judge were here.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import judge as package
from judge.battles import iter_battles
from judge.distributed.cluster import Cluster, Job, Work, done
from judge.distributed.runs import opened
from judge.distributed.tables import mark, packed, read_packed, write_packed
from judge.errors import ArenaJudgeError, InputError
from judge.judges import load_judge
from judge.judges.base import Judge, Judgments
from judge.judges.classifier_settings import ClassifierSettings
from judge.judges.prompted_settings import PromptedSettings
from judge.judges.recipes import known_by

_PROBA = ("a", "b", "tie")


@dataclass(frozen=True)
class Spread:
    """What each worker makes its judge of.

    Attributes:
        spec, asking, running: see `judge.judges.load_judge`.
        seed: for judges that draw.
        votes: whether ballots are kept where there are some.
    """

    spec: str
    asking: PromptedSettings
    running: ClassifierSettings
    seed: int
    votes: bool

    def __call__(self) -> Work:
        judge = load_judge(self.spec, self.asking, self.running)
        if hasattr(judge, "seed"):
            judge.seed = self.seed
        return _Scorer(judge, self.votes)

    def identity(self) -> dict[str, Any]:
        """What makes a run another one, besides its battles."""
        said = asdict(self) | {"version": package.__version__, "judge": known_by(self.spec)}
        return {**said, "kind": "score"}


class _Scorer:
    """Judges the battles of a file into another."""

    def __init__(self, judge: Judge, votes: bool) -> None:
        self._judge, self._votes = judge, votes

    def __call__(self, source: Path, target: Path) -> None:
        battles = read_packed(source)
        said = self._judge.judge(battles, ballots=self._votes)
        if said.proba.shape != (len(battles), 3):
            name, found = self._judge.name, said.proba.shape
            raise ArenaJudgeError(f"{name} gave probabilities {found} for {len(battles)} battles")
        if said.ballots is not None:
            write_packed(_ballots(target), packed(said.ballots))
        table = pd.DataFrame(said.proba.astype(np.float64), columns=list(_PROBA))
        reasons = [said.reasons.get(place) for place in range(len(battles))]
        table["reason"] = pd.Series(reasons, dtype=object)
        write_packed(target, packed(table))


class Found(Judge):
    """What workers said of the battles of a file, which come in the order of the file.

    Args:
        judge: who it was, for its name and where it comes from.
        parts: of each block the number of its first battle, its length and where the result is.
        votes: whether ballots are kept where there are some.
    """

    def __init__(self, judge: Judge, parts: list[tuple[int, int, Path]], votes: bool) -> None:
        self.name, self.sources, self.folder = judge.name, judge.sources, judge.folder
        self._parts = {first: (rows, path) for first, rows, path in parts}
        self._votes = votes

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        rows, path = self._parts.get(int(battles.index[0]), (-1, Path()))
        if rows != len(battles):
            raise ArenaJudgeError("the file of battles changed while it was judged")
        table = read_packed(path)
        if len(table) != rows:
            raise InputError("is damaged", file=path, mend="take it away, and go on")
        said = enumerate(table["reason"].tolist())
        reasons = {place: reason for place, reason in said if reason is not None}
        beside = _ballots(path)
        votes = read_packed(beside) if self._votes and beside.is_file() else None
        return Judgments(table[list(_PROBA)].to_numpy(dtype=np.float64), reasons, votes)


def judged(
    spread: Spread,
    judge: Judge,
    battles: str,
    folder: Path,
    cluster: Cluster,
    *,
    chunk_rows: int,
    on_gpus: bool,
    fresh: bool,
    tick: Callable[[int], None],
) -> Found:
    """What the workers of a cluster that has been joined say of the battles of a file.

    Args:
        spread: what workers make their judge of.
        judge: the same, which is closed: workers need the memory.
        battles: the file, which is read twice.
        folder: where blocks are kept until the caller is done with the result.
        cluster: see there.
        chunk_rows: battles of a block.
        on_gpus: whether the judge would have a GPU.
        fresh: leave what another run has done.
        tick: is told of battles that are judged.

    Raises:
        ArenaJudgeError: the battles cannot be read, or judged.
    """
    release(judge)
    opened(folder, json.loads(json.dumps(spread.identity(), default=sorted)), fresh=fresh)
    parts, jobs, lengths = [], [], []
    tables = iter_battles(battles, chunk_rows=chunk_rows)
    for number, table in enumerate(tables):
        data = packed(table)
        source = folder / f"{number:06d}-{mark(data)}.battles.parquet"
        target = folder / f"{number:06d}-{mark(data)}.parquet"
        parts.append((int(table.index[0]), len(table), target))
        if target.is_file():
            tick(len(table))
            continue
        if not source.is_file():
            write_packed(source, data)
        jobs.append(Job(source, target))
        lengths.append(len(table))
    for number in done(jobs, spread, cluster, on_gpus=on_gpus):
        jobs[number].source.unlink(missing_ok=True)
        tick(lengths[number])
    return Found(judge, parts, spread.votes)


def release(judge: Judge) -> None:
    """Gives back what a judge holds, so that there is room for those of the workers.

    Raises:
        ArenaJudgeError: it is none that workers can have.
    """
    from judge.judges.jury import prompted_within

    if prompted_within(judge):
        raise ArenaJudgeError(
            f"--on ray is for judges that compute by themselves, and {judge.name} asks a model: "
            "leave it out"
        )
    judge.close()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _ballots(target: Path) -> Path:
    return target.with_suffix(".ballots.parquet")
