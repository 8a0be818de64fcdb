"""The labelled battles of `arena-judge calibrate`, read a batch at a time.

What is kept of a battle is its id, label, marks and probabilities, and 27 numbers where a
calibrator may look at it; the text is let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from judge.cli.console import clean, count, say
from judge.cli.learning import kept_marks, marks_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from judge.cli.entrants import Entrant
    from judge.labelled import Labelled

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Battles:
    """All battles, those of a separate file last.

    Attributes:
        first: those of LABELLED.
        labels, proba: (N, 3) of all.
        groups: (N,) prompts, by number.
        held: (N,) which are held out.
        context: (N, 27) covariates; None where no method is to look at them.
    """

    first: Labelled
    labels: Floats
    proba: Floats
    groups: npt.NDArray[np.intp]
    held: Bools
    context: Floats | None


def read(
    labelled: str,
    holdout: str | None,
    share: float,
    one: Entrant,
    seed: int,
    chunk_rows: int,
    workers: int,
    *,
    looks: bool,
) -> Battles:
    """The battles of both files, or of one of which a share is held out.

    Args:
        labelled: the battles to learn from.
        holdout: those to measure on, if they are in a file of their own.
        share: of `labelled` to hold out if not.
        one: who judges them.
        seed: of what is held out.
        chunk_rows, workers: battles a batch, and batches judged at once.
        looks: whether covariates are wanted.
    """
    import numpy as np

    from judge.calibration.measuring import held_out
    from judge.cli.entrants import read_with
    from judge.comparing.bootstrap import group_codes

    facts = _marks_and_covariates if looks else marks_of

    def one_file(file: str) -> Labelled:
        return read_with(file, [one], facts=facts, chunk_rows=chunk_rows, workers=workers)

    first = one_file(labelled)
    seen = _covariates(first) if looks else None
    if holdout is None:
        held = held_out(first.prompts, share, seed)
        return Battles(first, first.labels, first.proba[one.name], first.prompts, held, seen)
    second = one_file(holdout)
    groups = group_codes(np.concatenate([kept_marks(b).prompts for b in (first, second)]))
    held = np.arange(len(groups)) >= len(first.ids)
    labels = np.concatenate([first.labels, second.labels])
    known = held & np.isin(groups, groups[~held])
    labels[known] = np.nan
    if known.any():
        prompts = "a prompt that LABELLED has, too, left out"
        say(f"{clean(holdout)}: {count(int(known.sum()), 'battle')} about {prompts}")
    proba = np.concatenate([b.proba[one.name] for b in (first, second)])
    if seen is not None:
        seen = np.concatenate([seen, _covariates(second)])
    return Battles(first, labels, proba, groups, held, seen)


def _marks_and_covariates(battles: pd.DataFrame) -> pd.DataFrame:
    """What is kept of a batch: a column a covariate beside the marks."""
    from judge.calibration.covariates import NAMES, covariates_of

    values = covariates_of(battles)
    return marks_of(battles).assign(**dict(zip(NAMES, values.T, strict=True)))


def _covariates(battles: Labelled) -> Floats:
    """(N, 27) those of battles that were read with them."""
    import numpy as np

    from judge.calibration.covariates import NAMES

    assert battles.facts is not None
    return battles.facts[list(NAMES)].to_numpy(dtype=np.float64)
