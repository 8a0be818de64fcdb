"""What a judge is: anything that turns battles into probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.conformal import Conformity
from judge.provenance import Source


@dataclass(frozen=True)
class Judgments:
    """What a judge says of N battles.

    Attributes:
        proba: (N, 3) float64 in the order A, B, tie; rows sum to 1, NaN rows are unjudged.
        reasons: why a battle is unjudged, by its position in the table.
        ballots: the ballot table (see `judge.ballots`), when it was asked for.
    """

    proba: npt.NDArray[np.float64]
    reasons: Mapping[int, str] = field(default_factory=dict)
    ballots: pd.DataFrame | None = None


class Judge(ABC):
    """One method matters: `predict_proba`. Kinds of judges implement `judge`, which it calls.

    Attributes:
        name: how the judge is called in tables and ballots.
        sources: the files of battles that it learned from, as far as its folder says.
        members: the judges that it is made of.
        folder: where it lies, if it is a folder.
        conformity: how sure it may be, if its folder says so.
    """

    name: str
    sources: tuple[Source, ...] = ()
    members: tuple[Judge, ...] = ()
    folder: Path | None = None
    conformity: Conformity | None = None

    @abstractmethod
    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Judges a battle table (see `judge.battles`); `ballots` asks for the votes as well."""

    def predict_proba(self, battles: pd.DataFrame) -> npt.NDArray[np.float64]:
        """(N, 3) probabilities in the order A, B, tie; NaN rows for the unjudged."""
        return self.judge(battles).proba

    def close(self) -> None:
        """Gives back what it and its members hold: connections, processes, files."""
        for member in self.members:
            member.close()
