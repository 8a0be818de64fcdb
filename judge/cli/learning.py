"""What `calibrate` and `blend` share: where the result goes, what is kept of the battles, and what
has to be said of judges that know them already.

What is learned goes into a judge folder, or, where the name is that of a table, what was said of
these very battles, cross-fitted, goes into a file of predictions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import outputs
from judge.cli.console import clean, count, say
from judge.errors import InputError
from judge.files.atomic import STANDARD_STREAM

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from judge.choosing import Gap
    from judge.cli.entrants import Entrant
    from judge.comparing.marks import Marks
    from judge.judges.base import Judge
    from judge.labelled import Labelled

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

TABLES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class Target:
    """Where the result goes.

    Attributes:
        path: a judge folder, or a file of predictions.
        judge: whether it is a folder.
        replaced: whether something was there.
    """

    path: Path
    judge: bool
    replaced: bool

    def tell(self) -> None:
        """Says that it is written."""
        say(f"{self.path}: {'replaced' if self.replaced else 'written'}")


def target_of(output: str | None, inputs: Sequence[str], *, force: bool) -> Target | None:
    """Where the result may go, known to be safe before any work is done; None where none is wanted.

    Raises:
        InputError: the path is no place for it.
    """
    if output is None:
        return None
    if output == STANDARD_STREAM:
        raise click.UsageError("-o - is no place for it: name a folder, or a file of predictions")
    if output.lower().endswith(TABLES) and not os.path.isdir(output):
        path = outputs.target(output, outputs.PREDICTIONS, inputs=inputs, force=force)
        return Target(path, judge=False, replaced=path.is_file())
    from judge.files.folders import folder_target

    path = folder_target(output, inputs=inputs, force=force)
    return Target(path, judge=True, replaced=path.is_dir() and any(path.iterdir()))


def not_its_own(target: Target | None, field: Sequence[Entrant]) -> None:
    """Sees to it that a judge is not written over one that it is made of.

    Raises:
        InputError: it would be.
    """
    if target is None or not target.judge:
        return

    from judge.judges.recipes import is_made_of

    for one in field:
        if one.judge is not None and is_made_of(one.spec, target.path):
            raise InputError(
                f"{clean(one.name)} is made of it", file=target.path, mend="choose another folder"
            )


def judges_only(target: Target | None, field: Sequence[Entrant]) -> None:
    """Sees to it that what goes into a folder is made of judges.

    Raises:
        InputError: one is a file of predictions or votes, which says nothing of other battles.
    """
    predicted = next((one.spec for one in field if not one.lasts), None)
    if predicted is not None and target is not None and target.judge:
        raise InputError(
            "is about these battles alone and no judge, so no judge can be made of it",
            file=predicted,
            mend="name the judge, or give -o a name that ends in .csv for what is predicted here",
        )


# --- battles --------------------------------------------------------------------------------------


def marks_of(battles: pd.DataFrame) -> pd.DataFrame:
    """The marks of a batch, to keep beside its labels."""
    from judge.comparing.marks import battle_marks

    return battle_marks(battles).to_frame()


def kept_marks(battles: Labelled) -> Marks:
    """The marks of all battles that were read with `marks_of`."""
    from judge.comparing.marks import Marks

    assert battles.facts is not None
    return Marks.from_frame(battles.facts)


def tell_known(field: Sequence[Entrant], battles: Labelled, labelled: str) -> None:
    """Says which judges learned from these battles: what they say of them is better than what they
    say of others, and whatever is learned from it trusts them too much."""
    from judge.comparing.leaks import find_leaks, seen_by
    from judge.provenance import learned_from

    marks = kept_marks(battles)
    for one in field:
        if one.judge is None:
            continue
        seen = seen_by(one.judge)
        known = 0 if seen is None else int(find_leaks(one.name, marks, seen).learned.sum())
        if known or learned_from(one.judge.sources, labelled):
            some = f"{known:,} of these battles" if known else f"{clean(labelled)}"
            say(
                f"note: {one.name} learned from {some}, so it does better here than elsewhere, "
                "and what is learned from it here trusts it too much; label others"
            )


@contextmanager
def judge_folder(
    target: Path, settings: Mapping[str, object], battles: Labelled, rows: Bools, source: str
) -> Iterator[Path]:
    """A judge folder with its recipe and the marks of the battles it was learned from.

    Args:
        target: the folder.
        settings: the recipe.
        battles: read with `marks_of`.
        rows: (N,) those that were learned from.
        source: their file.
    """
    import numpy as np

    from judge.comparing.leaks import Seen, merged, write_seen
    from judge.judges.recipes import written_judge

    marks = kept_marks(battles).take(rows)
    seen = merged([Seen(marks, np.zeros(len(marks), np.uint16), (Path(source).name,))])
    with written_judge(target, settings) as folder:
        write_seen(folder, seen)
        yield folder


def write_cross_fitted(target: Path, ids: Sequence[str], proba: Floats, reason: str) -> None:
    """Writes predictions of the battles that were read, and beside them what is unjudged."""
    import numpy as np

    from judge.predictions import write_predictions

    write_predictions(target, ids, proba)
    silent = np.flatnonzero(np.isnan(proba).any(axis=1)).tolist()
    with outputs.UnjudgedList(Path(f"{target}.unjudged.csv")) as unjudged:
        unjudged.append([(ids[place], place + 1, reason) for place in silent])
    if silent:
        say(f"{count(len(silent), 'battle')} unjudged, listed in {target}.unjudged.csv")


# --- what is said ---------------------------------------------------------------------------------


def shown(gap: Gap | None) -> str:
    """A difference and its interval, as a cell; "-" where something is compared with itself."""
    if gap is None or gap.value == gap.error == 0.0:
        return "-"
    if math.isnan(gap.error):
        return f"{gap.value:+.4f} [-]"
    return f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"


def spread(gap: Gap | None) -> list[float | None] | None:
    """A difference and its interval, for judge.yaml and JSON."""
    return None if gap is None else [rounded(value) for value in (gap.value, gap.low, gap.high)]


def rounded(value: float) -> float | None:
    """Four digits; None for what is no number."""
    return round(float(value), 4) if math.isfinite(value) else None


def finite(value: object) -> object:
    """The same with None for what JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dry_run_only_asks(field: Sequence[Entrant]) -> list[Judge]:
    """The judges among the entrants.

    Raises:
        click.UsageError: there are none.
    """
    judges = [one.judge for one in field if one.judge is not None]
    if not judges:
        raise click.UsageError("--dry-run is for judges that ask a model, and none is named")
    return judges
