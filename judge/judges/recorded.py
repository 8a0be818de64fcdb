"""Judges whose votes are counted by a fitted aggregator.

`RecordedJudge` has its ballots in its folder and joins them to battles by id: what was imported,
or asked for once. `AggregatedJudge` asks another judge for ballots and counts them its own way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from judge.aggregation import UNFITTED, Aggregator, Floats, from_settings
from judge.ballot_files import read_ballots
from judge.errors import InputError
from judge.judges.base import Judge, Judgments
from judge.judges.covariates import shipped_statistical, statistical_covariates
from judge.judges.jury import asked
from judge.judges.recipes import FILE, Recipe, read_recipe
from judge.judges.statistical import StatisticalJudge

BALLOTS = "ballots.parquet"


class _Counting(Judge):
    """What both have: an aggregator, and the covariates it may want."""

    def __init__(self, aggregator: Aggregator, name: str) -> None:
        self.aggregator = aggregator
        self.name = name
        self._statistical: StatisticalJudge | None = None
        if aggregator.covariates is not None:
            self._statistical = shipped_statistical()

    @property
    def prior(self) -> Floats:
        """(3,) what is said of a battle without evidence."""
        return self.aggregator.prior

    def _count(self, ballots: pd.DataFrame, battles: pd.DataFrame) -> Floats:
        extra = None
        if self._statistical is not None:
            extra = statistical_covariates(self._statistical, battles)
        return self.aggregator.aggregate(ballots, battles["id"].tolist(), extra)


class RecordedJudge(_Counting):
    """A judge whose ballots are at hand; battles it has none for are unjudged.

    Args:
        ballots: a ballot table.
        aggregator: how they are counted.
        name: how it is called in tables.
    """

    def __init__(
        self, ballots: pd.DataFrame, aggregator: Aggregator = UNFITTED, name: str = "recorded"
    ) -> None:
        super().__init__(aggregator, name)
        self.ballots = ballots
        self._places: Mapping[object, object] = ballots.groupby("id", sort=False).indices

    @classmethod
    def load(cls, folder: Path) -> RecordedJudge:
        """The judge in a folder that `arena-judge fit` has made.

        Raises:
            InputError: its numbers or its ballots cannot be read.
        """
        recipe = read_recipe(folder / FILE)
        aggregator = from_settings(recipe.settings.get("aggregator", {}), file=recipe.file)
        return cls(read_ballots(folder / BALLOTS), aggregator, recipe.name("recorded"))

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Probabilities from the ballots of these battles."""
        ids = battles["id"].tolist()
        places = [
            np.asarray(self._places[name]) for name in dict.fromkeys(ids) if name in self._places
        ]
        rows = np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
        found = self.ballots.iloc[rows]
        proba = self._count(found, battles)
        reasons = {
            place: self._reason(ids[place])
            for place in np.flatnonzero(np.isnan(proba[:, 0])).tolist()
        }
        return Judgments(proba, reasons, found.reset_index(drop=True) if ballots else None)

    def _reason(self, name: str) -> str:
        if name not in self._places:
            return "no ballot is recorded for this id"
        if "reason" in self.ballots.columns:
            said = self.ballots["reason"].iloc[np.asarray(self._places[name])].dropna()
            if len(said):
                return str(said.iloc[0])
        return "no ballot of it can be read"


class AggregatedJudge(_Counting):
    """Another judge, its ballots counted by an aggregator that was fitted for it.

    Args:
        inner: the judge that fills in the ballots.
        aggregator: how they are counted.
        name: how it is called in tables.
    """

    def __init__(self, inner: Judge, aggregator: Aggregator, name: str) -> None:
        super().__init__(aggregator, name)
        self.inner = inner
        self.members = (inner,)

    @classmethod
    def compose(cls, recipe: Recipe) -> AggregatedJudge:
        """The judge that `arena-judge fit` has made. `judge` in its recipe names the judge that is
        asked, `judges` several that are a jury, and `asking` says how.

        Raises:
            InputError: its numbers cannot be read, or that judge is not there.
        """
        aggregator = from_settings(recipe.settings.get("aggregator", {}), file=recipe.file)
        inner = asked(recipe.told())
        return cls(inner, aggregator, recipe.name(f"{inner.name}, fitted"))

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Probabilities from the ballots that the other judge fills in. Ids may repeat, as long as
        that judge reads the battles and does not look them up."""
        ids = battles["id"].tolist()
        renamed = len(set(ids)) < len(ids) and not isinstance(self.inner, RecordedJudge)
        if renamed:
            battles = battles.assign(id=[str(place) for place in range(len(ids))])
        said = self.inner.judge(battles, ballots=True)
        if said.ballots is None:
            raise InputError(f"{self.inner.name} fills in no ballots, so none can be counted")
        proba = self._count(said.ballots, battles)
        missing = np.flatnonzero(np.isnan(proba[:, 0])).tolist()
        reasons = {
            place: said.reasons.get(place, "no ballot of it can be read") for place in missing
        }
        table = said.ballots if ballots else None
        if table is not None and renamed:
            table = table.assign(id=[ids[int(name)] for name in table["id"]])
        return Judgments(proba, reasons, table)
