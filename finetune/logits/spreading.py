"""What teachers say of battles, worked out on a cluster: the same parts, by other hands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from finetune.logits.inferring import Parts, Plan, keep, say
from judge.distributed.cluster import Cluster, Job, Work, done
from judge.distributed.scoring import release
from judge.distributed.tables import packed, read_packed, write_packed
from judge.judges import load_judge
from judge.judges.base import Judge
from judge.judges.classifier_settings import ClassifierSettings

_ENDING = ".battles.parquet"


@dataclass(frozen=True)
class Teacher:
    """What each worker makes its judge of.

    Attributes:
        spec, running: see `judge.judges.load_judge`.
        seed: for judges that draw.
        pad: tokens of a batch are filled up to a multiple of so many.
        orders: what is kept of its word.
    """

    spec: str
    running: ClassifierSettings
    seed: int
    pad: int
    orders: tuple[str, ...]

    def __call__(self) -> Work:
        judge = load_judge(self.spec, running=self.running)
        made_ready(judge, self.seed, self.pad)
        return _Speaker(judge, self.orders)


class _Speaker:
    """Keeps what a judge says of the battles of a file."""

    def __init__(self, judge: Judge, orders: tuple[str, ...]) -> None:
        self._judge, self._orders = judge, orders

    def __call__(self, source: Path, target: Path) -> None:
        keep(target, say(self._judge, read_packed(source), self._orders))


def made_ready(judge: Judge, seed: int, pad: int) -> None:
    """Tells a judge that has a use for it what it draws with, and how far batches are filled up."""
    if hasattr(judge, "seed"):
        judge.seed = seed
    if hasattr(judge, "pad_to"):
        judge.pad_to(pad)


def infer_on(
    cluster: Cluster,
    teacher: Teacher,
    judge: Judge,
    member: int,
    plan: Plan,
    battles: pd.DataFrame,
    parts: Parts,
    tick: Callable[[int], None],
) -> None:
    """`finetune.logits.inferring.infer` on a cluster that has been joined; `judge`, which workers
    make for themselves, is closed.

    Raises:
        ArenaJudgeError: what a worker raised, or a cluster without room.
    """
    release(judge)
    jobs, lengths = [], []
    for block, rows in plan.parts(member):
        if parts.has(member, block):
            tick(len(rows))
            continue
        target = parts.file(member, block)
        source = target.with_name(target.stem + _ENDING)
        write_packed(source, packed(battles.iloc[rows]))
        jobs.append(Job(source, target))
        lengths.append(len(rows))
    on_gpus = hasattr(judge, "logits") and teacher.running.device != ("cpu",)
    for number in done(jobs, teacher, cluster, on_gpus=on_gpus):
        jobs[number].source.unlink(missing_ok=True)
        tick(lengths[number])
