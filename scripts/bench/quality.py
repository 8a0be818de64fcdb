"""How good the statistical judge's probabilities are, beside what else could be made of the same
battles.

    python -m scripts.bench.quality --data FOLDER

Everything is measured on the natural sample, in folds grouped by prompt that are the same for all,
on battles that were not learned from. The statistical judge is trained and measured by
`scripts/train_statistical.py`; `scripts/bench/peers.py` says what the peers are. Each peer learns
from three sets of battles, and the one that serves it best on these very folds counts, which
favours the peers. Takes a few minutes and prints Markdown tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from finetune.statistical.crossing import FOLDS, grouped_folds
from judge.battles import labels as labels_of
from judge.battles import read_battles, swap
from judge.comparison import Difference, JudgeScore, compare
from judge.judges import load_judge
from judge.metrics import CLASSES, log_loss, log_loss_rows
from scripts.bench.peers import WITH_ALL, Evidence, Split, all_peers, evidence
from scripts.bench.report import options, setting, table
from scripts.statistical_data import SAMPLE, load
from scripts.train_statistical import measure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OWN = "statistical judge"


def battles_of(folder: Path, seed: int, least: int) -> tuple[Evidence, Split, Ints]:
    """What peers see of all the battles that the statistical judge learns from, the natural sample
    first; how they are held out; and the sample's groups by prompt. A term is one that `least`
    texts have."""
    pool, head, groups = load(folder)
    battles = pd.concat([head, pool], ignore_index=True)
    labels = labels_of(battles)
    if labels is None:
        raise SystemExit("the battles have no labels")
    fold = np.full(len(battles), -1)
    fold[: len(head)] = grouped_folds(groups, FOLDS, seed)
    large = np.arange(len(head), len(battles))
    split = Split(fold, large, odd=np.flatnonzero(groups < 0))
    return evidence(battles, labels, least=least), split, groups[groups >= 0]


def best(labels: Floats, variants: Mapping[str, Floats]) -> tuple[str, Floats]:
    """The variant with the least log loss."""
    name = min(variants, key=lambda name: log_loss(labels, variants[name]))
    return name, variants[name]


def against(
    labels: Floats, groups: Ints, own: Floats, other: Floats
) -> tuple[JudgeScore, Difference | None]:
    """How well the other does, and its log loss less our own; None where they are the same."""
    result = compare(labels, {"own": own, "other": other}, groups=groups)
    scores = {score.name: score for score in result.scores}
    ahead, behind = scores["own"].against_best, scores["other"].against_best
    if behind is not None or ahead is None:
        return scores["other"], behind
    turned = Difference(-ahead.value, -ahead.high, -ahead.low, ahead.p_value)
    return scores["other"], turned


def verdicts(
    labels: Floats, groups: Ints, proba: Mapping[str, Floats], learned: Mapping[str, str]
) -> str:
    """The table of all judges, the best first, each beside the statistical judge."""
    found = {name: against(labels, groups, proba[OWN], p) for name, p in proba.items()}
    rows = []
    for name, (score, gap) in sorted(found.items(), key=lambda item: item[1][0].log_loss):
        apart = ["", ""]
        if name != OWN and gap is not None:
            apart = [f"{gap.value:+.4f}", f"{gap.low:+.4f} to {gap.high:+.4f}"]
        rows.append(
            [
                name,
                learned[name],
                f"{score.log_loss:.4f}",
                f"{score.low:.4f} to {score.high:.4f}",
                *apart,
                f"{score.accuracy:.3f}",
                f"{score.calibration_error:.3f}",
            ]
        )
    head = ["judge", "learned from", "log loss", "95 %", "less ours", "95 %", "accuracy", "ECE"]
    return table(head, rows)


def by_class(labels: Floats, proba: Mapping[str, Floats]) -> str:
    """The table of mean probabilities beside the classes' rates, and of the loss by class."""
    rates = labels.mean(axis=0)
    rows = [["rate", *(f"{rate:.3f}" for rate in rates), "", "", "", ""]]
    for name, p in proba.items():
        off = np.abs(p.mean(axis=0) - rates).max()
        losses = (labels * costs(p)).sum(axis=0) / labels.sum(axis=0)
        rows.append(
            [
                name,
                *(f"{mean:.3f}" for mean in p.mean(axis=0)),
                f"{off:.3f}",
                *(f"{loss:.3f}" for loss in losses),
            ]
        )
    means, losses_of = ([f"{what} {c}" for c in CLASSES] for what in ("mean", "loss"))
    return table(["judge", *means, "furthest off", *losses_of], rows)


def costs(proba: Floats) -> Floats:
    """(N, 3) what each battle would cost with each label."""
    return np.column_stack(
        [log_loss_rows(np.tile(one, (len(proba), 1)), proba) for one in np.eye(3)]
    )


def by_battles(labels: Floats, variants: Mapping[str, Mapping[str, Floats]]) -> str:
    """The table of log losses by the battles that a peer learned from."""
    learned = list(dict.fromkeys(name for own in variants.values() for name in own))
    rows = [
        [peer, *(f"{log_loss(labels, own[k]):.4f}" if k in own else "" for k in learned)]
        for peer, own in variants.items()
    ]
    return table(["peer", *learned], rows)


def asymmetry(folder: Path) -> tuple[int, float]:
    """How many battles there are in the natural sample, and how far the shipped judge's
    probabilities are at most from what they should be when the responses are swapped."""
    battles = read_battles(folder / SAMPLE)
    judge = load_judge()
    shown, swapped = judge.predict_proba(battles), judge.predict_proba(swap(battles))
    return len(battles), float(np.abs(shown - swapped[:, [1, 0, 2]]).max())


def main() -> None:
    """Reads the options."""
    given = options(__doc__).parse_args()
    with threadpool_limits(1):
        run(given.data, given.seed, given.least)


def run(data: Path, seed: int, least: int) -> None:
    """Measures everything on the battles of a folder, and prints."""
    own = measure(data, seed).proba
    seen, split, groups = battles_of(data, seed, least)
    natural = split.fold >= 0
    labels = seen.labels[natural]
    variants = {
        peer: {learned: p[natural] for learned, p in found.items()}
        for peer, found in all_peers(seen, split).items()
    }
    chosen = {peer: best(labels, found) for peer, found in variants.items()}
    proba = {OWN: own[natural[: len(own)]], **{peer: p for peer, (_, p) in chosen.items()}}
    learned = {OWN: WITH_ALL, **{peer: name for peer, (name, _) in chosen.items()}}
    count, error = asymmetry(data)
    print(setting("scripts.bench.quality"))
    print(f"- {len(labels)} battles, {groups.max() + 1} prompts, {FOLDS} folds, seed {seed}\n")
    print(verdicts(labels, groups, proba, learned), by_class(labels, proba), sep="\n\n", end="\n\n")
    print(by_battles(labels, variants), end="\n\n")
    print(f"Swapping the responses of {count} battles moves a probability by {error:.1e} at most.")


if __name__ == "__main__":
    main()
