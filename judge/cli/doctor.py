"""`arena-judge doctor`: what a model is, what training it takes, whether it fits, what to lower.

Nothing is loaded and nothing downloaded: from the command to `judge.classifier.sizing`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options
from judge.errors import InputError

if TYPE_CHECKING:
    from judge.classifier.sizing.devices import Hardware
    from judge.classifier.sizing.lengths import Lengths
    from judge.classifier.sizing.sources import Found

TOO_MUCH_EXIT = 3
_BATTLES = "10000"
_HEAD = "# Settings that fit, by arena-judge doctor"
_MOST = 10**12


@click.command()
@click.argument("model")
@click.option(
    "--gpu",
    metavar="NAME[:COUNT]",
    help="Reckon for these: T4, V100-16, A10G, L4, RTX-3090, RTX-4090, A100-40, A100-80, H100, "
    "H200 and others; cpu for this processor.  [default: what is here]",
)
@click.option(
    "--battles",
    default=_BATTLES,
    show_default=True,
    metavar="N|FILE",
    help="How many to train on, of usual lengths, or a file of them.",
)
@click.option(
    "--epochs", type=options.Finite(min=0), default=1.0, show_default=True, help="Times through."
)
@click.option(
    "--objective",
    type=click.Choice(["preference", "votes"]),
    default="preference",
    show_default=True,
    help="What is learned: who won, or ballots.",
)
@click.option(
    "--form",
    type=click.Choice(["pair", "single"]),
    help="Both responses in one sequence, or one each.  [default: pair]",
)
@click.option(
    "--max-length",
    type=click.IntRange(min=8, max=1 << 24),
    metavar="N",
    help="Tokens of a sequence at most.  [default: 1024, or what the model reads]",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1, max=1 << 32),
    metavar="N",
    help="Tokens worked through at once.  [default: 8192 on a GPU, else 4096]",
)
@click.option(
    "--lora-r",
    type=click.IntRange(min=1, max=1 << 16),
    metavar="R",
    help="Rank of adapters.  [default: 16 for causal models]",
)
@click.option("--lora-target", "targets", multiple=True, help="A module with one.  [default: all]")
@click.option("--full", is_flag=True, help="Train all weights.  [default for encoders]")
@click.option("--quantize", type=click.Choice(["8bit", "4bit"]), help="How the base is held.")
@click.option("--checkpointing", is_flag=True, help="Work layers through twice, for less memory.")
@click.option("--fsdp", is_flag=True, help="Share weights among GPUs.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Numbers to compute in.",
)
@click.option("--auto-fit", is_flag=True, help="Lower what has to be lowered until it fits.")
@click.option(
    "-o",
    "--output",
    metavar="FILE.yaml",
    help="Write the settings, for finetune train --config.",
)
@options.force
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on standard output.")
def doctor(
    model: str,
    gpu: str | None,
    battles: str,
    epochs: float,
    objective: str,
    form: str | None,
    max_length: int | None,
    batch_tokens: int | None,
    lora_r: int | None,
    targets: tuple[str, ...],
    full: bool,
    quantize: str | None,
    checkpointing: bool,
    fsdp: bool,
    dtype: str,
    auto_fit: bool,
    output: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Say what fine-tuning MODEL takes before anything is loaded: parameters, memory and time.

    MODEL is a folder with a config.json, a judge folder, a name in the hub's local cache, or one of
    the well-known models (meta-llama/Llama-3.1-8B, Qwen/Qwen3-8B, microsoft/deberta-v3-large, ...),
    of which a table is at hand. The exit code is 3 where it does not fit.

    \b
    Example:
      arena-judge doctor microsoft/Phi-3-mini-4k-instruct --gpu A10G
      arena-judge doctor meta-llama/Llama-3.1-8B --gpu T4:2 --battles battles.parquet --auto-fit
      arena-judge doctor models/minilm --full --epochs 3 --auto-fit -o settings.yaml
    """
    if full and (lora_r is not None or targets):
        raise click.UsageError("--full trains all weights, and --lora-r and --lora-target adapters")
    target = None if output is None else _target(output, [model, battles], force)

    from judge.classifier.sizing.checkup import default_run, examine
    from judge.classifier.sizing.sources import look_up

    found = look_up(model)
    hardware = _hardware(gpu)
    if fsdp and hardware.count < 2:
        raise click.UsageError("--fsdp shares weights among GPUs; name several, as in --gpu T4:2")
    run = default_run(
        found,
        hardware,
        objective=objective,
        form=form,
        max_length=max_length,
        batch_tokens=batch_tokens,
        lora_r=0 if full else lora_r if lora_r is not None else (16 if targets else None),
        lora_targets=targets or None,
        quantize=quantize,
        checkpointing=checkpointing,
        fsdp=fsdp,
        dtype=None if dtype == "auto" else dtype,
        epochs=epochs,
    )
    lengths = _lengths(battles, found)
    checkup = examine(found, run, hardware, lengths)
    steps: tuple[str, ...] = ()
    if auto_fit:
        steps = checkup.fit.steps
        checkup = examine(found, checkup.fit.run, hardware, lengths)
    _tell(checkup, steps, auto_fit=auto_fit, as_json=as_json)
    if target is not None:
        _write(target, checkup.run.settings())
    if checkup.verdict == "does not fit":
        click.get_current_context().exit(TOO_MUCH_EXIT)


def _tell(checkup: Any, steps: tuple[str, ...], *, auto_fit: bool, as_json: bool) -> None:
    import json

    from judge.cli.doctor_text import lines

    if as_json:
        said = checkup.to_dict() | {"lowered": list(steps)}
        click.echo(json.dumps(said, ensure_ascii=False, allow_nan=False))
        return
    for line in lines(checkup, steps, auto_fit=auto_fit):
        click.echo(line)


def _hardware(gpu: str | None) -> Hardware:
    from judge.classifier.sizing.devices import detected, named, processor

    if gpu is None:
        return detected()
    return processor() if gpu.lower() == "cpu" else named(gpu)


def _lengths(battles: str, found: Found) -> Lengths:
    """Of a number of battles, or of a file.

    Raises:
        InputError: it is neither.
    """
    from judge.classifier.sizing.lengths import measured, usual

    plain = battles.replace(",", "").replace("_", "")
    if plain.isascii() and plain.isdigit() and not os.path.exists(battles):
        if len(plain) > 12 or not 1 <= int(plain) <= _MOST:
            raise InputError(f"{battles} battles are none that can be reckoned with")
        return usual(int(plain))
    return measured(battles, found.tokenizer.file)


def _target(name: str, inputs: list[str], force: bool) -> Path:
    """Where settings may be written; earlier ones are replaced, anything else only under `force`.

    Raises:
        InputError: the path is no place for them.
    """
    from judge.cli.outputs import is_same_file

    path = Path(name)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise InputError("is no name for settings", file=name, mend="end it in .yaml")
    if path.is_dir():
        raise InputError("is a folder", file=name, mend="name a file in it")
    if not path.parent.is_dir():
        raise InputError("cannot be written, its folder is not there", file=name, mend="make it")
    if any(os.path.exists(source) and is_same_file(path, source) for source in inputs):
        raise InputError("is read by this very command", file=name, mend="choose another output")
    if path.is_file() and path.stat().st_size and not force:
        with path.open("rb") as stream:
            ours = stream.read(len(_HEAD)) == _HEAD.encode()
        if not ours:
            what = "is there already and is no earlier result"
            raise InputError(what, file=name, mend="choose another output, or add --force")
    return path


def _write(path: Path, settings: dict[str, dict[str, Any]]) -> None:
    import yaml

    from judge.cli.console import say
    from judge.files.atomic import written_whole

    replaced = path.is_file()
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    with written_whole(path) as file:
        file.write(f"{_HEAD}\n{text}".encode())
    say(f"{path}: {'replaced' if replaced else 'written'}; finetune train --config {path}")
