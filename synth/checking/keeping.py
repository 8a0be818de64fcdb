"""The set that is left: its battles, its annotations, and what its manifest says of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from judge.errors import InputError
from synth.checking.drops import counts
from synth.checking.findings import Verdict
from synth.data import AnnotatedSet
from synth.tables import NUMBERS, WHOLE, renamed

if TYPE_CHECKING:
    import pandas as pd

    from synth.checking.whole import Check


def kept_set(
    data: AnnotatedSet, check: Check, said: Verdict, made: Mapping[str, Any]
) -> AnnotatedSet:
    """The set without the battles that are dropped.

    Args:
        data: the set that was checked.
        check: what was found.
        said: what it comes to.
        made: what it was made from and by, for the manifest.

    Raises:
        InputError: nothing is left, or a column holds what its name says it does not.
    """
    if check.gone.all():
        mend = "keep some: --keep REASON, or annotate again"
        raise InputError("every battle would be dropped", file=data.name, mend=mend)
    battles = data.battles[~check.gone].reset_index(drop=True)
    annotations = data.annotations
    annotations = annotations[annotations["id"].isin(battles["id"])].reset_index(drop=True)
    earlier = {"before": data.manifest["check"]} if "check" in data.manifest else {}
    manifest = {**data.manifest, "check": {**made, **summary(check, said), **earlier}}
    annotations = _typed(annotations, data.name)
    written = data.written
    if written is not None:
        written = written[written["id"].isin(battles["id"])].reset_index(drop=True)
    return AnnotatedSet(data.name, _typed(_renamed(battles)), annotations, manifest, written)


def summary(check: Check, said: Verdict) -> dict[str, Any]:
    """What of a check is kept beside the data: counts, figures and findings."""
    dropped = {
        name: number for name, number in counts(check.drops).items() if name in check.rules.applied
    }
    return {
        "battles": check.battles,
        "kept": int((~check.gone).sum()),
        "dropped": dropped,
        "rules": {
            "applied": sorted(check.rules.applied),
            "margin": check.rules.margin,
            "agreement": check.rules.agreement,
            "confidence": check.rules.confidence,
        },
        "figures": figures(check),
        "verdict": said.text,
        "findings": [f"{one.severity}: {one.text}" for one in said.findings],
    }


def figures(check: Check) -> dict[str, Any]:
    """The figures that a data card shows, of the set before anything was dropped; None for what is
    not known."""
    found: dict[str, Any] = {
        "annotators": {
            one.annotator: {
                "records": one.asked,
                "unreadable": one.unreadable,
                "unanswered": one.unanswered,
                "declined": one.declined,
                "order_consistency": _rounded(one.same.value),
                "position_bias": _rounded(one.bias.value),
            }
            for one in check.by_order
        },
        "samples_agree": {one.annotator: _rounded(one.agreed.value) for one in check.samples},
        "annotators_alpha": _of(check.annotators_agree, "alpha"),
        "labels": [_rounded(value) for value in check.balance.soft],
        "entropy": _rounded(check.balance.entropy),
        "near_certain": _rounded(check.balance.certain.value),
        "longer_wins": _rounded(check.looks.looks[0].won.value),
        "longer_wins_with_people": _rounded(check.looks.looks[0].human.value),
        "halo": None if check.criteria.single else _rounded(check.criteria.halo.value),
        "contradicted": _rounded(check.criteria.contradicted.value),
        "held_out": check.contamination.held_out,
        "contaminated": check.contamination.exact + check.contamination.near,
        "near_duplicates": check.contamination.repeated + check.contamination.alike,
    }
    labels = None if check.humans is None else check.humans.labels
    if labels is not None:
        own = labels.scores[1]
        names = (
            "battles",
            "log_loss",
            "accuracy",
            "decided_accuracy",
            "kappa",
            "calibration_error",
        )
        found["people"] = {name: _rounded(getattr(own, name)) for name in names}
        found["people"]["class_prior_log_loss"] = _rounded(labels.scores[0].log_loss)
    return found


def _of(result: object, name: str) -> float | None:
    return None if result is None else _rounded(getattr(result, name))


def _rounded(value: float) -> float | None:
    if isinstance(value, int):
        return value
    return round(float(value), 4) if math.isfinite(value) else None


def _renamed(battles: pd.DataFrame) -> pd.DataFrame:
    """Battles from elsewhere may have a `time` of their own; it is called as in a plan."""
    others = [
        name for name in (*NUMBERS, *WHOLE) if name in battles and _wrong(battles, name).any()
    ]
    return battles.rename(columns={name: renamed(name, battles.columns) for name in others})


def _wrong(table: pd.DataFrame, column: str) -> npt.NDArray[np.bool_]:
    """Which cells hold something else than a number of the kind that a set's files have there."""
    cells = table[column]
    found = _numbers(cells)
    wrong = np.isnan(found) & ~(cells.isna() | (cells.astype(object) == "")).to_numpy(dtype=bool)
    return wrong | (found % 1 != 0) & ~np.isnan(found) if column in WHOLE else wrong


def _numbers(cells: pd.Series[Any]) -> npt.NDArray[np.float64]:
    import pandas as pd

    return pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _typed(table: pd.DataFrame, name: str = "") -> pd.DataFrame:
    """The same with numbers in the columns that a set's files have as numbers: a CSV has texts."""
    import pandas as pd

    columns = {}
    for column in table.columns.intersection([*NUMBERS, *WHOLE]):
        wrong = _wrong(table, column)
        if wrong.any():
            cell = str(table[column][wrong].iloc[0])[:40]
            what = f"holds {cell!r}, which is no number of that kind"
            raise InputError(what, file=name, column=column, mend="rename the column")
        found = _numbers(table[column])
        if column in WHOLE:
            whole = [None if cell != cell else int(cell) for cell in found.tolist()]
            columns[column] = pd.Series(whole, index=table.index, dtype=object)
        else:
            columns[column] = pd.Series(found, index=table.index)
    return table.assign(**columns)
