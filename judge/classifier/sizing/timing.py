"""How long training and judging take: operations over a share of the device's peak."""

from __future__ import annotations

from dataclasses import dataclass

from judge.classifier.sizing.anatomy import Anatomy
from judge.classifier.sizing.devices import Hardware
from judge.classifier.sizing.lengths import Lengths
from judge.classifier.sizing.memory import trainable, weight_bytes
from judge.classifier.sizing.runs import Run

# What weights of 8 or 4 bits make of the speed: they are unpacked for each pass.
_UNPACKING = {None: 1.0, "8bit": 0.6, "4bit": 0.75}
# Small models leave a large device waiting: hidden sizes below this have less of the peak.
_WIDE = 2048


@dataclass(frozen=True)
class Time:
    """How long something takes.

    Attributes:
        tokens: that are worked through.
        operations: floating-point operations for them all.
        rate: of them a second, on all devices.
        moving: seconds that devices wait for one another's weights and gradients.
    """

    tokens: float
    operations: float
    rate: float
    moving: float = 0.0

    @property
    def seconds(self) -> float:
        """How long."""
        return self.operations / self.rate + self.moving if self.rate > 0 else 0.0

    @property
    def tokens_second(self) -> float:
        """Tokens a second, on all devices together."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def operations(anatomy: Anatomy, run: Run, looks: float, *, training: bool) -> float:
    """Floating-point operations for a token that is in a sequence of `looks` tokens.

    Two a weight forward; in training two more for what goes back through it, two for its gradient
    where it learns, and two to work it through again (Kaplan et al. 2020, arXiv 2001.08361, section
    2.1; Korthikanti et al. 2022, arXiv 2205.05198). Attention: four a token looked at and number
    of its queries, half of that in causal models.
    """
    weights = float(anatomy.multiplied)
    if run.objective == "votes":
        weights += anatomy.vocabulary * anatomy.hidden
    # Windows are left aside: what they save is little at the lengths of battles.
    pairs = 4.0 * anatomy.layers * anatomy.heads * anatomy.head_dim * looks
    pairs *= 0.5 if anatomy.causal else 1.0
    pairs *= 3.0 if anatomy.relative else 1.0  # two more kinds of scores
    if not training:
        return 2 * weights + pairs
    learning = weights if run.full else float(anatomy.lora(run.lora_r, run.lora_targets))
    adapters = 0.0 if run.full else learning
    again = 1.0 if run.checkpointing else 0.0
    forward = 2 * (weights + adapters)
    backward = 2 * (weights + adapters) + 2 * learning
    return forward * (1 + again) + backward + pairs * (3 + again)


def training_time(anatomy: Anatomy, run: Run, hardware: Hardware, lengths: Lengths) -> Time:
    """Of all epochs; dev battles and looks at them come on top, some hundredths."""
    tokens = lengths.tokens(run) * run.epochs
    each = operations(anatomy, run, lengths.looks(run), training=True)
    rate = _rate(anatomy, run, hardware, hardware.training)
    return Time(tokens, tokens * each, rate, _moving(anatomy, run, hardware, tokens))


def judging_time(anatomy: Anatomy, run: Run, hardware: Hardware, lengths: Lengths) -> Time:
    """Of judging the battles once: in both orders, or by both responses."""
    orders = 1 if run.form == "single" else 2
    tokens = lengths.tokens(run) * orders
    each = operations(anatomy, run, lengths.looks(run), training=False)
    return Time(tokens, tokens * each, _rate(anatomy, run, hardware, hardware.judging))


def _moving(anatomy: Anatomy, run: Run, hardware: Hardware, tokens: float) -> float:
    """Seconds for gradients, which each step sums over devices, and with FSDP for weights, which
    each pass gathers twice."""
    if hardware.count < 2:
        return 0.0
    others = (hardware.count - 1) / hardware.count
    moved = 2 * others * 4.0 * trainable(anatomy, run) * (tokens / run.step_tokens)
    if run.fsdp:
        held = weight_bytes(anatomy, run, 4 if run.full else run.size)
        passes = tokens / (hardware.count * run.pass_tokens)
        moved += 2 * others * held * passes
    return moved / hardware.link


def _rate(anatomy: Anatomy, run: Run, hardware: Hardware, share: float) -> float:
    rate = hardware.peak(run.dtype) * hardware.count * share * _UNPACKING[run.quantize]
    if hardware.cuda:
        rate *= min(1.0, anatomy.hidden / _WIDE)
    return rate
