"""What each step was worth: judges of a run on the same held-out battles, each against another.

    step                     log loss [95 %]            than                  [95 %]
    labels alone             1.0391 [1.0152, 1.0630]
    distilled                1.0312 [1.0079, 1.0551]    labels alone  -0.0079 [-0.0121, -0.0037]

Judges that know nothing of how often such battles end in a tie are calibrated first, and judges are
blended, by what was learned from the battles about other prompts. Predictions are kept beside the
run, and made again only when the judge has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finetune.pipeline.graph import Graph
from finetune.pipeline.recipe import Measured, filled
from judge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from judge.choosing import Gap

Floats = npt.NDArray[np.float64]
Predict = Callable[[str, "pd.DataFrame"], Floats]

FOLDER = "predictions"


@dataclass(frozen=True)
class Row:
    """A judge on the held-out battles.

    Attributes:
        name: of the row.
        battles: labelled battles that it judged.
        log_loss, low, high: in nats, with a 95 % interval that resamples prompts.
        error: its calibration error.
        than: the row that it is held against; `gap` is its log loss less that one's, paired.
    """

    name: str
    battles: int
    log_loss: float
    low: float
    high: float
    error: float
    than: str | None
    gap: Gap | None


def rows_of(graph: Graph, predict: Predict, *, seed: int = 0) -> list[Row]:
    """The table at the end of a run.

    Args:
        graph: whose stages are done.
        predict: what a judge, as on the command line, or a file of predictions says of battles.
        seed: of folds and of the bootstrap.

    Raises:
        InputError: the battles have no labels, or a judge is not there.
    """
    from judge.battles import labels as labels_of
    from judge.battles import read_battles
    from judge.calibration import covariates_of
    from judge.comparing.bootstrap import group_codes

    recipe = graph.recipe
    if not recipe.rows:
        return []
    made = {stage.name: graph.outs(stage) for stage in recipe.stages}
    values = {**recipe.variables, **made}
    (file,) = filled(recipe.battles, values)
    battles = read_battles(file)
    labels = labels_of(battles)
    if labels is None:
        raise InputError("has no labels to measure judges on", file=file)
    groups = group_codes(np.array([" ".join(turns) for turns in battles["prompt"]]))
    said: dict[str, Floats] = {}
    seen = covariates_of(battles) if any(row.calibrate for row in recipe.rows) else None
    for row in recipe.rows:
        if row.blend:
            said[row.name] = _blended(
                {name: said[name] for name in row.blend}, labels, groups, seed
            )
            continue
        (judge,) = filled(row.judge, values)
        proba = _kept(graph, row.name, judge, file, lambda one=judge: predict(one, battles))  # type: ignore[misc]
        said[row.name] = _calibrated(proba, labels, groups, seen, seed) if row.calibrate else proba
    return [_row(row, said, labels, groups) for row in recipe.rows]


def _kept(graph: Graph, name: str, judge: str, file: str, make: Callable[[], Floats]) -> Floats:
    """Predictions as they were made before, if of the same judge and battles."""
    from judge.files.atomic import written_whole

    key = graph.records.mark(judge, file)
    path = graph.folder / FOLDER / f"{key[:16]}.npy"
    if path.is_file():
        found: Floats = np.load(path, allow_pickle=False)
        return found
    proba = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as stream:
        np.save(stream, proba, allow_pickle=False)
    return proba


def _calibrated(
    proba: Floats,
    labels: Floats,
    groups: npt.NDArray[np.intp],
    seen: Floats | None,
    seed: int,
) -> Floats:
    """(N, 3) cross-fitted; `seen` is (N, 27), what a calibrator may look at in the battles."""
    from judge.calibration import calibrate

    return calibrate(labels, proba, groups, context=seen, seed=seed).proba


def _blended(
    members: Mapping[str, Floats], labels: Floats, groups: npt.NDArray[np.intp], seed: int
) -> Floats:
    from judge.blending import blend

    return blend(labels, members, groups, seed=seed).proba


def _row(
    row: Measured, said: Mapping[str, Floats], labels: Floats, groups: npt.NDArray[np.intp]
) -> Row:
    from judge.choosing import paired_gap
    from judge.metrics import calibration_error, log_loss_rows

    own = said[row.name]
    known = ~np.isnan(own).any(axis=1) & ~np.isnan(labels).any(axis=1)
    loss = log_loss_rows(labels[known], own[known])
    level = paired_gap(loss, np.zeros(len(loss)), groups[known])
    gap = None
    if row.than is not None:
        both = known & ~np.isnan(said[row.than]).any(axis=1)
        one, other = (log_loss_rows(labels[both], proba[both]) for proba in (own, said[row.than]))
        gap = paired_gap(one, other, groups[both])
    error = calibration_error(labels[known], own[known])
    count = int(known.sum())
    return Row(row.name, count, level.value, level.low, level.high, error, row.than, gap)
