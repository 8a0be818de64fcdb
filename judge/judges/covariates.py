"""The statistical judge's strengths, which an aggregator may weigh beside the votes: what LLM
judges get wrong about length and style."""

from __future__ import annotations

import numpy as np
import pandas as pd

from judge.aggregation import Floats
from judge.judges.statistical import StatisticalJudge


def statistical_covariates(judge: StatisticalJudge, battles: pd.DataFrame) -> Floats:
    """(N, 6) the five strengths and the tie strength, in the order of
    `judge.aggregation.COVARIATES`."""
    found = judge.strengths(battles)
    return np.column_stack([found.criteria, found.tie])


def shipped_statistical() -> StatisticalJudge:
    """The statistical judge that ships with the package."""
    from judge.judges import load_judge

    judge = load_judge("statistical")
    assert isinstance(judge, StatisticalJudge)
    return judge
