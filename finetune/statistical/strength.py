"""Which of two responses is stronger: a linear model with n-grams and a forest, which learn apart
and are mixed later (see `finetune.statistical.heads`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.statistical.tables import Table
from judge.ballots import CRITERIA
from judge.davidson import Block, fit_linear
from judge.errors import ArenaJudgeError
from judge.features.extraction import feature_names
from judge.judges.statistical import scaled_differences
from judge.judges.statistical_weights import Weights
from judge.trees import Forest, pack_trees

PENALTY = {"lexical": 700.0, "linear": 30.0}
FOREST: dict[str, Any] = {
    "objective": "cross_entropy",
    "learning_rate": 0.02,
    "num_leaves": 16,
    "max_depth": 6,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "verbose": -1,
}
TREES = 500

Floats = npt.NDArray[np.float64]


def needed() -> None:
    """Sees to it that what grows forests is there.

    Raises:
        ArenaJudgeError: it is not.
    """
    from importlib.util import find_spec

    if find_spec("lightgbm") is None:
        raise ArenaJudgeError(
            "statistical judges learn with lightgbm, which is not installed; "
            "pip install 'arena-judge[statistical]'"
        )


def learn_strength(
    table: Table,
    targets: Floats,
    seed: int,
    *,
    trees: int | None = None,
    counts: Floats | None = None,
) -> Weights:
    """Both parts of the strength; the head is still to be fitted.

    Args:
        table: N battles; their n-grams are not asked for.
        targets: (N, 3) softened labels.
        seed: of the forests.
        trees: how many, `TREES` unless said.
        counts: (N,) what each battle counts for; 1 unless said.
    """
    responses = np.concatenate([table.found.responses[c] for c in CRITERIA], axis=2)
    scale = np.sqrt(np.square(responses[0] - responses[1]).mean(axis=0)) + 1e-6
    weighed = targets if counts is None else targets * counts[:, None]
    lexical, linear = fit_linear_part(table, scale, weighed)
    setting = table.context.shape[1]
    return Weights(
        names=feature_names(table.found),
        scale=scale,
        linear=linear,
        lexical=lexical.astype(np.float16).astype(np.float32),
        forests=fit_forests(table, scale, targets, seed, trees=trees, counts=counts),
        context_mean=np.zeros(setting),
        context_scale=np.ones(setting),
        context_weight=np.zeros(setting),
        tie=np.zeros(2),
        odd=np.zeros(3),
        vote_scale=np.ones(len(CRITERIA)),
    )


def fit_linear_part(table: Table, scale: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Weights of the n-grams and of the scaled differences, learned together."""
    dense = np.concatenate(list(scaled_differences(table.found, scale).values()), axis=1)
    blocks = [Block(table.signs, PENALTY["lexical"]), Block(dense, PENALTY["linear"])]
    constant = Block(np.ones((len(targets), 1)), 1e-3)
    lexical, linear, _ = fit_linear(blocks, [constant], targets, rounds=60)
    return lexical, linear


def fit_forests(
    table: Table,
    scale: Floats,
    targets: Floats,
    seed: int,
    *,
    trees: int | None = None,
    counts: Floats | None = None,
) -> dict[str, Forest]:
    """A forest a criterion, boosted together: every tree sees one criterion's differences and the
    setting, so what it says can be put down to that criterion. Each battle is shown in both
    orders."""
    import lightgbm

    parts = scaled_differences(table.found, scale)
    orders = [
        np.concatenate([*(sign * part for part in parts.values()), table.context], axis=1)
        for sign in (1.0, -1.0)
    ]
    share = targets[:, 0] + targets[:, 2] / 2.0
    width = sum(part.shape[1] for part in parts.values())
    setting = list(range(width, width + table.context.shape[1]))
    cuts = np.concatenate([[0], np.cumsum([part.shape[1] for part in parts.values()])])
    columns = {
        c: [*range(start, end), *setting]
        for c, start, end in zip(CRITERIA, cuts[:-1], cuts[1:], strict=True)
    }
    data = lightgbm.Dataset(
        np.concatenate(orders),
        np.concatenate([share, 1.0 - share]),
        weight=None if counts is None else np.concatenate([counts, counts]),
    )
    options = {**FOREST, "seed": seed, "interaction_constraints": list(columns.values())}
    model = lightgbm.train(options, data, TREES if trees is None else trees)
    grown = model.dump_model()["tree_info"]
    structures = [tree["tree_structure"] for tree in grown]
    return {c: pack_trees(structures, columns[c], parts[c].shape[1]) for c in CRITERIA}
