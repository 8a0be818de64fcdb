"""`--coverage`: how a command adds what a judge will not decide, and what it says of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from judge.cli import options
from judge.cli.console import Progress, count, expected_rows, say
from judge.cli.ticking import follow
from judge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from judge.conformal import Conformity
    from judge.judges.base import Judge

    Floats = npt.NDArray[np.float64]

COLUMNS = ("set", "abstain")

coverage = click.option(
    "--coverage",
    type=options.Finite(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Add a set of outcomes that holds the label as often as this, such as 0.9, and whether "
    "the judge abstains: columns set and abstain.",
)
coverage_from = click.option(
    "--coverage-from",
    metavar="LABELLED",
    help="Labelled battles that the judge did not learn from, to learn its sets from.  "
    "[default: what the judge's folder says]",
)


@dataclass
class Abstaining:
    """Sets for battles as they come by, and a count of them.

    Attributes:
        conformity: how improbable the labels of other battles were.
        coverage: the share of sets that are to hold the label.
        judged, single: battles with probabilities, and those with one outcome only.
    """

    conformity: Conformity
    coverage: float
    judged: int = 0
    single: int = 0

    def columns(self, proba: Floats) -> dict[str, list[str | None]]:
        """The cells of `COLUMNS` for (N, 3) probabilities; nothing for the unjudged."""
        from judge.conformal import abstains, named

        sets = self.conformity.sets(proba, self.coverage)
        unjudged = (proba != proba).any(axis=1)
        open_ = abstains(sets)
        self.judged += int((~unjudged).sum())
        self.single += int((~open_ & ~unjudged).sum())
        return {
            "set": [None if no else name for no, name in zip(unjudged, named(sets), strict=True)],
            "abstain": [
                None if no else str(int(doubt)) for no, doubt in zip(unjudged, open_, strict=True)
            ],
        }

    def line(self) -> str:
        """For people."""
        share = self.single / self.judged if self.judged else 0.0
        words = f"{count(self.single, 'battle')} decided ({share:.0%}), the rest abstained from"
        if self.conformity.threshold(self.coverage) == float("inf"):
            words += f"; {count(self.conformity.prompts, 'prompt')} are too few to promise more"
        return f"at a coverage of {self.coverage:g}: {words}"

    def to_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "coverage": self.coverage,
            "decided": self.single,
            "abstained": self.judged - self.single,
            "learned_from_prompts": self.conformity.prompts,
        }


def abstaining(
    judge: Judge, share: float | None, labelled: str | None, chunk_rows: int
) -> Abstaining | None:
    """What `--coverage` and `--coverage-from` come to for a judge; None where they were not said.

    Raises:
        click.UsageError: `--coverage-from` without `--coverage`.
        InputError: nothing says how sure the judge may be.
    """
    if share is None:
        if labelled is not None:
            raise click.UsageError("--coverage-from says nothing without --coverage")
        return None
    if labelled is not None:
        return Abstaining(_learned(judge, labelled, chunk_rows), share)
    if judge.conformity is None:
        raise InputError(
            f"{judge.name} does not say how sure it may be",
            mend="name battles with labels: --coverage-from LABELLED",
        )
    return Abstaining(judge.conformity, share)


def _learned(judge: Judge, labelled: str, chunk_rows: int) -> Conformity:
    from judge.conformal import fit_conformity
    from judge.labelled import read_labelled
    from judge.provenance import learned_from

    if learned_from(judge.sources, labelled):
        say(
            f"warning: {judge.name} learned from {labelled}, so it is surer there than elsewhere, "
            "and its sets will hold the label less often than asked"
        )
    with Progress("battles", *expected_rows(labelled)) as progress:
        tick = None if follow([judge], progress) else progress.advance
        battles = read_labelled(labelled, {judge.name: judge}, chunk_rows=chunk_rows, tick=tick)
    return fit_conformity(battles.labels, battles.proba[judge.name], battles.prompts)
