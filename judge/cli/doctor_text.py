"""What `arena-judge doctor` says: the model, the tables of memory and time, the verdict."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from judge.cli.console import clean, count, duration, table

if TYPE_CHECKING:
    from judge.classifier.sizing.checkup import Checkup
    from judge.classifier.sizing.devices import Hardware
    from judge.classifier.sizing.runs import Run

_GIB = 1 << 30
_ORIGINS = {
    "folder": "its folder",
    "judge": "a judge's folder",
    "cache": "the hub's local cache",
    "table": "the table of known models",
}
_SHOWN = 0.005 * _GIB


def lines(checkup: Checkup, steps: tuple[str, ...], *, auto_fit: bool) -> Iterator[str]:
    """Everything, a line at a time.

    Args:
        checkup: what was found out, of the run as it is.
        steps: what was lowered for it.
        auto_fit: whether lowering was asked for.
    """
    yield from table(["model", clean(checkup.found.name)], _facts(checkup), left=2)
    yield ""
    yield from _memory(checkup)
    yield ""
    yield from _times(checkup)
    yield ""
    yield from _verdict(checkup, steps, auto_fit=auto_fit)
    for note in checkup.notes:
        yield f"note: {clean(note)}"
    run = checkup.run if checkup.training.fits else checkup.fit.run
    if checkup.training.fits or checkup.fit.fits:
        yield ""
        yield command(run, checkup.hardware)


def _facts(checkup: Checkup) -> list[list[str]]:
    found, run, hardware = checkup.found, checkup.run, checkup.hardware
    anatomy, tokenizer = found.anatomy, found.tokenizer
    kind = "causal" if anatomy.causal else "encoder"
    rows = [
        ["known from", _ORIGINS[found.origin]],
        ["family", f"{anatomy.family}, {kind}, {anatomy.layers} layers of {anatomy.hidden}"],
        ["parameters", _parameters(checkup)],
        ["trained", _trained(checkup)],
        ["context", f"{anatomy.context:,} tokens" if anatomy.context else "not said"],
        ["tokenizer", {True: "fast", False: "slow", None: "not there"}[tokenizer.fast]],
        ["chat template", {True: "there", False: "none", None: "not known"}[tokenizer.chat]],
        ["battles as", f"{_template(checkup)}, {run.max_length} tokens at most"],
        ["special tokens", _special(checkup)],
        ["attention", "packs rows, no padding" if checkup.packed else "pads to the longest"],
        ["computes in", run.dtype],
    ]
    gib = hardware.memory / _GIB
    devices = f"{hardware.count} x {hardware.name}" if hardware.count > 1 else hardware.name
    rows.append(["on", f"{devices}, {gib:.1f} GiB{' each' if hardware.count > 1 else ''}"])
    return [[name, clean(text)] for name, text in rows]


def _parameters(checkup: Checkup) -> str:
    anatomy = checkup.found.anatomy
    text = f"{_short(anatomy.total)}, {_short(anatomy.embeddings)} of them embeddings"
    if anatomy.lm_head and checkup.run.objective == "preference":
        text += f"; {_short(anatomy.backbone)} without the vocabulary's head, which is left out"
    weights = checkup.found.weights
    if weights is not None:
        kinds = ", ".join(sorted(weights.types))
        text += f"; on disk {_short(weights.parameters)} ({kinds})"
    return text


def _trained(checkup: Checkup) -> str:
    from judge.classifier.sizing.memory import trainable

    run, anatomy = checkup.run, checkup.found.anatomy
    learning = trainable(anatomy, run)
    share = f"{_short(learning)} parameters, {learning / anatomy.total:.2%}"
    if run.full:
        return f"all weights: {_short(learning)} parameters"
    where = "all linear layers" if run.lora_targets == "all-linear" else ", ".join(run.lora_targets)
    held = f", the base in {run.quantize}" if run.quantize else ""
    return f"LoRA of rank {run.lora_r} on {where}: {share}{held}"


def _template(checkup: Checkup) -> str:
    from judge.classifier.sizing.checkup import template_of

    return template_of(checkup.run)


def _special(checkup: Checkup) -> str:
    tokenizer = checkup.found.tokenizer
    if tokenizer.fast is None and not tokenizer.tokens:
        return "not known"
    names = [
        f"{role} {text}" if checkup.found.origin != "table" else role
        for role, text in tokenizer.tokens.items()
    ]
    if "pad" not in tokenizer.tokens:
        if checkup.packed:
            names.append("no pad, and packed rows need none")
        else:
            names.append("no pad: token 0 fills up rows and is masked")
    return ", ".join(names)


def _memory(checkup: Checkup) -> Iterator[str]:
    names = list(dict.fromkeys([*checkup.training.parts, *checkup.judging.parts]))
    rows = []
    for name in names:
        sizes = [memory.parts.get(name, 0.0) for memory in (checkup.training, checkup.judging)]
        if max(sizes) >= _SHOWN:
            rows.append([name, *map(_gib, sizes)])
    each = " on each" if checkup.hardware.count > 1 else ""
    rows.append([f"together{each}", _gib(checkup.training.total), _gib(checkup.judging.total)])
    rows.append(["there is", _gib(checkup.training.available), _gib(checkup.judging.available)])
    yield from table(["memory, GiB", "training", "judging"], rows)


def _times(checkup: Checkup) -> Iterator[str]:
    rows = []
    epochs = f"{checkup.run.epochs:g} epoch{'' if checkup.run.epochs == 1 else 's'}"
    for name, time in (
        (f"training, {epochs}", checkup.training_time),
        ("judging once", checkup.judging_time),
    ):
        rows.append(
            [
                name,
                f"{time.tokens / 1e6:,.2f} M",
                f"{time.operations / 1e15:,.1f}"
                if time.operations < 1e18
                else f"{time.operations / 1e15:,.0f}",
                f"{time.tokens_second:,.0f}",
                duration(time.seconds),
            ]
        )
    yield from table(["time, about", "tokens", "PFLOP", "tokens/s", "takes"], rows)
    run, lengths, hardware = checkup.run, checkup.lengths, checkup.hardware
    where = "of usual lengths" if lengths.source == "usual" else f"of {clean(lengths.source)}"
    share = hardware.training
    yield (
        f"for {count(lengths.battles, 'battle')} {where}, {lengths.cut(run):.0%} of them cut; "
        f"{share:.0%} of a peak of {hardware.peak(run.dtype) / 1e12:,.3g} TFLOP/s "
        f"{'measured' if hardware.origin == 'measured' else 'by the data sheet'} is assumed"
    )


def _verdict(checkup: Checkup, steps: tuple[str, ...], *, auto_fit: bool) -> Iterator[str]:
    from judge.classifier.sizing.fitting import NOTHING_HELPS, verdict

    memory = checkup.training
    if steps:
        yield f"lowered: {', '.join(steps)}"
    yield verdict(memory)
    if checkup.verdict == "fits":
        if auto_fit and not steps:
            yield "nothing had to be lowered"
        return
    if checkup.ladder:
        yield "lower, in this order, each with those before it:"
        rows = [
            [step, _gib(left), "fits" if left <= 0.95 * memory.available else ""]
            for step, left in checkup.ladder
        ]
        yield from table(["option", "GiB", ""], rows)
    if checkup.fit.fits:
        if not auto_fit:
            yield f"--auto-fit takes: {', '.join(checkup.fit.steps)}"
    else:
        yield NOTHING_HELPS


def command(run: Run, hardware: Hardware) -> str:
    """The command line that trains so."""
    words = ["arena-judge", "finetune", "train", "BATTLES", "--base", run.base]
    if hardware.count > 1:
        words[:1] = ["torchrun", "--nproc-per-node", str(hardware.count), "-m", "judge"]
    words += ["--objective", run.objective] if run.objective != "preference" else []
    words += ["--form", run.form] if run.form != "pair" else []
    words += ["--max-length", str(run.max_length), "--batch-tokens", str(run.batch_tokens)]
    words += ["--no-lora"] if run.full else ["--lora", "--lora-r", str(run.lora_r)]
    if not run.full and run.lora_targets != "all-linear":
        for name in run.lora_targets:
            words += ["--lora-target", name]
    words += ["--quantize", run.quantize] if run.quantize else []
    words += ["--checkpointing"] if run.checkpointing else []
    words += ["--fsdp"] if run.fsdp else []
    words += ["--epochs", f"{run.epochs:g}"] if run.epochs != 1 else []
    words += ["--dtype", run.dtype, "-o", "judges/mine"]
    return clean(" ".join(map(shlex.quote, words)))


def _gib(size: float) -> str:
    return f"{size / _GIB:,.2f}" if abs(size) < 100 * _GIB else f"{size / _GIB:,.0f}"


def _short(number: int) -> str:
    """8.03 B, 22.7 M, 12,288."""
    for unit, name in ((10**9, "B"), (10**6, "M")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:,}"
