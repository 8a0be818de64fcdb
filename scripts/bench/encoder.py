"""How good a small encoder is as a judge that was trained by `arena-judge finetune`.

    python -m scripts.bench.encoder --data FOLDER [-o FOLDER] [--picture FILE.svg] [-- OPTIONS]

The encoder is all-MiniLM-L6-v2, 22 million parameters. It learns from `arena_train.parquet`: from
the votes, softened by what the models' strengths say, and from statistical judges of three folds,
each of which speaks of the battles that it has not learned from. Nothing of the natural sample
`arena_dev.csv`, nor of its prompts, nor what is nearly one of its battles, is learned from by any
of them. The training file has hardly a tie, so the judge knows nothing of them: it is calibrated on
the natural sample in folds grouped by prompt, each battle by a calibrator that has not seen its
prompt, once by the probabilities alone and once by the battles too. The blend with the statistical
judge is cross-fitted in the same way, over probabilities of a statistical judge whose head has not
seen the battle. Differences are paired and intervals resample prompts. Prints Markdown; OPTIONS go
to `finetune distill` after those below.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from finetune.training.curves import FILE as CURVE
from finetune.training.curves import Point, read_curve
from judge.battles import labels as labels_of
from judge.battles import read_battles
from judge.blending import blend
from judge.calibration import calibrate
from judge.calibration.covariates import covariates_of
from judge.choosing import paired_gap
from judge.comparing.bootstrap import group_codes
from judge.comparison import compare
from judge.judges import load_judge
from judge.metrics import log_loss_rows
from judge.report.charts import Series, lines
from judge.report.standalone import standalone
from scripts.bench.encoding import small_encoder
from scripts.bench.report import options, setting, table
from scripts.statistical_data import ANONYMOUS, POOL, SAMPLE, normalised
from scripts.statistical_data import softened as softened_labels
from scripts.train_statistical import measure

Floats = npt.NDArray[np.float64]

HOW = (
    *("--form", "single", "--max-length", "512", "--policy", "head-tail", "--inner-dropout", "0"),
    *("--lr", "1e-4", "--epochs", "1", "--ema", "0.99", "--final-lr", "0.02"),
    *("--dtype", "bfloat16", "--dev-share", "0.03", "--keep", "last", "--alpha", "0.7"),
)
STATISTICAL, OWN, BLEND = "statistical judge", "encoder, calibrated", "both, blended"
BLIND = "encoder, calibrated without a look at the battle"


def softened(data: Path, target: Path) -> Path:
    """The training file with probabilities for labels."""
    battles = read_battles(data / POOL)
    labels = labels_of(battles)
    if labels is None:
        raise SystemExit(f"{POOL} has no labels")
    labels = softened_labels(battles, labels)
    texts = battles[["id", "prompt", "response_a", "response_b"]]
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    columns = {name: labels[:, place] for place, name in enumerate(names)}
    table_ = texts.assign(**columns)
    for name in ("prompt", "response_a", "response_b"):
        table_[name] = [list(turns) for turns in table_[name]]
    table_.to_parquet(target, index=False)
    return target


def train(data: Path, folder: Path, place: Path, more: list[str]) -> None:
    """Runs the commands from the battles to the judge."""
    battles, held_out = str(data / POOL), ("--held-out", str(data / SAMPLE))
    folds, teachers = str(place / "folds"), str(place / "teachers")
    said = str(place / "statistical.parquet")
    anonymous = [word for name in ANONYMOUS for word in ("--anonymous", name)]
    run("folds", battles, "-k", "3", "-o", folds)
    run("statistical", battles, "--folds", folds, *held_out, *anonymous, "-o", teachers)
    run("logits", battles, "--judge", teachers, "--folds", folds, "-o", said)
    file = softened(data, place / POOL)
    learn = ("--teacher", said, "--base", small_encoder(), *held_out, *HOW, *more)
    run("distill", str(file), *learn, "-o", str(folder))


def run(step: str, *words: str) -> None:
    """`arena-judge finetune STEP`, and how long it took."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "judge", "finetune", step, *words]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"{step} failed")
    print(f"- finetune {step}: {(time.perf_counter() - started) / 60:.1f} minutes")


def curve_table(points: list[Point]) -> str:
    """Where somebody looked at the dev battles, with the mean loss of the steps before."""
    rows, since = [], 0
    for place, point in enumerate(points):
        if point.dev_log_loss is not None:
            loss = np.mean([one.loss for one in points[since : place + 1]])
            rows.append(
                [
                    f"{point.step}",
                    f"{point.epoch:.2f}",
                    f"{point.tokens:,}",
                    f"{point.seconds / 60:.1f}",
                    f"{loss:.4f}",
                    f"{point.dev_log_loss:.4f}",
                ]
            )
            since = place + 1
    head = ["step", "epoch", "tokens", "minutes", "mean loss since", "dev log loss"]
    return table(head, rows)


def picture(points: list[Point]) -> str:
    """The same as a drawing."""
    nothing = (float("nan"), float("nan"))
    dev = [(p.step, p.dev_log_loss) for p in points if p.dev_log_loss is not None]
    starts = [0, *(step for step, _ in dev)]
    losses = [
        (float(stop), float(np.mean([p.loss for p in points if start < p.step <= stop])), *nothing)
        for start, stop in pairwise(starts)
    ]
    series = (
        Series("training loss", tuple(losses)),
        Series("dev log loss", tuple((float(s), float(v), *nothing) for s, v in dev)),
    )
    ends = ", ".join(f"{one.name} {one.points[-1][1]:.4f}" for one in series)
    return standalone(lines("The curve of training", f"At the end: {ends}", series, "step", "nats"))


def verdict(data: Path, encoder: Floats, seed: int) -> str:
    """The table of judges on the natural sample."""
    sample = read_battles(data / SAMPLE)
    labels = labels_of(sample)
    assert labels is not None
    groups = group_codes(np.array([normalised(prompt) for prompt in sample["prompt"]]))
    trained = measure(data, seed)
    statistical = trained.proba[trained.table.natural]
    calibrated = calibrate(labels, encoder, groups, context=covariates_of(sample), seed=seed)
    blind = calibrate(labels, encoder, groups, seed=seed)
    both = blend(labels, {STATISTICAL: statistical, OWN: calibrated.proba}, groups, seed=seed)
    said = {
        "encoder as trained": encoder,
        BLIND: blind.proba,
        OWN: calibrated.proba,
        STATISTICAL: statistical,
        BLEND: both.proba,
    }
    losses = {name: log_loss_rows(labels, proba) for name, proba in said.items()}
    rows = []
    for score in compare(labels, said, groups=groups, seed=seed).scores:
        own = losses.get(score.name)
        gaps = [
            "" if own is None or other == score.name else _gap(own, losses[other], groups)
            for other in (STATISTICAL, OWN)
        ]
        interval = f"{score.low:.4f} to {score.high:.4f}"
        measures = (f"{score.accuracy:.3f}", f"{score.calibration_error:.3f}")
        rows.append([score.name, f"{score.log_loss:.4f}", interval, *measures, *gaps])
    head = ["judge", "log loss", "95 %", "accuracy", "ECE", f"less {STATISTICAL}", f"less {OWN}"]
    method = calibrated.calibrator.method
    how = f"calibrated by {method}, blended by {both.blend.method}"
    return f"{table(head, rows)}\n\n{how}; {len(labels)} battles"


def _gap(own: Floats, other: Floats, groups: npt.NDArray[np.intp]) -> str:
    gap = paired_gap(own, other, groups)
    return f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="keep the judge here")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the curve")
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help="only measure this judge")
    parser.add_argument("more", nargs=argparse.REMAINDER, help="options of finetune distill")
    arguments = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = arguments.trained or arguments.output or Path(place) / "encoder"
        if arguments.trained is None:
            more = [one for one in arguments.more if one != "--"]
            train(arguments.data, folder, Path(place), more)
        started = time.perf_counter()
        encoder = load_judge(str(folder)).predict_proba(read_battles(arguments.data / SAMPLE))
        seconds = time.perf_counter() - started
        points = read_curve(folder / CURVE)
        print(setting("scripts.bench.encoder"))
        print(f"- {len(encoder):,} battles judged in {seconds:.1f} s\n")
        print(curve_table(points), end="\n\n")
        print(verdict(arguments.data, encoder, arguments.seed))
        if arguments.picture:
            arguments.picture.write_text(picture(points), encoding="utf-8")


if __name__ == "__main__":
    main()
