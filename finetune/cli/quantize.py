"""`arena-judge finetune quantize`: a judge in 8 or 4 bits."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options
from judge.cli.console import Progress, count, say, table
from judge.errors import InputError

if TYPE_CHECKING:
    from finetune.measuring.worth import Worth
    from finetune.quantizing.settings import Quantized

_HOWS = ("auto", "gptq", "nearest", "w8a8", "bitsandbytes")


@click.command()
@click.argument("judge")
@click.option(
    "--calibration",
    required=True,
    metavar="BATTLES",
    help="Battles to calibrate by; labels are not looked at.",
)
@click.option(
    "--bits", type=click.Choice(["8", "4"]), default="8", show_default=True, help="Of a weight."
)
@click.option(
    "--how",
    type=click.Choice(_HOWS),
    default=_HOWS[0],
    show_default=True,
    help="gptq: weights alone, the errors of each made good by others; nearest: each for itself; "
    "w8a8: activations too, for integer kernels; bitsandbytes: by that library. auto: gptq, or "
    "bitsandbytes for models without linear layers.",
)
@click.option(
    "--texts",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Sequences to calibrate by, of all lengths.",
)
@click.option(
    "--group-size",
    type=click.IntRange(8),
    default=128,
    show_default=True,
    help="Weights of a row that share a scale; not of w8a8.",
)
@click.option("--dev", metavar="FILE", help="Labelled battles to measure on, before and after.")
@click.option("--device", metavar="NAME", help="Where.  [default: the first GPU, or the processor]")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="What the model is computed in meanwhile; auto is float32 on a processor.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the texts.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The judge to write.")
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def quantize(
    judge: str,
    calibration: str,
    bits: str,
    how: str,
    texts: int,
    group_size: int,
    dev: str | None,
    device: str | None,
    dtype: str,
    seed: int,
    output: str,
    workers: int,
    force: bool,
    as_json: bool,
) -> None:
    """Make a small one of JUDGE, a judge folder: its weights in 8 or 4 bits, its head as it is.

    A judge with a LoRA adapter is merged with its base first. The weights are written in the format
    of compressed-tensors, which vLLM and transformers read too. What --dev measures is how the
    judges are run by `score`, with the paired difference.

    \b
    Example:
      arena-judge finetune quantize judges/minilm --calibration battles.csv -o judges/minilm-8
      arena-judge finetune quantize judges/phi3 --bits 4 --calibration battles.csv \\
          --dev dev.csv -o judges/phi3-4
    """
    from finetune.weights.folders import read_judge_folder, target_beside
    from judge.classifier.hardware import needed

    inputs = [one for one in (calibration, dev) if one is not None]
    target = target_beside(output, [read_judge_folder(judge)], inputs, force=force)
    if target.is_dir() and any(target.iterdir()) and not force:
        raise InputError("is there already", file=target, mend="name another, or add --force")
    for package in ("torch", "transformers", "safetensors"):
        needed(package)
    from finetune.measuring.labelled import read_measured
    from finetune.quantizing.making import quantize as made_small
    from finetune.quantizing.settings import Settings
    from finetune.rows.sources import read_pool
    from judge.judges.recipes import made_from

    settings = Settings(int(bits), how, texts, group_size, seed, device, dtype)
    pool = read_pool([calibration], labelled=False, workers=workers)
    measured = None if dev is None else read_measured(dev, workers=workers)
    sources = made_from([Path(calibration)]) if Path(calibration).is_file() else {}
    with _Layers() as layers:
        made = made_small(judge, pool, target, settings, dev=measured, sources=sources, tick=layers)
    if as_json:
        click.echo(json.dumps(_as_dict(made), allow_nan=False))
    else:
        for line in table(("", "before", "after", "change"), _rows(made)):
            click.echo(line)
    _summary(made)


class _Layers:
    """Shows which layer is being rounded."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __enter__(self) -> _Layers:
        return self

    def __call__(self, done: int, layers: int) -> None:
        if self._progress is None:
            self._progress = Progress("layers", layers)
        self._progress.advance(1)

    def __exit__(self, *about: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)


def _rows(made: Quantized) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("on disk", _size(made.before), _size(made.after), _share(made.before, made.after)),
        ("at 16 bits", _size(made.half), _size(made.after), _share(made.half, made.after)),
    ]
    worth = made.worth
    if worth is None:
        return rows
    faster = f"{worth.speed_after / worth.speed_before:.2f}x"
    tokens = (f"{worth.speed_before:,.0f}", f"{worth.speed_after:,.0f}", faster)
    losses = (f"{worth.before:.4f}", f"{worth.after:.4f}", _interval(worth))
    return [*rows, ("tokens/s", *tokens), ("log loss", *losses)]


def _interval(worth: Worth) -> str:
    if worth.low != worth.low:
        return f"{worth.difference:+.5f}"
    return f"{worth.difference:+.5f} [{worth.low:+.5f}, {worth.high:+.5f}]"


def _share(before: int, after: int) -> str:
    return f"{after / before:.0%}" if before else "-"


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"


def _summary(made: Quantized) -> None:
    texts = f", calibrated on {count(made.texts, 'text')} ({made.tokens:,} tokens)"
    say(
        f"{made.folder}: written; {count(made.layers, 'weight')} as {made.scheme} by "
        f"{made.how}{texts if made.texts else ''}"
    )


def _as_dict(made: Quantized) -> dict[str, object]:
    told = asdict(made) | {"folder": str(made.folder)}
    worth = made.worth
    if worth is not None:
        numbers = asdict(worth)
        told["worth"] = {
            name: None if isinstance(value, float) and value != value else value
            for name, value in numbers.items()
        }
    return told
