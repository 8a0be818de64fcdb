"""Several prompted judges as one: all their ballots are counted together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from judge.aggregation import UNFITTED, Aggregator, Floats
from judge.errors import ArenaJudgeError
from judge.judges.base import Judge, Judgments
from judge.judges.prompted import PromptedJudge, judgments


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
        self.aggregator = aggregator
        self.name = " + ".join(names)

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


def prompted_within(judge: Judge) -> list[PromptedJudge]:
    """The prompted judges that a judge asks, itself included."""
    if isinstance(judge, PromptedJudge):
        return [judge]
    if isinstance(judge, Jury):
        return list(judge.jurors)
    inner = getattr(judge, "inner", None)
    return prompted_within(inner) if isinstance(inner, Judge) else []
