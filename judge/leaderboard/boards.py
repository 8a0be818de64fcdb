"""All boards of one file of battles: a judge's or the labels', with and without style, and how the
two agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from judge.errors import InputError
from judge.leaderboard.agreement import Agreement, Shift, compare_boards, shifts
from judge.leaderboard.board import Leaderboard
from judge.leaderboard.rating import BOOTSTRAP, rank_models

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LABELS = "labels"


@dataclass(frozen=True, eq=False)
class Named:
    """N battles without their text.

    Attributes:
        model_a, model_b: names, None where there is none.
        prompts: (N,) equal where the prompts are.
        labels: (N, 3), NaN rows unlabelled; None without any.
        style: (N, 5) see `judge.leaderboard.style`; None where style is not asked for.
    """

    model_a: Sequence[str | None]
    model_b: Sequence[str | None]
    prompts: Ints
    labels: Floats | None
    style: Floats | None


@dataclass(frozen=True, eq=False)
class Boards:
    """What `make_boards` makes; what was not asked for, or cannot be, is None or empty.

    Attributes:
        main: the judge's board, or the labels' where no judge was asked.
        controlled: the same with style held constant, and `changes` what that does to each model.
        labels: the labels' board of the battles that both judge and labels have a verdict on, with
            `labels_controlled`; how the judge's board of the same battles agrees is `agreement`.
    """

    main: Leaderboard
    controlled: Leaderboard | None = None
    changes: tuple[Shift, ...] = ()
    labels: Leaderboard | None = None
    labels_controlled: Leaderboard | None = None
    agreement: Agreement | None = None


def make_boards(
    battles: Named,
    proba: Floats | None = None,
    name: str = LABELS,
    *,
    anchor: tuple[str, float] | None = None,
    prior: float = 1.0,
    intervals: str = BOOTSTRAP,
    rounds: int = 1000,
    seed: int = 0,
) -> Boards:
    """Makes every board that battles, and perhaps a judge's probabilities of them, give rise to.

    Args:
        battles: who met whom.
        proba: (N, 3) what the judge called `name` says, NaN rows unjudged; None takes the labels.
        anchor, prior, intervals, rounds, seed: as `rank_models` has them.

    Raises:
        InputError: neither labels nor probabilities, and what `rank_models` raises.
    """
    outcomes = battles.labels if proba is None else proba
    if outcomes is None:
        raise InputError("has no labels", mend="say who judges: --judge or --predictions")
    rank = partial(
        rank_models,
        battles.model_a,
        battles.model_b,
        prompts=battles.prompts,
        prior=prior,
        intervals=intervals,
        rounds=rounds,
        seed=seed,
    )
    main = rank(outcomes, name=name, anchor=anchor)
    controlled = None
    if battles.style is not None:
        controlled = rank(outcomes, name=name, anchor=anchor, style=battles.style)
    boards = Boards(main, controlled, () if controlled is None else shifts(controlled, main))
    if proba is None or battles.labels is None:
        return boards
    both = np.asarray(~np.isnan(np.hstack([proba, battles.labels])).any(axis=1))
    names = _met(battles, both)
    if not names:
        return boards
    fixed = anchor if anchor is not None and anchor[0] in names else None
    theirs = np.where(both[:, None], battles.labels, np.nan)
    labels = rank(theirs, name=LABELS, anchor=fixed)
    judge = main
    if labels.counted < main.counted:
        judge = rank(np.where(both[:, None], proba, np.nan), name=name, anchor=fixed)
    styled = None
    if battles.style is not None:
        styled = rank(theirs, name=LABELS, anchor=fixed, style=battles.style)
    return replace(
        boards, labels=labels, labels_controlled=styled, agreement=compare_boards(judge, labels)
    )


def _met(battles: Named, chosen: npt.NDArray[np.bool_]) -> set[str]:
    """The models that met another in the chosen battles."""
    found: set[str] = set()
    for place in np.flatnonzero(chosen).tolist():
        a, b = battles.model_a[place], battles.model_b[place]
        if a and b and a.strip() and b.strip() and a != b:
            found |= {a, b}
    return found
