"""A table of a teacher's logits: from battles and judges, from an array, or from its shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.folds.judges import check_members, find_fold_judges, is_folder_of_folds, speakers
from finetune.folds.table import Folds
from finetune.logits.inferring import (
    Parts,
    Plan,
    Shard,
    block_size,
    combined,
    infer,
    merged_places,
    orders_of,
)
from finetune.logits.table import Logits, logits_of
from finetune.rows.sources import row_number
from judge.battles import ID
from judge.comparing.marks import battle_marks
from judge.errors import InputError
from judge.files.rows import quoted
from judge.judges import load_judge
from judge.judges.base import Judge
from judge.judges.classifier_settings import DEFAULT, ClassifierSettings
from judge.judges.recipes import known_by

if TYPE_CHECKING:
    from judge.distributed.cluster import Cluster

Ints = npt.NDArray[np.int64]

ENDING = ".parts"
_DIRECT = -1


@dataclass(frozen=True)
class Request:
    """What is wanted of a teacher.

    Attributes:
        judge: a judge as commands take them, or a folder of judges of folds.
        name: what the teacher is called; None for what the judge is called.
        in_fold: whether judges may speak of battles that they learned from.
        keep_orders: whether the orders are kept apart.
        shard: which part of the battles.
        part: battles that are done at once; None for what suits their number.
        pad: tokens of a batch are filled up to a multiple of so many.
        seed: for judges that draw.
        running: how fine-tuned judges are run.
    """

    judge: str
    name: str | None = None
    in_fold: bool = False
    keep_orders: bool = False
    shard: Shard = field(default_factory=Shard)
    part: int | None = None
    pad: int = 1
    seed: int = 0
    running: ClassifierSettings = DEFAULT


@dataclass(frozen=True)
class Team:
    """Who speaks.

    Attributes:
        specs: of each judge, by its fold; -1 for a judge that is none.
        name: of the teacher.
        folds: the fingerprint of the folds that they were trained on.
        unknown: how many battles the folds do not know.
    """

    specs: Mapping[int, str]
    name: str
    folds: str | None
    unknown: int


def make_logits(
    request: Request,
    battles: pd.DataFrame,
    output: Path,
    *,
    file: str,
    folds: Folds | None = None,
    fresh: bool = False,
    watch: Callable[[int], Callable[[int], None]] = lambda work: lambda done: None,
    cluster: Cluster | None = None,
) -> Logits:
    """What a teacher says of the battles of a shard. What is done is kept beside `output` until
    the caller has written that, and takes `parts_of` it away.

    Args:
        request: see there.
        battles: of the whole file.
        file: their file, for messages and to know who has learned from it.
        folds: in which battles are held out.
        fresh: leave what an unfinished run has done.
        watch: is told how many battles there are to judge, and gives what is told of those done.
        cluster: which has been joined, and does the work; None for here.

    Raises:
        ArenaJudgeError: judges that cannot be had, or who has learned from what is not known.
    """
    check_once(battles, file)
    team, speaks = _team(request, battles, folds, file)
    size = block_size(len(battles), request.part)
    orders: tuple[str, ...] | None = None
    plan = Plan(len(battles), size, request.shard, speaks, ())
    if not len(plan.rows):
        blocks = -(-len(battles) // size)
        mend = f"make {blocks} shards at most, or give a smaller --part-battles"
        raise InputError(f"shard {request.shard.number} has no battles", file=file, mend=mend)
    identity = _identity(request, team, battles, size)
    parts: Parts | None = None
    tick = watch(plan.work)
    for member in sorted(speaks):
        with closing(load_judge(team.specs[member], running=request.running)) as judge:
            if hasattr(judge, "seed"):
                judge.seed = request.seed
            if hasattr(judge, "pad_to"):
                judge.pad_to(request.pad)
            if member == _DIRECT and not request.in_fold:
                _check_unseen(judge, battles, file)
            kept = orders_of(judge, keep=request.keep_orders)
            if orders is not None and kept != orders:
                raise InputError("shows battles in other orders", file=team.specs[member])
            orders = kept
            plan = replace(plan, orders=kept)
            parts = parts or Parts(parts_of(output), identity, fresh=fresh)
            if cluster is None:
                infer(judge, member, plan, battles, parts, tick)
            else:
                _spread(
                    cluster, judge, team.specs[member], request, member, plan, battles, parts, tick
                )
            team = replace(team, name=request.name or (team.name or judge.name))
    if parts is None:
        raise ValueError("nobody speaks")
    return _table(request, team, plan, battles, combined(plan, parts))


def _spread(
    cluster: Cluster,
    judge: Judge,
    spec: str,
    request: Request,
    member: int,
    plan: Plan,
    battles: pd.DataFrame,
    parts: Parts,
    tick: Callable[[int], None],
) -> None:
    from finetune.logits.spreading import Teacher, infer_on

    teacher = Teacher(spec, request.running, request.seed, request.pad, plan.orders)
    infer_on(cluster, teacher, judge, member, plan, battles, parts, tick)


def check_once(battles: pd.DataFrame, file: str) -> None:
    """Sees to it that battles can be told apart in a table.

    Raises:
        InputError: one stands twice, with the same id and text.
    """
    marks = battle_marks(battles).battles.tolist()
    first: dict[tuple[str, int], int] = {}
    for row, key in enumerate(zip(battles[ID], marks, strict=True)):
        before = first.setdefault(key, row)
        if before != row:
            what = f"{quoted(key[0])} stands in row {row_number(battles, before, file)} too"
            number = row_number(battles, row, file)
            mend = "keep one of them, or give each an id of its own"
            raise InputError(what, file=file, row=number, column=ID, mend=mend)


def parts_of(output: Path) -> Path:
    """Where a run keeps what is unfinished."""
    return output.with_name(output.name + ENDING)


def _team(
    request: Request, battles: pd.DataFrame, folds: Folds | None, file: str
) -> tuple[Team, dict[int, npt.NDArray[np.bool_]]]:
    if not is_folder_of_folds(request.judge):
        everything = np.ones(len(battles), dtype=np.bool_)
        return Team({_DIRECT: request.judge}, "", None, 0), {_DIRECT: everything}
    judges = find_fold_judges(request.judge)
    check_members(judges, folds, in_fold=request.in_fold)
    fold, unknown = _folds_of(battles, folds, file)
    speaks = speakers(fold, list(judges.members), in_fold=request.in_fold)
    specs = {one: str(path) for one, path in judges.members.items()}
    return Team(specs, judges.folder.resolve().name, judges.folds, unknown), speaks


def _folds_of(battles: pd.DataFrame, folds: Folds | None, file: str) -> tuple[Ints, int]:
    """(N,) the fold of each battle, below 0 for none, and how many the folds do not know."""
    if folds is None:
        return np.full(len(battles), -1, dtype=np.int64), 0
    places = folds.found(battles, file)
    known = np.append(folds.fold, -1)  # the last for those that are not found
    return np.asarray(known[places], dtype=np.int64), int((places < 0).sum())


def _check_unseen(judge: Judge, battles: pd.DataFrame, file: str) -> None:
    """Raises where a judge has learned from battles that it is to speak of."""
    from judge.comparing.leaks import seen_by
    from judge.provenance import learned_from

    mend = "give a folder of judges of folds, or --in-fold if it may speak of what it has learned"
    seen = seen_by(judge)
    if seen is not None:
        known = int(np.isin(battle_marks(battles).battles, seen.marks.battles).sum())
        if known:
            what = f"{judge.name} has learned from {known:,} of these {len(battles):,} battles"
            raise InputError(what, file=file, mend=mend)
    if learned_from(judge.sources, file):
        raise InputError(f"{judge.name} has learned from this file", file=file, mend=mend)


def _identity(request: Request, team: Team, battles: pd.DataFrame, size: int) -> dict[str, Any]:
    """What makes a run another one: battles, judges, and all that logits depend on."""
    marks = battle_marks(battles)
    hashed = hashlib.sha256(json.dumps([str(name) for name in battles[ID]]).encode())
    hashed.update(marks.battles.tobytes())
    hashed.update(marks.turned.tobytes())
    said = asdict(request.running)
    said["said"] = sorted(said["said"])
    return {
        "battles": hashed.hexdigest(),
        "judges": {str(fold): known_by(spec) for fold, spec in team.specs.items()},
        "folds": team.folds,
        "in_fold": request.in_fold,
        "keep_orders": request.keep_orders,
        "shard": asdict(request.shard),
        "size": size,
        "pad": request.pad,
        "seed": request.seed,
        "running": {name: list(v) if isinstance(v, tuple) else v for name, v in said.items()},
    }


def _table(
    request: Request,
    team: Team,
    plan: Plan,
    battles: pd.DataFrame,
    values: npt.NDArray[np.float64],
) -> Logits:
    rows, orders = plan.rows, plan.orders
    about: dict[str, Any] = {
        "judge": team.name,
        "folds": team.folds,
        "in_fold": request.in_fold,
        "lengths": list(request.running.lengths),
        "battles": plan.battles,
    }
    if request.shard.of > 1:
        about["shard"] = asdict(request.shard) | {"size": plan.size}
    spoke = np.stack([plan.speaks[one][rows] for one in sorted(plan.speaks)])
    alone = np.array(sorted(plan.speaks))[spoke.argmax(axis=0)]
    own = np.where(spoke.sum(axis=0) == 1, alone, -1)
    whole = logits_of(battles.iloc[rows], values[:, 0], teacher=team.name, folds=own, about=about)
    repeated = whole.take(np.repeat(np.arange(len(rows)), len(orders)))
    return replace(repeated, orders=orders * len(rows), values=values.reshape(-1, 3))


# --- shards ---------------------------------------------------------------------------------------


def merge_logits(tables: Sequence[Logits]) -> Logits:
    """The whole of which these are all the shards, as it would have been made at once.

    Raises:
        InputError: one is no shard or another's, stands twice, or is missing.
    """
    first = tables[0]
    rest = _without_shard(first)
    shards: dict[int, tuple[Shard, Logits]] = {}
    for one in tables:
        shard = _shard(one)
        if _without_shard(one) != rest or shard.of != _shard(first).of:
            what = f"is no shard of what {first.file} is a shard of"
            raise InputError(what, file=one.file, mend="merge the shards of one run")
        if shard.number in shards:
            what = f"is shard {shard.number}, as {shards[shard.number][1].file} is"
            raise InputError(what, file=one.file, mend="name every shard once")
        shards[shard.number] = shard, one
    missing = [number for number in range(_shard(first).of) if number not in shards]
    if missing:
        what = f"shard {missing[0]} of {_shard(first).of} is missing ({len(missing)} in all)"
        raise InputError(what, mend="make it with --shard-id, then merge")
    size = int(first.about["shard"]["size"])
    battles = int(first.about["battles"])
    ordered = [shards[number] for number in sorted(shards)]
    places = merged_places(battles, size, [shard for shard, _ in ordered])
    whole = _joined([one for _, one in ordered])
    orders = len(set(whole.orders))
    if len(whole) != battles * orders or len(places) != battles:
        what = f"has {len(whole) // orders:,} of {battles:,} battles"
        raise InputError(what, file=first.file, mend="make the shards anew")
    back = np.argsort(places)
    rows = (back[:, None] * orders + np.arange(orders)).ravel()
    about = {name: value for name, value in whole.about.items() if name != "shard"}
    return replace(whole.take(rows), about=about, file=None)


def _shard(logits: Logits) -> Shard:
    said = logits.about.get("shard")
    try:
        if isinstance(said, dict) and isinstance(logits.about["battles"], int):
            return Shard(int(said["number"]), int(said["of"]), bool(said["stride"]))
    except (KeyError, TypeError, ValueError):
        pass
    raise InputError("is no shard", file=logits.file, mend="merge what --shards made")


def _without_shard(logits: Logits) -> dict[str, Any]:
    about = {name: value for name, value in logits.about.items() if name != "shard"}
    shard = logits.about.get("shard")
    kept = {} if not isinstance(shard, dict) else {k: shard.get(k) for k in ("stride", "size")}
    return about | {"shard": kept, "orders": sorted(set(logits.orders))}


def _joined(tables: Sequence[Logits]) -> Logits:
    first = tables[0]
    marks = [one.marks for one in tables if one.marks is not None]
    turned = [one.turned for one in tables if one.turned is not None]
    marked = len(marks) == len(turned) == len(tables)
    return replace(
        first,
        ids=tuple(name for one in tables for name in one.ids),
        folds=np.concatenate([one.folds for one in tables]),
        orders=tuple(order for one in tables for order in one.orders),
        values=np.concatenate([one.values for one in tables]),
        marks=np.concatenate(marks) if marked else None,
        turned=np.concatenate(turned) if marked else None,
    )
