"""arena-judge: which of two answers people would prefer, as probabilities that can be trusted.

    from judge import load_judge, read_battles

    battles = read_battles("battles.csv")
    proba = load_judge().predict_proba(battles)  # (N, 3): P(A), P(B), P(tie)

Names are looked up when they are first used, so that `import judge` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from judge.battles import iter_battles, labels, read_battles, swap
    from judge.comparison import Comparison, compare
    from judge.errors import ArenaJudgeError, InputError
    from judge.judges import load_judge
    from judge.judges.base import Judge, Judgments
    from judge.predictions import PredictionWriter, read_predictions, write_predictions

__version__ = "0.1.0"

__all__ = [
    "ArenaJudgeError",
    "Comparison",
    "InputError",
    "Judge",
    "Judgments",
    "PredictionWriter",
    "compare",
    "iter_battles",
    "labels",
    "load_judge",
    "read_battles",
    "read_predictions",
    "swap",
    "write_predictions",
]

_HOMES = {
    "ArenaJudgeError": "judge.errors",
    "Comparison": "judge.comparison",
    "InputError": "judge.errors",
    "Judge": "judge.judges.base",
    "Judgments": "judge.judges.base",
    "PredictionWriter": "judge.predictions",
    "compare": "judge.comparison",
    "iter_battles": "judge.battles",
    "labels": "judge.battles",
    "load_judge": "judge.judges",
    "read_battles": "judge.battles",
    "read_predictions": "judge.predictions",
    "swap": "judge.battles",
    "write_predictions": "judge.predictions",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
