"""Makes the weights of the statistical judge from human-labelled battles, and says how good it is.

    python -m scripts.train_statistical --data FOLDER [-o judge/judges/weights/statistical]
    python -m scripts.train_statistical --data FOLDER --seen-only

Beside the weights lie `seen.npz`, the marks of the battles that the judge learned from, and
`conformal.npz`, how improbable the natural sample's labels were to heads that had not seen them.
The second command writes `seen.npz` alone and leaves the weights as they are.

Two steps, because the data ask for them:

1. *Strength.* A large file of single-turn battles chosen by length and model, with hardly a tie
   (`arena_train.parquet`), teaches which of two responses is stronger. Its labels are softened by
   what the two models' Bradley-Terry strengths say of the battle: one vote is noisy, and who wrote
   a response is evidence about how good it is. A linear model with n-grams and a forest learn apart
   and are averaged.
2. *Head.* A small natural sample (`arena_dev.csv`) teaches the scale of the strength and the tie.

Battles in which a response is empty, or both are the same, are rare in either file. What they are
worth is learned last, from the sample's and those of two more collections, with all else held.

No battle whose prompt stands in the natural sample is learned from in the first step; the figures
are those of a head fitted on nine tenths of the natural sample and measured on the last, with
battles of one prompt kept together.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from judge.ballots import CRITERIA
from judge.battles import labels as labels_of
from judge.comparing.leaks import FILE as SEEN
from judge.comparing.leaks import write_seen
from judge.comparison import Comparison, compare
from judge.conformal import fit_conformity
from judge.davidson import Block, fit_linear, probabilities
from judge.features.extraction import Extract, extract, feature_names
from judge.features.grams import A, B, Grams
from judge.judges import SHIPPED
from judge.judges.statistical import (
    BOUND,
    buckets,
    forest_strengths,
    lexical_strengths,
    odd_battles,
    scaled_differences,
    tie_strengths,
)
from judge.judges.statistical_weights import Weights, write_weights
from judge.provenance import fingerprint, sources
from judge.trees import Forest, pack_trees
from scripts.statistical_data import (
    ODD,
    POOL,
    SAMPLE,
    author_probabilities,
    load,
    seen,
    soften,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BUCKETS = 1 << 18
PENALTY = {
    "lexical": 700.0,
    "linear": 30.0,
    "context": 100.0,
    "distance": 1.0,
    "odd": 0.5,
}
FOREST = {
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
FOLDS = 10

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """Battles with their features, N of them.

    Attributes:
        labels: (N, 3).
        natural: (N,) which are of the natural sample.
        found: their features; `grams` are those of the first batch only, all of them in `grams`.
        grams: the n-grams, a batch each.
        signs: (N, BUCKETS) 1 for an n-gram that only A has, -1 for one that only B has.
    """

    labels: Floats
    natural: Rows
    found: Extract
    grams: list[Grams]
    signs: csr_array[np.float64]

    @property
    def context(self) -> Floats:
        """(N, m) features of the setting."""
        return self.found.context


def prepare(battles: pd.DataFrame, natural: Rows | None = None) -> Table:
    """The features of battles; all are of the natural sample unless `natural` says otherwise."""
    from scipy.sparse import csr_array, vstack

    texts = [battles[c].tolist() for c in ("prompt", "response_a", "response_b")]
    parts, signs = [], []
    for start in range(0, len(battles), 256):
        found = extract(*(text[start : start + 256] for text in texts))
        grams = found.grams
        sign = (grams.roles & A > 0).astype(np.float64) - (grams.roles & B > 0)
        one_sided = np.flatnonzero(sign)
        place = (grams.battle[one_sided], buckets(grams.hashes[one_sided], BUCKETS))
        signs.append(csr_array((sign[one_sided], place), shape=(grams.battles, BUCKETS)))
        parts.append(found)
    found_labels = labels_of(battles)
    if found_labels is None:
        sys.exit("the battles have no labels")
    whole = replace(
        parts[0],
        responses={c: np.concatenate([p.responses[c] for p in parts], axis=1) for c in CRITERIA},
        context=np.concatenate([part.context for part in parts]),
    )
    return Table(
        labels=found_labels,
        natural=np.ones(len(battles), dtype=bool) if natural is None else natural,
        found=whole,
        grams=[part.grams for part in parts],
        signs=vstack(signs).tocsr(),
    )


def fit_linear_part(table: Table, scale: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Weights of the n-grams and of the scaled differences, learned together."""
    dense = np.concatenate(list(scaled_differences(table.found, scale).values()), axis=1)
    blocks = [Block(table.signs, PENALTY["lexical"]), Block(dense, PENALTY["linear"])]
    constant = Block(np.ones((len(targets), 1)), 1e-3)
    lexical, linear, _ = fit_linear(blocks, [constant], targets, rounds=60)
    return lexical, linear


def fit_forests(table: Table, scale: Floats, targets: Floats, seed: int) -> dict[str, Forest]:
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
    data = lightgbm.Dataset(np.concatenate(orders), np.concatenate([share, 1.0 - share]))
    options = {**FOREST, "seed": seed, "interaction_constraints": list(columns.values())}
    model = lightgbm.train(options, data, TREES)
    trees = model.dump_model()["tree_info"]
    structures = [tree["tree_structure"] for tree in trees]
    return {c: pack_trees(structures, columns[c], parts[c].shape[1]) for c in CRITERIA}


@dataclass(frozen=True)
class Parts:
    """(N, 5) criterion strengths of the linear part and of the forests, before they are mixed."""

    linear: Floats
    forest: Floats

    def spreads(self, rows: Rows) -> tuple[float, float]:
        """The standard deviations of both parts' strengths among the chosen battles."""
        linear, forest = (part[rows].sum(axis=1).std() for part in (self.linear, self.forest))
        return float(linear), float(forest)

    def mixed(self, spreads: tuple[float, float]) -> Floats:
        """Both on one scale, in equal parts."""
        return self.linear / spreads[0] + self.forest / spreads[1]


@dataclass(frozen=True)
class Head:
    """What is learned after the strengths: weights with the head in them, the spreads of both
    parts, the scale of their mix, and (N, 3) what it makes of the whole table."""

    weights: Weights
    spreads: tuple[float, float]
    scale: float
    proba: Floats


def strengths_of(table: Table, weights: Weights) -> Parts:
    """What the two parts of the strength say of a table's battles."""
    parts = scaled_differences(table.found, weights.scale)
    cuts = np.cumsum([part.shape[1] for part in parts.values()])[:-1]
    linear = np.concatenate([lexical_strengths(g, weights.lexical) for g in table.grams])
    forest = np.zeros_like(linear)
    for place, (c, w) in enumerate(zip(CRITERIA, np.split(weights.linear, cuts), strict=True)):
        linear[:, place] += (parts[c] * w).sum(axis=1)
        forest[:, place] = forest_strengths(weights.forests[c], parts[c], table.context)
    return Parts(linear, forest)


def fit_head(
    weights: Weights, strength: Floats, context: Floats, labels: Floats
) -> tuple[Weights, float]:
    """The tie's weights, and what the strength is to be multiplied by. The tie depends on the
    scaled strength, so both are fitted in turn until they agree."""
    mean, spread = context.mean(axis=0), context.std(axis=0) + 1e-9
    standard = np.clip((context - mean) / spread, -BOUND, BOUND)
    ones, scale = np.ones((len(labels), 1)), 1.0
    for _ in range(8):
        d = scale * strength
        distance = np.sqrt(1.0 + np.square(d))[:, None]
        step, constant, setting, apart = fit_linear(
            [Block(d[:, None], 1e-3)],
            [
                Block(ones, 1e-3),
                Block(standard, PENALTY["context"]),
                Block(distance, PENALTY["distance"]),
            ],
            labels,
        )
        scale *= float(step[0])
    head = replace(
        weights,
        context_mean=mean,
        context_scale=spread,
        context_weight=setting,
        tie=np.concatenate([constant, apart]),
    )
    return head, scale


def fit_odd(
    weights: Weights, strength: Floats, tie: Floats, odd: tuple[Floats, Floats], labels: Floats
) -> Weights:
    """What empty and identical responses add to strengths and ties that are known already."""
    there, identical = odd
    rows = (there != 0) | (identical != 0)
    sides, ties = there[rows, None], np.stack([np.abs(there), identical], axis=1)[rows]
    by_strength, by_tie = fit_linear(
        [Block(sides, PENALTY["odd"])],
        [Block(ties, PENALTY["odd"])],
        labels[rows],
        start=(strength[rows], tie[rows]),
    )
    return replace(weights, odd=np.concatenate([by_strength, by_tie]))


def fit_heads(weights: Weights, parts: Parts, table: Table, rows: Rows) -> Head:
    """Everything that is learned after the strengths, from the chosen battles: the spreads that put
    both parts on one scale, the tie, the scale, and the odd battles."""
    natural = rows & table.natural
    spreads = parts.spreads(natural)
    strength = parts.mixed(spreads).sum(axis=1)
    head, scale = fit_head(
        weights, strength[natural], table.context[natural], table.labels[natural]
    )
    d = scale * strength
    tie = tie_strengths(head, table.context, d)
    odd = odd_battles(table.found)
    head = fit_odd(head, d[rows], tie[rows], (odd[0][rows], odd[1][rows]), table.labels[rows])
    d = d + head.odd[0] * odd[0]
    tie = tie + head.odd[1] * np.abs(odd[0]) + head.odd[2] * odd[1]
    return Head(head, spreads, scale, probabilities(d, tie))


def out_of_fold(
    weights: Weights, parts: Parts, table: Table, groups: npt.NDArray[np.int64], seed: int
) -> Floats:
    """(N, 3) probabilities of each battle by a head fitted without the battles of its fold; NaN for
    those of no group, which are learned from in every fold."""
    proba = np.full((len(table.labels), 3), np.nan)
    fold = grouped_folds(groups, FOLDS, seed)
    for k in range(FOLDS):
        held = fold == k
        proba[held] = fit_heads(weights, parts, table, ~held).proba[held]
    return proba


def grouped_folds(groups: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,) each battle's fold; the battles of a group share theirs, and group -1 is in none."""
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    return np.where(groups < 0, -1, order[groups] % folds)


def learn_strength(table: Table, targets: Floats, seed: int) -> Weights:
    """Both parts of the strength; the head is still to be fitted."""
    responses = np.concatenate([table.found.responses[c] for c in CRITERIA], axis=2)
    scale = np.sqrt(np.square(responses[0] - responses[1]).mean(axis=0)) + 1e-6
    lexical, linear = fit_linear_part(table, scale, targets)
    setting = table.context.shape[1]
    return Weights(
        names=feature_names(table.found),
        scale=scale,
        linear=linear,
        lexical=lexical.astype(np.float16).astype(np.float32),
        forests=fit_forests(table, scale, targets, seed),
        context_mean=np.zeros(setting),
        context_scale=np.ones(setting),
        context_weight=np.zeros(setting),
        tie=np.zeros(2),
        odd=np.zeros(3),
        vote_scale=np.ones(len(CRITERIA)),
    )


def finish(weights: Weights, parts: Parts, table: Table) -> Weights:
    """The judge as it ships: the head fitted on all battles, its scale and the mix of the two parts
    folded into the weights."""
    fitted = fit_heads(weights, parts, table, np.ones(len(table.labels), dtype=bool))
    by_linear, by_forest = (fitted.scale / spread for spread in fitted.spreads)
    forests = {
        criterion: replace(forest, value=(forest.value * by_forest).astype(np.float32))
        for criterion, forest in weights.forests.items()
    }
    mixed = parts.mixed(fitted.spreads)[table.natural]
    return replace(
        fitted.weights,
        linear=weights.linear * by_linear,
        lexical=(weights.lexical * by_linear).astype(np.float16).astype(np.float32),
        forests=forests,
        vote_scale=mixed.sum(axis=1).std() / mixed.std(axis=0),
    )


@dataclass(frozen=True)
class Trained:
    """What was learned, and how good it is.

    Attributes:
        weights: without a head; `parts` is what they make of the head's battles, `table` these
            battles.
        groups: (N,) by prompt, -1 for battles that are not of the natural sample.
        proba: (N, 3) of the natural sample by heads that have not seen it.
        result: the comparison of these with the class prior.
    """

    weights: Weights
    parts: Parts
    table: Table
    groups: npt.NDArray[np.int64]
    proba: Floats
    result: Comparison


def measure(folder: Path, seed: int) -> Trained:
    """Learns, and measures out of fold."""
    pool, head, groups = load(folder)
    learned, table = prepare(pool), prepare(head, natural=groups >= 0)
    targets = soften(learned.labels, author_probabilities(pool, learned.labels))
    weights = learn_strength(learned, targets, seed)
    parts = strengths_of(table, weights)
    proba = out_of_fold(weights, parts, table, groups, seed)
    natural = table.natural
    held_out = {"statistical": proba[natural]}
    result = compare(table.labels[natural], held_out, groups=groups[natural], seed=seed)
    return Trained(weights, parts, table, groups, proba, result)


def card(folder: Path, seed: int, result: Comparison) -> dict[str, Any]:
    """What judge.yaml says: from what the judge was made, by what, and how well it does."""
    prior, own = result.scores
    files = [fingerprint(folder / name) for name in (POOL, SAMPLE, *ODD)]
    return {
        "kind": "statistical",
        "made_by": {
            "script": "scripts/train_statistical.py",
            "seed": seed,
            "versions": {
                name: version(name)
                for name in ("arena-judge", "numpy", "scipy", "lightgbm", "scikit-learn")
            },
        },
        "made_from": {file.name: {"bytes": file.size, "sha256": file.sha256} for file in files},
        "measured": {
            "data": SAMPLE,
            "how": f"strength learned from {POOL} without the prompts of {SAMPLE}; head fitted "
            f"out of fold, {FOLDS} folds grouped by prompt",
            "battles": own.battles,
            "log_loss": round(own.log_loss, 4),
            "log_loss_interval": [round(own.low, 4), round(own.high, 4)],
            "log_loss_class_prior": round(prior.log_loss, 4),
            "accuracy": round(own.accuracy, 4),
            "brier": round(own.brier, 4),
            "calibration_error": round(own.calibration_error, 4),
        },
    }


def main() -> None:
    """Trains, measures, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="FOLDER")
    parser.add_argument("-o", "--output", type=Path, default=SHIPPED["statistical"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seen-only", action="store_true", help="write nothing but seen.npz")
    options = parser.parse_args()
    if options.seen_only:
        made_from = sources(yaml.safe_load((options.output / "judge.yaml").read_text("utf-8")))
        if made_from != tuple(fingerprint(options.data / file.name) for file in made_from):
            parser.error(f"{options.output} was made from other data than there is here")
        known = seen(options.data)
        write_seen(options.output, known)
        print(f"{options.output / SEEN}: {len(known):,} battles")
        return
    found = measure(options.data, options.seed)
    prior, own = found.result.scores
    print(
        f"log loss {own.log_loss:.4f} [{own.low:.4f}, {own.high:.4f}] out of fold, "
        f"class prior {prior.log_loss:.4f}, calibration error {own.calibration_error:.4f}"
    )
    options.output.mkdir(parents=True, exist_ok=True)
    weights = finish(found.weights, found.parts, found.table)
    write_weights(options.output / "weights.npz", weights)
    write_seen(options.output, seen(options.data))
    fit_conformity(found.table.labels, found.proba, found.groups).save(options.output)
    about = card(options.data, options.seed, found.result)
    text = yaml.safe_dump(about, sort_keys=False, width=100)
    (options.output / "judge.yaml").write_text(text, encoding="utf-8")
    print(f"{options.output}: written")


if __name__ == "__main__":
    main()
