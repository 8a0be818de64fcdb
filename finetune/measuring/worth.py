"""What a judge is worth before and after it was changed, on the same labelled battles."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError

if TYPE_CHECKING:
    from finetune.measuring.labelled import Measured
    from judge.judges.classifier import ClassifierJudge

Floats = npt.NDArray[np.float64]

_ROUNDS = 2000
_WARM = 8


@dataclass(frozen=True)
class Worth:
    """Two judges on the same battles.

    Attributes:
        name: of the battles; `battles` how many both judged.
        before, after: log loss in nats.
        difference: after less before, with its 95 % interval, paired and resampled by prompt.
        farthest: the largest difference of two probabilities.
        tokens: that either read; `speed_before`, `speed_after` tokens a second.
    """

    name: str
    battles: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    farthest: float
    tokens: int
    speed_before: float
    speed_after: float

    def settings(self) -> dict[str, Any]:
        """The same for judge.yaml and JSON; speeds are of the machine and left out."""
        names = ("before", "after", "difference", "low", "high", "farthest")
        numbers = {name: _rounded(getattr(self, name)) for name in names}
        return {"on": self.name, "battles": self.battles, **numbers}


def worth(
    before: Path, after: Path, dev: Measured, *, device: str | None = None, seed: int = 0
) -> Worth:
    """Runs the judges in two folders as `score` would.

    Raises:
        ArenaJudgeError: one cannot be had, or there is no battle that both judge.
    """
    first, seconds_first, tokens = _judged(before, dev, device)
    second, seconds_second, _ = _judged(after, dev, device)
    return compared(
        dev, first, second, tokens=tokens, seconds=(seconds_first, seconds_second), seed=seed
    )


def compared(
    dev: Measured,
    first: Floats,
    second: Floats,
    *,
    tokens: int,
    seconds: tuple[float, float],
    seed: int = 0,
) -> Worth:
    """What two tables of probabilities of the same battles are worth.

    Raises:
        ArenaJudgeError: there is no battle that both judged.
    """
    from judge.comparing.bootstrap import Tallies, group_codes
    from judge.metrics import log_loss_rows

    both = np.flatnonzero(np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1))
    if not len(both):
        raise ArenaJudgeError("there is no battle that the judge has judged before and after")
    labels = dev.labels[both]
    losses = [log_loss_rows(labels, proba[both]) for proba in (first, second)]
    tallies = Tallies(group_codes(dev.prompts[both]))
    ones = np.ones(len(both))
    for values in (*losses, losses[1] - losses[0]):
        tallies.add(values, ones)
    means = tallies.means(rounds=_ROUNDS, seed=seed)
    return Worth(
        dev.name,
        len(both),
        float(means.value[0]),
        float(means.value[1]),
        float(means.value[2]),
        float(means.low[2]),
        float(means.high[2]),
        float(np.abs(second[both] - first[both]).max()),
        tokens,
        tokens / max(seconds[0], 1e-9),
        tokens / max(seconds[1], 1e-9),
    )


def _judged(folder: Path, dev: Measured, device: str | None) -> tuple[Floats, float, int]:
    """(N, 3) probabilities, the seconds they took when all was warm, and the tokens read."""
    from judge.classifier.templates import load_template
    from judge.classifier.tokens import BattleEncoder
    from judge.judges import load_judge
    from judge.judges.classifier_settings import ClassifierSettings

    running = ClassifierSettings(device=() if device is None else (device,))
    loaded: Any = load_judge(folder, running=running)
    with closing(loaded):
        judge: ClassifierJudge = loaded
        judge.predict_proba(dev.battles.iloc[:_WARM])
        start = time.perf_counter()
        proba = judge.predict_proba(dev.battles)
        seconds = time.perf_counter() - start
        shape = judge.shape
    from judge.classifier.loading import load_tokenizer

    template = load_template(shape.template)
    encoder = BattleEncoder(load_tokenizer(folder), template, shape.max_length, shape.policy)
    orders = ("AB", "BA") if template.form == "pair" else ("AB",)
    return proba, seconds, int(encoder.encode(dev.battles, orders).lengths.sum())


def _rounded(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
