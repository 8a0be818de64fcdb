"""What a student learns: what teachers say of battles, and who won.

The loss of a battle with a label y, of which teachers t speak, is

    alpha * T^2 * KL(t_T || s_T) + (1 - alpha) * CE(y, s) + mse * |t - s|^2 / 3
        + cosine * (1 - cos(t, s))

where s and t are the probabilities of student and teacher, and s_T and t_T those of their logits
divided by T; T^2 keeps the size of the gradient (Hinton et al. 2015, arXiv 1503.02531, section 2).
Where no teacher speaks the label's cross-entropy is all there is, where there is no label the
teachers have the whole weight. Several teachers: the mean of their losses, or (`mean`) one loss by
the mean of their probabilities.

With two teachers, alpha = 2/3, T = 1 and cosine = 2/3 this is
(CE + KL_1 + cos_1 + KL_2 + cos_2) / 3.

A curriculum begins with what teachers say alone, of all battles they speak of, and ends with the
battles of the main file that have a label, and others with a label that no teacher speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finetune.logits.teachers import mean_teacher
from finetune.settings.config import EACH, MEAN, DistillationConfig
from finetune.training.objectives import (
    Examples,
    Preference,
    Shown,
    as_shown,
    like,
    soft_cross_entropy,
)
from finetune.training.planning import Phase
from judge.classifier.network import Network
from judge.errors import InputError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Mixture:
    """What the parts of the loss weigh; see above.

    Attributes:
        alpha: of the teachers; labels have the rest.
        temperature: T.
        mse, cosine: of what is beside it.
        several: `each` or `mean`.
        curriculum: the share of the epochs that learns from teachers alone.
    """

    alpha: float = 0.7
    temperature: float = 1.0
    mse: float = 0.0
    cosine: float = 0.0
    several: str = EACH
    curriculum: float = 0.0


def mixture_of(told: DistillationConfig) -> Mixture:
    """The mixture that a config asks for."""
    return Mixture(
        told.alpha, told.temperature, told.mse, told.cosine, told.several, told.curriculum
    )


def teacher_losses(
    logits: Tensor, teacher: Tensor, alpha: Tensor | float, mixture: Mixture
) -> Tensor:
    """(..., L) how far a student is from what one teacher says, without the labels' part.

    Args:
        logits: (L, 3) of the student.
        teacher: (..., L, 3) log-probabilities.
        alpha: the weight of the divergence, perhaps of each.
        mixture: the other weights.
    """
    logits, heat = logits.float(), mixture.temperature
    taught = torch.log_softmax(teacher / heat, -1)
    said = torch.log_softmax(logits / heat, -1)
    loss = alpha * heat**2 * (taught.exp() * (taught - said)).sum(-1)
    if mixture.mse or mixture.cosine:
        theirs, own = torch.softmax(teacher, -1), torch.softmax(logits, -1)
        own = own.expand_as(theirs)
        if mixture.mse:
            loss = loss + mixture.mse * (theirs - own).square().mean(-1)
        if mixture.cosine:
            alike = torch.nn.functional.cosine_similarity(theirs, own, dim=-1)
            loss = loss + mixture.cosine * (1 - alike)
    return loss


class Distillation(Preference):
    """What teachers say, and who won.

    With a curriculum its rows are twice as many as the battles: the first half are battles as
    teachers alone see them, the second half the same battles with their labels.

    Args:
        teachers: (M, N, 3) log-probabilities; NaN rows where a teacher says nothing.
        mixture: what the parts of the loss weigh.
        main: (N,) battles of the main file.
        network, train, dev, more: see `Preference`; labels of `train` may be NaN rows where a
            teacher speaks.

    Raises:
        InputError: the curriculum has no battles to learn from.
    """

    def __init__(
        self,
        network: Network,
        train: Examples,
        dev: Examples | None = None,
        *,
        teachers: Floats,
        mixture: Mixture,
        main: Bools | None = None,
        **more: Any,
    ) -> None:
        super().__init__(network, train, dev, **more)
        if mixture.several == MEAN:
            teachers = mean_teacher(teachers)
        speaks = np.asarray(~np.isnan(teachers).any(axis=2))
        count = speaks.sum(axis=0)
        self._mixture = mixture
        self._teachers = np.where(speaks[..., None], teachers, 0.0)
        self._shares = speaks / np.maximum(count, 1)  # of each teacher in a battle's mean
        self._known = count > 0
        self._labelled = np.asarray(~np.isnan(train.labels).any(axis=1))
        self._labels = np.nan_to_num(train.labels)
        if (~self._known & ~self._labelled).any():
            raise ValueError("a battle has neither a label nor a teacher's word")
        self._main = np.ones(len(train), dtype=np.bool_) if main is None else main
        self._phases = self._two_phases() if mixture.curriculum else ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """First teachers, then labels, if there is a curriculum."""
        return self._phases

    @property
    def lengths(self) -> Ints:
        """(N,) tokens of each battle; (2 N,) with a curriculum."""
        return np.tile(super().lengths, 2) if self._phases else super().lengths

    def weight(self, rows: Ints) -> float:
        """The sum of the battles' weights."""
        return super().weight(rows % len(self._train))

    def shown(self, rows: Ints, epoch: int) -> Shown:
        """What is shown of battles; its rows say which phase they are of."""
        size = len(self._train)
        shown = super().shown(rows % size, epoch)
        late = rows >= size
        if self._orders == "both":
            late = np.repeat(late, 2)
        return Shown(shown.sequences, shown.rows + size * late, shown.turned, shown.weights)

    def losses(self, logits: Tensor, shown: Shown) -> Tensor:
        """(L,) how far logits are off."""
        size = len(self._train)
        rows, turned = shown.rows % size, shown.turned
        labelled = self._labelled[rows]
        if self._phases:
            labelled = labelled & (shown.rows >= size)
        known = self._known[rows]
        alpha = np.where(known, np.where(labelled, self._mixture.alpha, 1.0), 0.0)
        labels = like(as_shown(self._labels[rows], turned), logits)
        loss = like(1 - alpha, logits) * soft_cross_entropy(logits, labels, self._smoothing)
        if not known.any():
            return loss
        said = like(as_shown(self._teachers[:, rows], turned), logits)
        each = teacher_losses(logits, said, like(alpha, logits), self._mixture)
        return loss + (each * like(self._shares[:, rows], logits)).sum(0)

    def batch(self, rows: Ints, epoch: int) -> tuple[Ints, Floats, Floats]:
        """See `Preference`; NaN labels for battles without."""
        return super().batch(rows % len(self._train), epoch)

    def _two_phases(self) -> tuple[Phase, ...]:
        share, size = self._mixture.curriculum, len(self._train)
        first = np.flatnonzero(self._known)
        last = np.flatnonzero(self._labelled & (self._main | ~self._known)) + size
        for rows, part, what in ((first, share, "teachers' word"), (last, 1 - share, "label")):
            if part and not len(rows):
                raise InputError(
                    f"no battle of this part of the curriculum has a {what}",
                    mend="leave out --curriculum",
                )
        phases = (Phase(share, first), Phase(1 - share, last))
        return tuple(phase for phase in phases if phase.share)
