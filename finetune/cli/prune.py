"""`arena-judge finetune prune`: battles whose labels are noise, left out or weighed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options, outputs
from judge.cli.console import clean, count, fit, say, table

if TYPE_CHECKING:
    import pandas as pd

    from finetune.logits.calibrated import Labelled
    from finetune.pruning.measured import Measurement
    from finetune.pruning.suspects import Suspects

REMOVED = ("id", "row", "reason", "label", "confidence", "counted_as")
_SHOWN = 20


def _threshold(context: click.Context, parameter: click.Parameter, value: str) -> float | None:
    if value == "auto":
        return None
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not 0 < number < 1:
        raise click.BadParameter("write auto, or a probability between 0 and 1")
    return number


@click.command()
@click.argument("battles")
@click.option(
    "--logits",
    "patterns",
    multiple=True,
    required=True,
    metavar="GLOB",
    help="What teachers say of them, out of fold; several tables are averaged.",
)
@click.option(
    "--threshold",
    default="auto",
    show_default=True,
    callback=_threshold,
    metavar="auto|X",
    help="auto: confident learning, a threshold for each class. X: labels that are given less.",
)
@click.option(
    "--at-most",
    type=options.Finite(0, 1),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Of the labelled battles, for an unlikely label: those with the widest margin.",
)
@click.option(
    "--how",
    type=click.Choice(["remove", "weigh"]),
    default="remove",
    show_default=True,
    help="remove: leave suspects out. weigh: keep all battles, with a column `weight` by "
    "information gain, which `train` goes by.",
)
@click.option("-o", "--output", required=True, metavar="FILE", help=".parquet, .csv or .jsonl.")
@click.option("--removed", metavar="FILE", help="Write the suspects too: .csv, .jsonl, .parquet.")
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Fit a reference judge on features with and without, and compare on battles held out.",
)
@click.option(
    "--folds",
    "folds_folder",
    metavar="FOLDER",
    help="Folds to measure on.  [default: five, dealt by prompt]",
)
@click.option("--in-fold", is_flag=True, help="Take logits that were made in fold all the same.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of folds dealt here."
)
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not tables.")
def prune(
    battles: str,
    patterns: tuple[str, ...],
    threshold: float | None,
    at_most: float,
    how: str,
    output: str,
    removed: str | None,
    measure: bool,
    folds_folder: str | None,
    in_fold: bool,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Find BATTLES whose labels are noise: what teachers that have not learned from them find
    unlikely (confident learning), and the same battle with different labels.

    What goes is printed, and whether that helps is measured: a reference judge is fitted with and
    without, and both are asked of the same held-out battles, which keep their labels. People do
    disagree, so it may well hurt; then go on with all battles, or with weights.

    \b
    Example:
      arena-judge finetune prune train.csv --logits 't/*.parquet' --folds folds -o pruned.parquet
      arena-judge finetune prune train.csv --logits t.parquet --threshold 0.1 --removed gone.csv \\
          -o pruned.csv
      arena-judge finetune prune train.csv --logits t.parquet --how weigh -o weighed.parquet
    """
    from finetune.cli.calibrate_logits import files_of

    files = files_of(patterns)
    inputs = [battles, *files]
    target, list_target = _targets(output, removed, inputs, force)

    import numpy as np

    from finetune.folds.table import read_folds
    from finetune.logits.calibrated import labelled_with
    from finetune.pruning.suspects import find_suspects, information_weights
    from judge.battles import read_battles
    from judge.comparing.marks import battle_marks

    table_ = read_battles(battles)
    folds = None if folds_folder is None else read_folds(folds_folder)
    data = labelled_with(table_, battles, folds, seed=seed)
    proba = _probabilities(files, table_, battles, in_fold)
    found = find_suspects(
        data.labels, proba, battle_marks(table_), threshold=threshold, at_most=at_most
    )
    if how == "remove":
        weights = np.where(found.removed, 0.0, 1.0)
        if not weights.any():
            raise click.UsageError("every battle is a suspect; lower --threshold or --at-most")
    else:
        weights = information_weights(data.labels, proba)
    result = _measured(data, weights) if measure else None
    listed = _listed(found, table_, battles)
    _write(target, battles, table_, weights, how)
    if list_target is not None:
        with outputs.table_file(list_target) as file:
            file.append(listed)
    _tell(found, listed, result, output, how, weights, as_json)


def _targets(
    output: str, removed: str | None, inputs: list[str], force: bool
) -> tuple[Path, Path | None]:
    for name in (output, removed):
        if name is not None and Path(name).suffix.lower() not in outputs.ENDINGS:
            raise click.UsageError(f"{clean(name)}: files end in .csv, .jsonl or .parquet")
    # What is there may be somebody's battles, which look as ours do.
    target = outputs.target(output, ("",), inputs=inputs, force=force)
    if removed is None:
        return target, None
    beside = outputs.target(removed, REMOVED, inputs=inputs, force=force)
    if outputs.is_same_file(target, beside):
        raise click.UsageError("--output and --removed name the same file")
    return target, beside


def _probabilities(files: list[str], battles: pd.DataFrame, file: str, in_fold: bool) -> Any:
    """(N, 3) the teachers' mean, as logarithms, over those that judged a battle."""
    import numpy as np

    from finetune.logits.table import aligned, log_softmax, probabilities, read_logits
    from judge.errors import InputError

    sums = np.zeros((len(battles), 3))
    counts = np.zeros(len(battles))
    for one in files:
        logits = read_logits(one)
        if logits.about.get("in_fold") and not in_fold:
            what = "was made in fold: its teacher has learned the labels that are in doubt"
            raise InputError(what, file=one, mend="make it out of fold, or add --in-fold")
        said = log_softmax(aligned(logits, battles, file))
        judged = ~np.isnan(said).any(axis=1)
        sums[judged] += said[judged]
        counts[judged] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return probabilities(sums / counts[:, None])


def _measured(data: Labelled, weights: Any) -> Measurement:
    from finetune.pruning.measured import features_of, measure

    features = features_of(data.battles)
    return measure(features, data.labels, data.fold, data.learns, data.prompts, weights)


def _listed(found: Suspects, battles: pd.DataFrame, file: str) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    from finetune.pruning.suspects import CLASSES
    from finetune.rows.sources import row_number

    rows = np.flatnonzero(found.removed)
    rows = rows[np.argsort(np.nan_to_num(found.confidence[rows], nan=-1.0), kind="stable")]
    words = (*CLASSES, "")
    return pd.DataFrame(
        {
            "id": [battles["id"].iloc[row] for row in rows.tolist()],
            "row": [row_number(battles, row, file) for row in rows.tolist()],
            "reason": found.reasons[rows],
            "label": [words[found.label[row]] for row in rows.tolist()],
            "confidence": found.confidence[rows],
            "counted_as": [words[found.likely[row]] for row in rows.tolist()],
        },
        columns=list(REMOVED),
    )


def _write(target: Path, battles: str, read: pd.DataFrame, weights: Any, how: str) -> None:
    """The file's own rows and columns, with ids, and weights where those are wanted."""
    from finetune.pruning.rewriting import own_rows

    rows = own_rows(battles, read["id"].tolist(), as_text=target.suffix.lower() == ".csv")
    if how == "remove":
        rows = rows[weights > 0].reset_index(drop=True)
    else:
        from finetune.rows.sources import WEIGHT, weights_of

        rows[WEIGHT] = weights * weights_of(battles, read)
    with outputs.table_file(target) as file:
        file.append(rows)


def _tell(
    found: Suspects,
    listed: pd.DataFrame,
    result: Measurement | None,
    output: str,
    how: str,
    weights: Any,
    as_json: bool,
) -> None:
    import math

    from finetune.pruning.suspects import CLASSES, CONTRADICTION, NOISE

    by = {reason: int((listed["reason"] == reason).sum()) for reason in (NOISE, CONTRADICTION)}
    thresholds = {
        name: None if math.isnan(t) or math.isinf(t) else t
        for name, t in zip(CLASSES, found.thresholds.tolist(), strict=True)
    }
    if as_json:
        told: dict[str, Any] = {
            "output": output,
            "how": how,
            "battles": len(found.reasons),
            "suspects": by,
            "spared": found.spared,
            "thresholds": thresholds,
            "weights": {"low": float(weights.min()), "high": float(weights.max())},
            "measured": None if result is None else _as_json(result),
            "removed": json.loads(listed.to_json(orient="records")),
        }
        click.echo(json.dumps(told))
    else:
        _show(listed)
        if result is not None:
            click.echo("")
            for line in _result(result, how):
                click.echo(line)
    if found.spared:
        say(f"note: {found.spared:,} more have an unlikely label, and --at-most spares them")
    if result is not None:
        say(f"measured on {count(result.battles, 'battle')} held out: {result.verdict}")
    kept = int((weights > 0).sum())
    said = f"{by[NOISE]:,} with an {NOISE}, {by[CONTRADICTION]:,} contradicted"
    if how == "weigh":
        say(f"{output}: written; {count(kept, 'battle')} with weights; suspects: {said}")
    else:
        say(f"{output}: written; {kept:,} of {count(len(weights), 'battle')}; left out: {said}")


def _show(listed: pd.DataFrame) -> None:
    rows = [
        [
            fit(str(one["id"]), 40),
            f"{one['row']:,}",
            str(one["reason"]),
            str(one["label"]),
            "-" if one["confidence"] != one["confidence"] else f"{one['confidence']:.4f}",
            str(one["counted_as"]) or "-",
        ]
        for one in listed.head(_SHOWN).to_dict(orient="records")
    ]
    head = ["battle", "row", "reason", "label", "probability", "counted as"]
    for line in table(head, rows):
        click.echo(line)
    if len(listed) > _SHOWN:
        say(f"and {len(listed) - _SHOWN:,} more; --removed FILE lists them all")


def _result(result: Measurement, how: str) -> list[str]:
    after = "without the suspects" if how == "remove" else "with weights"
    return table(
        ["reference judge learns from", "battles", "log loss", "difference", "95 %"],
        [
            ["shares of the labels", f"{result.battles:,}", f"{result.prior:.4f}", "", ""],
            ["all battles", f"{result.battles:,}", f"{result.before:.4f}", "", ""],
            [
                f"all battles, {after}" if how == "weigh" else f"battles {after}",
                f"{result.battles:,}",
                f"{result.after:.4f}",
                f"{result.gap.value:+.4f}",
                f"[{result.gap.low:+.4f}, {result.gap.high:+.4f}]",
            ],
        ],
    )


def _as_json(result: Measurement) -> dict[str, Any]:
    return {
        "battles": result.battles,
        "folds": result.folds,
        "before": result.before,
        "after": result.after,
        "prior": result.prior,
        "difference": result.gap.value,
        "low": result.gap.low,
        "high": result.gap.high,
        "verdict": result.verdict,
    }
