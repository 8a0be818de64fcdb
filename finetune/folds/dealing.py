"""Battles dealt out to folds: by prompt, or so that models are unseen.

    folds = make_folds(["battles.parquet"], extras=["more.csv"], k=5)

*By prompt*: battles about one prompt, and those that are another's but for small edits, are in one
fold, whatever file they stand in; the folds have about as many battles, and as many of each label.
The judge of a fold learns from all other folds.

*By model*: a battle has two models, so no deal puts every battle in a fold whose models the rest
never saw: models meet one another, and all of them would end up in one fold. So models are dealt
out, as many battles' worth to each fold, and a battle is held out in the fold of one of its two
models, whichever evens the labels out. The judge of a fold learns from no battle with a model of
that fold, on either side, nor from one about a prompt that is held out there. So each battle is
judged once by a judge that has never seen one of its models (both, where both are of that fold), as
a new model would be met. It costs about twice as many battles on the training side.

Battles of extras are in no fold: every judge learns from them, but from none about a prompt that is
dealt out, and by model from none with a model of its fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.folds.table import BY, EXTRA, LABELS, LEFT_OUT, FoldFile, Folds, check_k, sound
from finetune.rows.sifting import kin
from finetune.rows.sources import about_something, row_number
from judge.battles import ID, MODELS, iter_battles, labels
from judge.comparing.marks import Marks, battle_marks, joined
from judge.comparing.near import Kind, find
from judge.errors import ArenaJudgeError, InputError
from judge.files.rows import quoted
from judge.folds import stratified_folds
from judge.parallel import ordered_map
from judge.provenance import fingerprint

Ints = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]
_UNLABELLED = len(LABELS) - 1


@dataclass(frozen=True)
class _Read:
    """N battles of a file, their text left behind.

    Attributes:
        file: it.
        ids: (N,).
        labels: (N,) which of `LABELS`.
        models: (N, 2) names, None for unknown ones.
        rows: (N,) in the file, as an editor counts.
        marks: of each.
    """

    file: str
    ids: list[str]
    labels: Ints
    models: Names
    rows: list[int]
    marks: Marks


def make_folds(
    files: Sequence[str],
    k: int = 5,
    *,
    by: str = "prompt",
    extras: Sequence[str] = (),
    seed: int = 0,
    workers: int = 1,
) -> Folds:
    """Folds of the battles of files.

    Args:
        files: of battles, in any form of `judge.battles`; unlabelled ones are dealt out too.
        k: how many folds.
        by: `prompt` or `model`; see above.
        extras: files to learn from only.
        seed: of the deal.
        workers: threads that mark battles.

    Raises:
        ArenaJudgeError: too few prompts or models, or a fold that leaves nothing to learn from.
        InputError: a file cannot be read, is named twice, has an id twice, or with folds by model a
            battle that does not name both.
    """
    if by not in BY:
        raise ValueError(f"folds are made by {' or '.join(BY)}, and not by {by}")
    _named_once([*files, *extras])
    check_k(k, k)
    main = [_read(file, workers) for file in files]
    more = [_read(file, workers) for file in extras]
    ours, theirs = (joined([one.marks for one in part]) for part in (main, more))
    prompts = kin(ours)
    codes = np.concatenate([one.labels for one in main])
    check_k(k, int(prompts.max(initial=-1)) + 1)
    if by == "prompt":
        fold = stratified_folds(prompts, codes, k, seed)
        sides = np.full((len(ours), 2), -1, dtype=np.int64)
        extra_sides = np.full((len(theirs), 2), -1, dtype=np.int64)
    else:
        homes = _dealt_models(main, k, seed)
        sides, extra_sides = _sides(main, homes), _sides(more, homes)
        fold = _of_models(sides, codes, k, seed)
    left_out = find(theirs, ours).kinds != Kind.NONE
    return _checked(
        Folds(
            k,
            by,
            seed,
            tuple(name for one in (*main, *more) for name in one.ids),
            np.concatenate([fold, np.where(left_out, LEFT_OUT, EXTRA)]).astype(np.int16),
            np.concatenate([ours.battles, theirs.battles]),
            np.concatenate([prompts, np.full(len(theirs), -1)]),
            np.concatenate([sides, extra_sides]).astype(np.int16),
            np.concatenate([codes, *(one.labels for one in more)]).astype(np.int8),
            _stated(main, more, left_out),
        )
    )


def _checked(folds: Folds) -> Folds:
    """Raises where a fold holds nothing out, or leaves nothing to learn from."""
    for fold, counts in enumerate(folds.counts.sum(axis=1).tolist()):
        if counts == 0:
            raise ArenaJudgeError(f"fold {fold} of {folds.k} would hold nothing out; make fewer")
        if not folds.learned(fold).any():
            raise ArenaJudgeError(
                f"nothing is left to learn from in fold {fold} of {folds.k}: every other battle "
                "has a prompt or a model that is held out there; make folds by prompt, or fewer"
            )
    return folds


def _named_once(files: Sequence[str]) -> None:
    paths = [file if file == "-" else str(Path(file).resolve()) for file in files]
    for place, path in enumerate(paths):
        if path == "-":
            mend = "write it to a file, by which it is known again"
            raise InputError("cannot be dealt out", file="standard input", mend=mend)
        if path in paths[:place]:
            raise InputError("is named twice", file=files[place], mend="name every file once")


# --- reading --------------------------------------------------------------------------------------


def _read(file: str, workers: int) -> _Read:
    ids: list[str] = []
    rows: list[int] = []
    codes: list[Ints] = []
    models: list[Names] = []
    marks: list[Marks] = []
    with closing(iter_battles(file, chunk_rows=2048)) as batches:  # type: ignore[type-var]
        for table, marked in ordered_map(_marked, batches, workers):
            ids += map(sound, table[ID])
            rows += [row_number(table, place, file) for place in range(len(table))]
            codes.append(_codes(table))
            models.append(_models(table))
            marks.append(marked)
    first: dict[str, int] = {}
    for name, row in zip(ids, rows, strict=True):
        if first.setdefault(name, row) != row:
            what = f"{quoted(name)} stands in row {first[name]} too"
            mend = "give every battle an id of its own"
            raise InputError(what, file=file, row=row, column=ID, mend=mend)
    return _Read(
        file,
        ids,
        np.concatenate(codes),
        np.concatenate(models),
        rows,
        about_something(joined(marks)),
    )


def _marked(battles: pd.DataFrame) -> tuple[pd.DataFrame, Marks]:
    return battles, battle_marks(battles)


def _codes(battles: pd.DataFrame) -> Ints:
    """(N,) which of `LABELS` has most of each label."""
    found = labels(battles)
    if found is None:
        return np.full(len(battles), _UNLABELLED, dtype=np.int64)
    known = ~np.isnan(found).any(axis=1)
    return np.where(known, np.nan_to_num(found).argmax(axis=1), _UNLABELLED)


def _models(battles: pd.DataFrame) -> Names:
    """(N, 2) names, None where there is none."""
    found = np.full((len(battles), 2), None, dtype=object)
    for side, name in enumerate(MODELS):
        if name in battles.columns:
            found[:, side] = [cell or None for cell in battles[name]]
    return found


# --- by model -------------------------------------------------------------------------------------


def _dealt_models(main: Sequence[_Read], k: int, seed: int) -> dict[str, int]:
    """The fold of each model: dealt out in random order, those with most battles first, each to
    the fold with the fewest battles yet."""
    for one in main:
        for row, names in zip(one.rows, one.models.tolist(), strict=True):
            if None in names:
                side = MODELS[names.index(None)]
                mend = "name both models of every battle, or make folds by prompt"
                raise InputError("names no model", file=one.file, row=row, column=side, mend=mend)
    names = np.concatenate([one.models for one in main]).ravel()
    codes, known = pd.factorize(names)
    if len(known) < k:
        raise ArenaJudgeError(f"{len(known):,} models cannot be dealt out to {k} folds")
    groups = np.arange(len(known), dtype=np.int64)
    sizes = np.bincount(codes)
    shuffled = np.random.default_rng(seed).permutation(groups)
    load = np.zeros(k, dtype=np.int64)
    home: dict[str, int] = {}
    for model in shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist():
        fold = int(load.argmin())
        home[str(known[model])] = fold
        load[fold] += sizes[model]
    return home


def _sides(read: Sequence[_Read], homes: dict[str, int]) -> Ints:
    """(N, 2) the folds of both models, -1 where a model is in none."""
    found = [homes.get(str(name), -1) for one in read for name in one.models.ravel()]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _of_models(sides: Ints, codes: Ints, k: int, seed: int) -> Ints:
    """(N,) the fold of one of a battle's models: the one with fewer of its label, and then with
    fewer battles."""
    load = np.zeros((len(LABELS), k), dtype=np.int64)
    fold = np.where(sides[:, 0] == sides[:, 1], sides[:, 0], -1)
    np.add.at(load, (codes[fold >= 0], fold[fold >= 0]), 1)
    open_ = np.flatnonzero(fold < 0)
    for battle in np.random.default_rng([seed, 1]).permutation(open_).tolist():
        code = int(codes[battle])
        both = np.unique(sides[battle])
        fold[battle] = both[np.lexsort((load[:, both].sum(axis=0), load[code, both]))[0]]
        load[code, fold[battle]] += 1
    return np.asarray(fold, dtype=np.int64)


def _stated(
    main: Sequence[_Read], more: Sequence[_Read], left_out: npt.NDArray[np.bool_]
) -> tuple[FoldFile, ...]:
    found, start = [], 0
    for one, extra in [(one, False) for one in main] + [(one, True) for one in more]:
        source = fingerprint(Path(one.file))
        gone = 0
        if extra:
            gone = int(left_out[start : start + len(one.ids)].sum())
            start += len(one.ids)
        found.append(FoldFile(source.name, extra, len(one.ids), gone, source.size, source.sha256))
    return tuple(found)
