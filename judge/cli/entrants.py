"""`[NAME=]X` on the command line, where X is a judge, or a file of what one predicted or voted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from judge.cli import outputs
from judge.cli.console import Progress, clean, count, expected_rows, say
from judge.cli.ticking import follow
from judge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from judge.cli.judging import Judging
    from judge.judges.base import Judge
    from judge.labelled import Labelled

    Floats = npt.NDArray[np.float64]

_TABLE = (".csv", ".jsonl", ".parquet", ".gz", ".zst", ".zip")


@dataclass(frozen=True)
class Entrant:
    """A judge, or what one predicted, read from a file.

    Attributes:
        name: how it is called in tables.
        spec: what the user named, without the name that was given to it.
        judge, predictions: one of them is None.
        votes: whether it is a file of votes, which the judge counts unfitted; no other judge can be
            made of that.
    """

    name: str
    spec: str
    judge: Judge | None = None
    predictions: pd.DataFrame | None = None
    votes: bool = False

    @property
    def lasts(self) -> bool:
        """Whether it is a judge that others can be made of."""
        return self.judge is not None and not self.votes


@contextmanager
def entrants(
    arguments: Sequence[str],
    labelled: str,
    judging: Judging | None = None,
    *,
    seed: int = 0,
    taken: Sequence[str] = (),
) -> Iterator[list[Entrant]]:
    """What the arguments name; judges are closed at the end.

    Args:
        arguments: `[NAME=]X` each.
        labelled: the battles, which are no predictions.
        judging: what was said to judges.
        seed: for judges that draw at random.
        taken: names that none of them may have.

    Raises:
        click.UsageError: something was said that is of use to none of them.
        InputError: no such judge, a file that cannot be read, or two of one name.
    """
    settings = () if judging is None else judging.settings(seed)
    with ExitStack() as stack:
        found = []
        for argument in arguments:
            name, spec = _split(argument)
            if _is_judge(spec):
                from judge.judges import load_judge

                judge = stack.enter_context(closing(load_judge(spec, *settings)))
                found.append(Entrant(clean(name or judge.name), spec, judge))
            else:
                found.append(_predicted(name, spec, labelled))
        _distinct([*taken, *(one.name for one in found)])
        if judging is not None:
            judging.heeded([one.judge for one in found if one.judge is not None])
        yield found


def _split(argument: str) -> tuple[str, str]:
    """The name, empty where none is given, and X. A path may hold "=" itself."""
    name, given, rest = argument.partition("=")
    if given and name and rest and not os.path.exists(argument):
        return name, rest
    return "", argument


def _is_judge(spec: str) -> bool:
    from judge.judges.recipes import is_recipe

    if os.path.isdir(spec) or is_recipe(spec):
        return True
    return not (os.path.exists(spec) or spec.lower().endswith(_TABLE))


def _predicted(name: str, spec: str, labelled: str) -> Entrant:
    from judge.predictions import read_predictions

    if os.path.exists(labelled) and outputs.is_same_file(Path(spec), labelled):
        raise InputError("would be compared with itself", file=spec, mend="name predictions")
    stem = Path(spec).name
    for suffix in reversed(Path(spec).suffixes):
        stem = stem.removesuffix(suffix) if suffix.lower() in _TABLE else stem
    called = clean(name or stem)
    if _holds_votes(spec):
        from judge.ballot_files import read_ballots
        from judge.judges.recorded import RecordedJudge

        say(f"note: {called} is votes, counted unfitted; arena-judge fit learns how to count them")
        judge = RecordedJudge(read_ballots(spec), name=called)
        return Entrant(called, spec, judge, votes=True)
    return Entrant(called, spec, None, read_predictions(spec))


def _holds_votes(spec: str) -> bool:
    """Whether a file is a table of ballots and not of predictions."""
    from judge.errors import ArenaJudgeError
    from judge.files.labelling import PROBABILITIES
    from judge.files.rows import stream_rows

    try:
        with closing(stream_rows(spec, required=outputs.BALLOTS[:3], chunk_rows=1)) as rows:
            columns = next(rows).columns
    except (ArenaJudgeError, StopIteration):
        return False  # whatever is wrong with it, reading it as predictions says so
    return not set(PROBABILITIES) <= set(columns)


def _distinct(names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InputError(
                f"two of them are called {name!r}",
                mend="tell them apart: NAME=JUDGE_OR_PREDICTIONS",
            )


def read_with(
    labelled: str,
    field: Sequence[Entrant],
    *,
    facts: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    chunk_rows: int = 4096,
    workers: int = 1,
    unlabelled: bool = False,
) -> Labelled:
    """The labelled battles with what every entrant says of them, in the order of the entrants.

    Battles that a file does not name are counted as unjudged, and both that and predictions for no
    battle are said. Battles may have no labels where `unlabelled`.
    """
    from dataclasses import replace

    from judge.labelled import read_labelled

    judges = {one.name: one.judge for one in field if one.judge is not None}
    progress = Progress("battles", *expected_rows(labelled))
    slow = follow(judges.values(), progress)
    with progress:
        battles = read_labelled(
            labelled,
            judges,
            facts=facts,
            chunk_rows=chunk_rows,
            workers=1 if slow else workers,
            tick=None if slow else progress.advance,
            unlabelled=unlabelled,
        )
    return replace(battles, proba={one.name: _proba(one, battles) for one in field})


def _proba(entrant: Entrant, battles: Labelled) -> Floats:
    """(N, 3) what the entrant says of the battles, NaN where nothing."""
    from judge.comparing.matching import align

    if entrant.predictions is None:
        return battles.proba[entrant.name]
    aligned = align(battles.ids, entrant.predictions, file=entrant.spec)
    if aligned.missing:
        missing = count(aligned.missing, "battle")
        say(f"{entrant.spec}: {missing} not in it, counted as unjudged")
    if aligned.unknown:
        unknown = count(aligned.unknown, "prediction")
        say(f"{entrant.spec}: {unknown} for no battle here, left out")
    return aligned.proba
