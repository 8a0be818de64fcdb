"""From judge folders to the folder of their average, tried before it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.measuring.trials import Ground, Refused, Trial, Watched, tried, unwatched
from finetune.weights.averaging import Result, kept_marks, write_average
from finetune.weights.plans import Plan
from finetune.weights.weighing import (
    ADVANTAGE,
    CV,
    EQUAL,
    equal_weights,
    measured_weights,
    stated_weights,
)
from judge.errors import InputError
from judge.judges.classifier_settings import DEFAULT, ClassifierSettings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Weighing:
    """How judges are weighed.

    Attributes:
        how: `equal`; `cv`, by the log losses that their folders state; `advantage`, by what they
            say of the battles that the average is tried on.
        temperature: of `cv`.
        seed: of `advantage`, the order of the battles, and of the intervals.
    """

    how: str = EQUAL
    temperature: float = 0.05
    seed: int = 0

    def weights(self, plan: Plan, ground: Ground | None, said: Floats | None) -> tuple[float, ...]:
        """(M,) what each counts for, 1 together.

        Raises:
            InputError: they cannot be had.
        """
        if self.how == CV:
            return stated_weights(plan.judges, self.temperature)
        if self.how == ADVANTAGE:
            if ground is None or said is None:
                raise InputError("advantage is seen on labelled battles", mend="add --dev FILE")
            return measured_weights(ground.labels, said, ground.prompts, self.seed)
        return equal_weights(len(plan.judges))


@dataclass(frozen=True)
class Averaged:
    """An average that was written.

    Attributes:
        folder: where it is.
        weights: what each judge counted for.
        result: what became of the weights.
        trial: how it does; None where it was not tried.
        notes: what there is to say besides.
    """

    folder: Path
    weights: tuple[float, ...]
    result: Result
    trial: Trial | None
    notes: tuple[str, ...]


def average(
    plan: Plan,
    target: Path,
    weighing: Weighing = Weighing(),
    *,
    ground: Ground | None = None,
    forced: bool = False,
    name: str | None = None,
    running: ClassifierSettings = DEFAULT,
    say: Callable[[str], None] = lambda line: None,
    watched: Watched = unwatched,
) -> Averaged:
    """Writes the judge folder of an average, whole or not at all.

    Args:
        plan: what is averaged.
        target: the folder.
        weighing: what each counts for.
        ground: labelled battles to try it on.
        forced: write it even if it loses there.
        name: what the judge is called in tables.
        running: how judges are run on the battles.
        say: takes what there is to say meanwhile.
        watched: surrounds the judging of battles.

    Raises:
        Refused: it loses against the judges that it is made of.
        ArenaJudgeError: it cannot be had.
    """
    from judge.comparing.leaks import write_seen
    from judge.files.folders import written_folder

    seen, silent = kept_marks(plan.judges)
    notes = list(plan.notes)
    if silent:
        notes.append(f"it is not known what {', '.join(silent)} learned from")
    said = None
    if ground is not None:
        known = 0 if seen is None else ground.known_to(seen)
        if known:
            notes.append(
                f"{known:,} of the {len(ground):,} battles that it is tried on were learned from, "
                "so the figures flatter the judges"
            )
        parts = []
        for one in plan.judges:
            say(f"{one.path}: judges {len(ground):,} battles")
            parts.append(ground.said_by(one.path, running, watched))
        said = np.stack(parts)
    weights = weighing.weights(plan, ground, said)
    if weighing.how == ADVANTAGE:
        notes.append("its weights were learned from the battles that it is tried on")
    with written_folder(target) as folder:
        result = write_average(plan, weights, folder)
        settings = _recipe(plan, weights, weighing, result, name)
        _write_recipe(folder, settings)
        trial = None
        if ground is not None and said is not None:
            averaged = ground.said_by(folder, running, watched)
            names = [one.name for one in plan.judges]
            trial = tried(ground, names, said, averaged, seed=weighing.seed)
            if trial.loses and not forced:
                raise Refused(trial)
            _write_recipe(folder, settings | _measured(ground, trial))
        if seen is not None:
            write_seen(folder, seen)
    return Averaged(target, weights, result, trial, tuple(notes))


def _recipe(
    plan: Plan,
    weights: Sequence[float],
    weighing: Weighing,
    result: Result,
    name: str | None,
) -> dict[str, Any]:
    """What its judge.yaml says but for how good it is."""
    from judge.judges.recipes import made_by

    settings = dict(result.settings)
    found = {"kind": settings.pop("kind")} | ({} if name is None else {"name": name}) | settings
    folds = {str(one.settings["folds"]) for one in plan.judges if "folds" in one.settings}
    if len(folds) == 1:
        found["folds"] = folds.pop()
    how: dict[str, Any] = {"how": plan.how if plan.adapted else "weights", "weights": weighing.how}
    if plan.adapted:
        how |= {"rank": result.rank, "lost": round(result.lost, 6)}
    found["averaged"] = [
        {"judge": one.name, "weight": round(weight, 6)}
        for one, weight in zip(plan.judges, weights, strict=True)
    ]
    return found | {
        "made_from": _sources(plan),
        "made_by": made_by("finetune average", **how),
    }


def _sources(plan: Plan) -> dict[str, Any]:
    """What all of them learned from."""
    found: dict[str, Any] = {}
    for one in plan.judges:
        stated = one.settings.get("made_from")
        for name, entry in (stated if isinstance(stated, dict) else {}).items():
            found.setdefault(str(name), entry)
    return found


def _measured(ground: Ground, trial: Trial) -> dict[str, Any]:
    own, mean = trial.scores[:2]
    gaps = {"less_judges": trial.against_each, "less_mean": trial.against_mean}
    spreads = {
        key: [round(value, 5) if np.isfinite(value) else None for value in parts]
        for key, gap in gaps.items()
        for parts in [(gap.value, gap.low, gap.high)]
    }
    name = " + ".join(ground.names)
    return {"measured": {name: own.settings() | {"log_loss_of_mean": mean.log_loss} | spreads}}


def _write_recipe(folder: Path, settings: dict[str, Any]) -> None:
    import yaml

    from judge.judges.recipes import FILE, plain

    text = yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=100)
    (folder / FILE).write_text(text, encoding="utf-8")
