"""Several prompted judges as one: all their ballots are counted together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from judge.aggregation import UNFITTED, Aggregator, Floats, from_settings
from judge.errors import ArenaJudgeError, InputError
from judge.judges.base import Judge, Judgments
from judge.judges.prompted import PromptedJudge, judgments
from judge.judges.recipes import Recipe


class Jury(Judge):
    """Several prompted judges whose ballots are counted together.

    Args:
        jurors: two or more, each with a name of its own.
        aggregator: how the votes of all become probabilities.
    """

    def __init__(self, jurors: Sequence[PromptedJudge], aggregator: Aggregator = UNFITTED) -> None:
        names = [juror.name for juror in jurors]
        if len(set(names)) < len(names):
            raise ArenaJudgeError("two jurors have the same name; name each judge once")
        self.jurors = tuple(jurors)
        self.members = self.jurors
        self.aggregator = aggregator
        self.name = " + ".join(names)

    @classmethod
    def compose(cls, recipe: Recipe) -> Jury:
        """The jury of the judges under `judges`.

        Raises:
            InputError: they cannot be had, or ask no model.
        """
        jurors = recipe.members()
        try:
            other = next((one for one in jurors if not isinstance(one, PromptedJudge)), None)
            if other is not None:
                raise InputError(
                    f"a jury has judges that ask a model, and {other.name} is none",
                    file=recipe.file,
                    mend="blend judges of other kinds",
                )
            aggregator = UNFITTED
            if recipe.settings["kind"] == "jury" and "aggregator" in recipe.settings:
                aggregator = from_settings(recipe.settings["aggregator"], file=recipe.file)
            return cls([one for one in jurors if isinstance(one, PromptedJudge)], aggregator)
        except BaseException:
            for juror in jurors:
                juror.close()
            raise

    @property
    def prior(self) -> Floats:
        """(3,) what is said of a battle without evidence."""
        return self.aggregator.prior

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Probabilities from the ballots of all jurors; a battle that one of them can say nothing
        of is judged by the others."""
        with ThreadPoolExecutor(len(self.jurors)) as pool:
            asked = [pool.submit(juror.fill, battles) for juror in self.jurors]
            try:
                filled = [future.result() for future in asked]
            except BaseException:  # the others would be waited for to their end
                for juror in self.jurors:
                    juror.engine.close()
                raise
        table = pd.concat([table for table, _ in filled], ignore_index=True)
        reasons: dict[int, str] = {}
        for juror, (_, found) in zip(self.jurors, filled, strict=True):
            for place, reason in found.items():
                reasons.setdefault(place, f"{juror.name}: {reason}")
        return judgments(table, reasons, battles, self.aggregator, ballots)


def asked(recipe: Recipe) -> Judge:
    """The judge that a recipe wants asked: `judge`, or the jury of those under `judges`.

    Raises:
        InputError: none is named, or a juror asks no model.
    """
    if "judges" not in recipe.settings:
        return recipe.member()
    return Jury.compose(recipe)


def prompted_within(judge: Judge) -> list[PromptedJudge]:
    """The prompted judges that a judge asks, itself included."""
    if isinstance(judge, PromptedJudge):
        return [judge]
    return [one for member in judge.members for one in prompted_within(member)]
