"""What `score` says at the end, counted up while batches stream by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from judge.cli.console import count, duration, fit, rate
from judge.metrics import accuracy_rows, class_prior, log_loss, log_loss_rows

Floats = npt.NDArray[np.float64]

_WHY = 160  # columns
_REASONS = 1000  # that are counted; a server may have something else to say each time


@dataclass(frozen=True)
class Summary:
    """One run of `score`.

    Attributes:
        judge: the judge's name.
        battles: in the file; `unjudged` of them got no answer.
        filled: whether the unjudged have the prior's probabilities.
        seconds: from opening the file to the last output being in place.
        mean: mean probability of A, B, tie over the judged battles; None when there are none.
        labelled: battles both judged and labelled, on which the next three are measured.
        log_loss, accuracy: of the judge; None without labels.
        class_prior_log_loss: of the best constant prediction for these labels.
        why: the reason that most of the unjudged have; None where none is.
    """

    judge: str
    battles: int
    unjudged: int
    filled: bool
    seconds: float
    mean: tuple[float, float, float] | None
    labelled: int
    log_loss: float | None
    accuracy: float | None
    class_prior_log_loss: float | None
    why: str | None = None

    def to_dict(self) -> dict[str, object]:
        """For `--json`."""
        names = ("winner_model_a", "winner_model_b", "winner_tie")
        values = asdict(self)
        values["unjudged_mostly"] = values.pop("why")
        mean = values.pop("mean")
        values["mean_probabilities"] = dict(zip(names, mean, strict=True)) if mean else None
        values["battles_per_second"] = self.battles / max(self.seconds, 1e-9)
        return values

    def lines(self) -> list[str]:
        """For people."""
        took = f"{duration(self.seconds)}, {rate(self.battles, self.seconds)}"
        lines = [f"{count(self.battles, 'battle')} by {self.judge} in {took}"]
        if self.mean is not None:
            a, b, tie = self.mean
            lines.append(f"mean probabilities: A {a:.3f}, B {b:.3f}, tie {tie:.3f}")
        if self.log_loss is not None:
            lines.append(
                f"on {count(self.labelled, 'labelled battle')}: "
                f"log loss {self.log_loss:.4f} (class prior {self.class_prior_log_loss:.4f}), "
                f"accuracy {self.accuracy:.3f}"
            )
        if self.unjudged:
            fate = "given the prior's probabilities" if self.filled else "left empty"
            mostly = f"; most often: {fit(self.why, _WHY)}" if self.why else ""
            lines.append(f"{count(self.unjudged, 'battle')} unjudged, {fate}{mostly}")
        return lines


def filled(proba: Floats, prior: npt.ArrayLike) -> Floats:
    """(N, 3) `proba` with the (3,) `prior` in its NaN rows."""
    return np.where(np.isnan(proba).any(axis=1, keepdims=True), np.asarray(prior), proba)


class Tally:
    """Sums over batches, so that a file of any length is summed up in constant memory."""

    def __init__(self) -> None:
        self.battles = self.judged = self.labelled = 0
        self._proba, self._labels = np.zeros(3), np.zeros(3)
        self._loss = self._hits = 0.0
        self._reasons: Counter[str] = Counter()

    def explain(self, reasons: Iterable[str]) -> None:
        """Counts why battles are unjudged."""
        for reason in reasons:
            if reason in self._reasons or len(self._reasons) < _REASONS:
                self._reasons[reason] += 1

    def add(self, proba: Floats, labels: Floats | None) -> None:
        """Counts a batch: (N, 3) probabilities, NaN where unjudged, and its labels if any."""
        judged = ~np.isnan(proba).any(axis=1)
        self.battles += len(proba)
        self.judged += int(judged.sum())
        self._proba += proba[judged].sum(axis=0)
        if labels is None:
            return
        both = judged & ~np.isnan(labels).any(axis=1)
        if both.any():
            self.labelled += int(both.sum())
            self._labels += labels[both].sum(axis=0)
            self._loss += float(log_loss_rows(labels[both], proba[both]).sum())
            self._hits += float(accuracy_rows(labels[both], proba[both]).sum())

    @property
    def mean(self) -> Floats | None:
        """(3,) mean probabilities over what was judged so far."""
        return self._proba / self.judged if self.judged else None

    def summary(self, judge: str, *, filled: bool, seconds: float) -> Summary:
        """What the run came to."""
        n, mean = self.labelled, self.mean
        prior = class_prior((self._labels / n)[None, :]) if n else None
        return Summary(
            judge=judge,
            battles=self.battles,
            unjudged=self.battles - self.judged,
            filled=filled,
            seconds=seconds,
            mean=None if mean is None else (float(mean[0]), float(mean[1]), float(mean[2])),
            labelled=n,
            log_loss=self._loss / n if n else None,
            accuracy=self._hits / n if n else None,
            # Log loss is linear in the labels, so the mean label has the loss of all of them.
            class_prior_log_loss=None if prior is None else log_loss(prior[None], prior[None]),
            why=next((reason for reason, _ in self._reasons.most_common(1)), None),
        )
