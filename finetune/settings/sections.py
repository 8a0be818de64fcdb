"""The sections of what a run of training is told, with every leaf in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PREFERENCE, VOTES = "preference", "votes"
BEST, LAST = "best", "last"
EACH, MEAN = "each", "mean"


def _leaf(default: Any, about: str, **more: Any) -> Any:
    """A leaf of the tree. `more`: `choices`, `least`, `most`, `below`, `flag`."""
    return field(default=default, metadata={"about": about, **more})


@dataclass(frozen=True)
class DataConfig:
    """What is learned from."""

    battles: str | None = _leaf(None, "Labelled battles, or the ballots of --objective votes.")
    extra: tuple[str, ...] = _leaf((), "More battles; 0.5*FILE gives each half the weight.")
    dev: str | None = _leaf(None, "Battles to choose the best step on, in place of --dev-share.")
    dev_share: float = _leaf(
        0.1, "Share of BATTLES to choose the best step on, whole prompts.", least=0, below=1
    )
    held_out: tuple[str, ...] = _leaf(
        (), "Battles to measure the judge on; they and their prompts are not trained on."
    )
    dedupe: str = _leaf(
        "prompt", "Which repeated battles are left out.", choices=("prompt", "battle", "none")
    )
    near: bool = _leaf(False, "Leave out battles that are nearly another, too.")
    folds: str | None = _leaf(None, "Folds of BATTLES, as `finetune folds` writes them.")
    fold: int | None = _leaf(
        None, "Learn from the other folds, and measure on this one; from 0.", least=0
    )
    measure_fold: bool = _leaf(
        True, "Measure a judge on its fold, too; without, only on what is held out of all."
    )


@dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    base: str | None = _leaf(None, "The model to begin with: a folder or a name on the hub.")
    init: str | None = _leaf(
        None, "Go on from this folder: a judge, a reward model, or a LoRA adapter of the base."
    )
    form: str | None = _leaf(
        None,
        "pair: both responses in one sequence; single: one each.  [default: pair, or the --init's]",
        choices=("pair", "single"),
    )
    head: str | None = _leaf(
        None,
        "plain: three logits; symmetric: exact under swapping.  [default: plain for pair]",
        choices=("plain", "symmetric"),
    )
    width: int = _leaf(0, "Width of the head's hidden layer; 0 for none.", least=0)
    pooling: str | None = _leaf(
        None,
        "What the head sees of a sequence.  [default: last of causal models, else mean]",
        choices=("mean", "cls", "last"),
    )
    template: str | None = _leaf(None, "How battles are written.  [default: by the form]")
    max_length: int | None = _leaf(
        None, "Tokens of a sequence at most.  [default: 1024, or what the model reads]", least=8
    )
    policy: str = _leaf("proportional", "What is left out of longer battles.")
    dropout: float = _leaf(0.0, "Of what the head sees.", least=0, below=1)
    inner_dropout: float | None = _leaf(
        None, "Of the base's own layers.  [default: what the base says]", least=0, below=1
    )
    attention: str = _leaf(
        "auto", "Packed rows or padded ones.", choices=("auto", "packed", "padded")
    )
    quantize: str | None = _leaf(
        None, "Hold the base in 8 or 4 bits (QLoRA; needs bitsandbytes).", choices=("8bit", "4bit")
    )


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters in place of all weights."""

    lora: bool | None = _leaf(
        None, "Train adapters, or all weights.  [default: adapters for causal models]"
    )
    r: int = _leaf(16, "Their rank.", least=1, flag="lora-r")
    alpha: float = _leaf(32.0, "Their scale, divided by the rank.", least=0, flag="lora-alpha")
    dropout: float = _leaf(0.0, "Of what they see.", least=0, below=1, flag="lora-dropout")
    targets: tuple[str, ...] = _leaf(
        (), "Modules that get one, by their last name.  [default: by family]", flag="lora-target"
    )
    skip_layers: int = _leaf(0, "The first so many layers get none.", least=0)
    rslora: bool = _leaf(False, "Divide by the root of the rank instead.")
    dora: bool = _leaf(False, "Learn the length of weights apart (DoRA).")


@dataclass(frozen=True)
class OptimisationConfig:
    """How it is trained."""

    objective: str = _leaf(
        PREFERENCE, "What is learned: who won, or ballots.", choices=(PREFERENCE, VOTES)
    )
    orders: str = _leaf(
        "random",
        "Pairs in an order drawn anew each epoch, in both, or as they stand.",
        choices=("random", "both", "AB"),
    )
    smoothing: float = _leaf(0.0, "Share of each label spread evenly.", least=0, below=1)
    epochs: float = _leaf(1.0, "Times through the battles.", least=0)
    max_steps: int = _leaf(0, "End after so many steps; 0 for none.", least=0)
    step_tokens: int = _leaf(8192, "Tokens of a step, accumulated.", least=1)
    step_battles: int = _leaf(0, "Battles of a step, in place of tokens; 0 for none.", least=0)
    lr: float | None = _leaf(
        None, "Learning rate.  [default: 2e-4 with adapters, 3e-5 without]", least=0
    )
    head_lr: float = _leaf(10.0, "The head's, as a multiple of it.", least=0)
    layer_decay: float = _leaf(
        1.0, "Each layer's rate, as a share of the one's above.", least=0.1, most=1
    )
    warmup: float = _leaf(0.06, "Share of steps with a rising rate.", least=0, most=1)
    final_lr: float = _leaf(0.1, "Share of the rate at the end of the cosine.", least=0, most=1)
    weight_decay: float = _leaf(0.01, "Of matrices; not of biases and scales.", least=0)
    beta1: float = _leaf(0.9, "Of AdamW.", least=0, below=1)
    beta2: float = _leaf(0.98, "Of AdamW.", least=0, below=1)
    epsilon: float = _leaf(1e-8, "Of AdamW.", least=0)
    clip: float = _leaf(1.0, "Norm of the gradient at most; 0 for no bound.", least=0)
    ema: float = _leaf(0.0, "Decay of a running mean of the weights; 0 for none.", least=0, below=1)


@dataclass(frozen=True)
class DistillationConfig:
    """What teachers have to do with it (see `finetune.training.distilling`)."""

    teacher: tuple[str, ...] = _leaf((), "Tables of logits, as `finetune logits` writes them.")
    alpha: float = _leaf(
        0.7, "Weight of the teachers beside the labels, which have the rest.", least=0, most=1
    )
    temperature: float = _leaf(
        1.0, "What teachers' and student's logits are divided by.", least=0.05, most=1000
    )
    mse: float = _leaf(0.0, "Weight of the squared difference of probabilities.", least=0)
    cosine: float = _leaf(0.0, "Weight of the cosine distance of probabilities.", least=0)
    several: str = _leaf(
        EACH,
        "Several teachers: the mean of the losses by each, or one loss by their mean.",
        choices=(EACH, MEAN),
    )
    curriculum: float = _leaf(
        0.0, "Share of the epochs, the first, that learns from teachers alone.", least=0, most=1
    )
    in_fold: bool = _leaf(False, "Take teachers that have learned from what they label.")


@dataclass(frozen=True)
class RunConfig:
    """How it is run."""

    output: str | None = _leaf(None, "The judge folder to write.")
    name: str | None = _leaf(None, "What the judge is called in tables.")
    seed: int = _leaf(0, "Of split, order, head and dropout.", least=0)
    device: str | None = _leaf(None, "cpu, cuda, cuda:1 or mps.  [default: a GPU if there is one]")
    dtype: str = _leaf(
        "auto",
        "Numbers to compute in; weights that are trained stay in 32 bits.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    batch_tokens: int = _leaf(
        0, "Tokens worked through at once; 0 for what suits the device.", least=0
    )
    checkpointing: bool = _leaf(False, "Work layers through twice, for less memory.")
    fsdp: bool = _leaf(False, "Share weights among processes (torchrun), for less memory.")
    eval_every: int = _leaf(0, "Steps between looks at the dev battles; 0: ten in all.", least=0)
    patience: int = _leaf(0, "End after so many looks without gain; 0 for never.", least=0)
    keep: str = _leaf(
        BEST,
        "Whose weights: of the best look, or the last; chance picks the best of a few battles.",
        choices=(BEST, LAST),
    )
    save_every: int = _leaf(0, "Steps between checkpoints; 0: as the looks.", least=0)
    tensorboard: bool = _leaf(True, "Write the curve for TensorBoard too, where it is installed.")


@dataclass(frozen=True)
class Config:
    """Everything that a run is told."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    optimisation: OptimisationConfig = OptimisationConfig()
    distillation: DistillationConfig = DistillationConfig()
    run: RunConfig = RunConfig()
