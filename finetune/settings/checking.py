"""What does not go together is refused before a battle is read or a weight loaded.

    refuse(config, count=processes.count)

What hangs on a model's configuration is looked at as far as it lies here already.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.settings.config import VOTES, Config, leaves, value_of
from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    from judge.classifier.sizing.sources import Found

# What a judge that writes ballots has no use for.
_OF_BATTLES = (
    *("data.extra", "data.held_out", "data.near"),
    *("model.form", "model.head", "model.width", "model.pooling", "model.template"),
    *("model.dropout", "optimisation.smoothing"),
)
# What says how adapters are.
_OF_ADAPTERS = ("lora.targets", "lora.skip_layers", "lora.rslora", "lora.dora")


def refuse(config: Config, *, count: int = 1) -> None:
    """Sees to it that a config can be had.

    Args:
        config: what a run is told.
        count: how many processes train together.

    Raises:
        ArenaJudgeError: something does not go together, or is not here.
    """
    _objective(config)
    _learning(config)
    _devices(config, count)
    _reading(config)
    found = _found(config)
    if found is not None:
        _model(config, found)


def _objective(config: Config) -> None:
    if config.optimisation.objective != VOTES:
        return
    for leaf in leaves():
        if leaf.path in _OF_BATTLES and value_of(config, leaf.path) != leaf.default:
            raise InputError(
                f"{leaf.flag} is for judges that say who won, and --objective votes makes one that "
                "writes ballots",
                mend="leave it out",
            )
    if config.run.fsdp:
        raise InputError("--fsdp is for judges that say who won", mend="leave it out")


def _learning(config: Config) -> None:
    """Which weights learn, and how they are held."""
    lora = config.lora
    quantize = config.model.quantize
    if lora.lora is False:
        for leaf in leaves():
            if leaf.path in _OF_ADAPTERS and value_of(config, leaf.path) != leaf.default:
                raise InputError(
                    f"--no-lora trains all weights, and {leaf.flag} is for adapters",
                    mend="leave one of them out",
                )
    if quantize is None:
        return
    if lora.lora is False:
        raise InputError("weights in few bits cannot be trained", mend="add --lora")
    if lora.dora and quantize == "8bit":
        raise InputError(
            "--dora does not go with weights in 8 bits", mend="take --quantize 4bit, or no --dora"
        )
    if find_spec("bitsandbytes") is None:
        raise ArenaJudgeError(
            f"--quantize {quantize} needs bitsandbytes, which is not installed; "
            "pip install bitsandbytes"
        )


def _devices(config: Config, count: int) -> None:
    """Where it runs, and among how many."""
    import torch

    from judge.classifier.hardware import devices_of, dtype_of

    run = config.run
    named = run.device
    if count > 1 and named is not None and ":" in named:
        raise InputError(
            f"{count} processes cannot all train on {named}",
            mend="write --device cuda, and each takes a GPU of its own",
        )
    devices = devices_of([] if named is None else [named])
    device = torch.device("cpu") if not devices else devices[0]
    if config.model.quantize is not None and device.type == "mps":
        raise InputError(f"{config.model.quantize} needs a GPU that bitsandbytes knows, or the CPU",
                         mend="leave out --quantize")  # fmt: skip
    if not run.fsdp:
        return
    if config.model.quantize is not None:
        raise InputError("weights in few bits cannot be shared out: --fsdp does not go with "
                         "--quantize", mend="leave out one of them")  # fmt: skip
    if count < 2:
        raise InputError(
            "--fsdp shares weights among processes, and this is one",
            mend="start it with torchrun --nproc-per-node N",
        )
    half = dtype_of(run.dtype, device, training=True) == torch.float16
    if half and config.lora.lora is False:
        raise InputError(
            "all weights cannot learn in float16 with --fsdp",
            mend="take --dtype bfloat16 or --lora",
        )


def _reading(config: Config) -> None:
    """How battles are put, and which are measured on."""
    from judge.classifier.templates import load_template

    model, data = config.model, config.data
    if model.form == "single" and model.head == "plain":
        raise InputError(
            "a plain head would see only one of the responses in the form single",
            mend="take --head symmetric, or --form pair",
        )
    if model.template is not None and model.init is None:
        template, form = load_template(model.template), model.form or "pair"
        if template.form != form:
            raise InputError(
                f"the template {template.spec} is of the form {template.form}, and not {form}",
                mend=f"add --form {template.form}",
            )
    if config.run.patience and data.dev is None and not data.dev_share:
        raise InputError(
            "--patience looks at dev battles, and there are none",
            mend="give --dev-share or --dev, or leave it out",
        )
    if not data.measure_fold and data.folds is None:
        what = "--no-measure-fold is for judges of folds, and no folds are named"
        raise InputError(what, mend="name them (--folds), or leave it out")
    if not data.measure_fold and not data.held_out:
        what = "--no-measure-fold leaves nothing to measure a judge on"
        raise InputError(what, mend="name battles: --held-out FILE")


def _found(config: Config) -> Found | None:
    """The model, where it lies here; None where it does not."""
    from judge.classifier.sizing.sources import look_up

    init, base = config.model.init, config.model.base
    name = base if base is not None else init
    if name is None or (init is not None and not Path(init).is_dir()):
        return None
    if base is not None and not os.path.isdir(base):
        return None
    try:
        return look_up(name)
    except InputError:  # loading says it, of more kinds of models than are known there
        return None


def _model(config: Config, found: Found) -> None:
    """What goes with a model's configuration."""
    anatomy = found.anatomy
    if anatomy.counted != "config":
        return
    length = config.model.max_length
    name = str(config.model.base or config.model.init)
    if length is not None and anatomy.most is not None and length > anatomy.most:
        raise InputError(
            f"reads {anatomy.most} tokens at most, and --max-length is {length}",
            file=name,
            mend=f"lower it to {anatomy.most}",
        )
    if config.optimisation.objective == VOTES and not anatomy.causal:
        raise InputError(
            f"{anatomy.family} writes no ballots, as --objective votes wants",
            file=name,
            mend="take a causal model",
        )
    if config.model.quantize is not None and found.quantized is not None:
        raise InputError(
            f"has weights in {found.quantized} already", file=name, mend="leave out --quantize"
        )
    if config.lora.targets:
        anatomy.adapted(config.lora.targets)
