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
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from finetune.statistical.crossing import FOLDS, out_of_fold
from finetune.statistical.heads import Parts, finish, strengths_of
from finetune.statistical.strength import learn_strength
from finetune.statistical.tables import Table, prepare
from judge.battles import labels as labels_of
from judge.comparing.leaks import FILE as SEEN
from judge.comparing.leaks import write_seen
from judge.comparison import Comparison, compare
from judge.conformal import fit_conformity
from judge.judges import SHIPPED
from judge.judges.statistical_weights import Weights, write_weights
from judge.provenance import fingerprint, sources
from scripts.statistical_data import ODD, POOL, SAMPLE, load, seen, softened

Floats = npt.NDArray[np.float64]


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
    learned = prepare(pool, labelled(pool))
    table = prepare(head, labelled(head), natural=groups >= 0)
    targets = softened(pool, learned.labels)
    weights = learn_strength(learned, targets, seed)
    parts = strengths_of(table, weights)
    proba = out_of_fold(weights, parts, table, groups, seed)
    natural = table.natural
    held_out = {"statistical": proba[natural]}
    result = compare(table.labels[natural], held_out, groups=groups[natural], seed=seed)
    return Trained(weights, parts, table, groups, proba, result)


def labelled(battles: pd.DataFrame) -> Floats:
    """(N, 3) the labels."""
    found = labels_of(battles)
    if found is None:
        sys.exit("the battles have no labels")
    return found


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
