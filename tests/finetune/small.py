"""A few battles to train on, the better response of which can be told by its words, and what makes
tests of training short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finetune.settings.config import Config, with_values

_WORDS = ("fox", "dog", "answer", "prompt", "people", "function", "vote", "lazy", "brown", "quick")


def battles_file(path: Path, count: int = 24, *, seed: int = 0, asked: int | None = None) -> Path:
    """Battles about `asked` prompts (by default one each); "good" in a response makes it win."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        side = int(rng.integers(3))
        texts = [" ".join(rng.choice(_WORDS, int(rng.integers(3, 18)))) for _ in range(2)]
        if side < 2:
            texts[side] += " good good good"
        rows.append(
            {
                "id": f"{seed}-{number}",
                "prompt": f"which {number % (asked or count)} of {seed}",
                "response_a": texts[0],
                "response_b": texts[1],
                "winner_model_a": float(side == 0),
                "winner_model_b": float(side == 1),
                "winner_tie": float(side == 2),
            }
        )
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def small(battles: Path, base: Path, **values: Any) -> Config:
    """A config for a run of some short steps; names as `optimisation__lr`."""
    told: dict[str, Any] = {
        "data.battles": str(battles),
        "model.base": str(base),
        "model.max_length": 64,
        "optimisation.step_battles": 5,
        "optimisation.lr": 1e-2,
        "optimisation.head_lr": 1.0,
        "data.dev_share": 0.25,
        "run.batch_tokens": 256,
        "run.device": "cpu",
        "run.tensorboard": False,
    }
    told |= {name.replace("__", "."): value for name, value in values.items()}
    return with_values(Config(), told)
