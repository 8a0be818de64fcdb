"""All that `arena-judge doctor` finds out of a model and a run, in one record.

checkup = examine(look_up("Qwen/Qwen3-8B"), run, named("RTX-3090"), usual(10_000))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from judge.classifier.families import PACKED
from judge.classifier.sizing.anatomy import Anatomy
from judge.classifier.sizing.devices import GIB, Hardware
from judge.classifier.sizing.fitting import Fit, can_share, fit_settings, fits
from judge.classifier.sizing.lengths import Lengths
from judge.classifier.sizing.memory import (
    Memory,
    judging_memory,
    kv_bytes,
    trainable,
    training_memory,
)
from judge.classifier.sizing.runs import Run
from judge.classifier.sizing.sources import Found
from judge.classifier.sizing.timing import Time, judging_time, training_time
from judge.errors import InputError

FITS, TIGHT, TOO_MUCH = "fits", "tight", "does not fit"

# What `finetune train` takes where nothing is said.
_STEP, _CPU_BATCH, _LENGTH, _RANK = 8192, 4096, 1024, 16
# Weights on disk and by the configuration may differ by this: buffers, and heads of other kinds.
_ALIKE = 0.02


@dataclass(frozen=True)
class Checkup:
    """What was found out.

    Attributes:
        found: the model.
        run: what is wanted.
        hardware: what there is.
        lengths: the battles.
        training, judging: memory of each device.
        training_time, judging_time: of all epochs, and of judging the battles once.
        fit: what to lower, where it does not fit; else the run itself.
        ladder: what to lower in which order, each with all before it, and the bytes then.
        notes: what to know besides.
    """

    found: Found
    run: Run
    hardware: Hardware
    lengths: Lengths
    training: Memory
    judging: Memory
    training_time: Time
    judging_time: Time
    fit: Fit
    ladder: tuple[tuple[str, float], ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """`fits`, `tight` (with next to nothing to spare) or `does not fit`."""
        if fits(self.training):
            return FITS
        return TIGHT if self.training.fits else TOO_MUCH

    @property
    def packed(self) -> bool:
        """Whether sequences are packed into rows without padding."""
        return self.found.anatomy.family in PACKED

    def to_dict(self) -> dict[str, Any]:
        """Everything for machines; bytes, seconds and parameters as they are."""
        anatomy, tokenizer, weights = self.found.anatomy, self.found.tokenizer, self.found.weights
        parts = asdict(anatomy)
        parts["linears"] = [asdict(one) for one in anatomy.linears]
        return {
            "model": self.found.name,
            "origin": self.found.origin,
            "family": anatomy.family,
            "anatomy": parts,
            "parameters": {
                "total": anatomy.total,
                "backbone": anatomy.backbone,
                "embeddings": anatomy.embeddings,
                "trainable": trainable(anatomy, self.run),
                "on_disk": None if weights is None else weights.parameters,
            },
            "tokenizer": {
                "fast": tokenizer.fast,
                "chat_template": tokenizer.chat,
                "special_tokens": tokenizer.tokens,
            },
            "template": template_of(self.run),
            "attention": "packed" if self.packed else "padded",
            "hardware": asdict(self.hardware),
            "run": asdict(self.run),
            "battles": self.lengths.battles,
            "cut": self.lengths.cut(self.run),
            "training": _memory(self.training) | _time(self.training_time),
            "judging": _memory(self.judging) | _time(self.judging_time),
            "kv_bytes_token": kv_bytes(anatomy, self.run.size) if anatomy.causal else None,
            "verdict": self.verdict,
            "lower": [{"option": step, "bytes": left} for step, left in self.ladder],
            "auto_fit": {
                "fits": self.fit.fits,
                "steps": list(self.fit.steps),
                "bytes": self.fit.memory.total,
                "settings": self.fit.settings(),
            },
            "notes": list(self.notes),
        }


def _memory(memory: Memory) -> dict[str, Any]:
    return {
        "parts": memory.parts,
        "bytes": memory.total,
        "available": memory.available,
        "spare": memory.spare,
        "fits": memory.fits,
    }


def _time(time: Time) -> dict[str, Any]:
    return {
        "seconds": time.seconds,
        "tokens": time.tokens,
        "operations": time.operations,
        "tokens_second": time.tokens_second,
    }


def default_run(found: Found, hardware: Hardware, **said: Any) -> Run:
    """The run that `finetune train` would make of what is said, None for what is not.

    Raises:
        InputError: what is said cannot be, or not with this model.
    """
    anatomy = found.anatomy
    values = {name: value for name, value in said.items() if value is not None}
    most = anatomy.most
    judge = found.judge or {}
    length = judge.get("max_length")
    values.setdefault(
        "max_length", length if isinstance(length, int) else min(most or _LENGTH, _LENGTH)
    )
    if judge.get("form") in ("pair", "single"):
        values.setdefault("form", judge["form"])
    values.setdefault("lora_r", _RANK if anatomy.causal else 0)
    values.setdefault("dtype", hardware.dtype(training=True))
    values.setdefault("batch_tokens", _STEP if hardware.cuda else _CPU_BATCH)
    run = Run(base=found.name, **values)
    if most is not None and run.max_length > most:
        raise InputError(
            f"reads {most} tokens at most, and --max-length is {run.max_length}",
            file=found.name,
            mend=f"lower it to {most}",
        )
    if run.objective == "votes" and not anatomy.causal:
        raise InputError(
            f"{anatomy.family} writes no ballots, as the objective votes wants",
            file=found.name,
            mend="take a causal model, or the objective preference",
        )
    anatomy.adapted(run.lora_targets)
    return run


def template_of(run: Run) -> str:
    """Which template battles are written in by default."""
    if run.objective == "votes":
        return "the model's chat template"
    return "single" if run.form == "single" else "a-then-b"


def examine(found: Found, run: Run, hardware: Hardware, lengths: Lengths) -> Checkup:
    """Finds out what a run takes of a model, and what to lower."""
    anatomy = found.anatomy
    judging_run = replace(
        run, dtype=hardware.dtype(training=False), lora_r=run.lora_r if run.quantize else 0
    )
    training = training_memory(anatomy, run, hardware)
    judging = judging_memory(anatomy, judging_run, hardware)
    fit = fit_settings(anatomy, run, hardware)
    return Checkup(
        found=found,
        run=run,
        hardware=hardware,
        lengths=lengths,
        training=training,
        judging=judging,
        training_time=training_time(anatomy, run, hardware, lengths),
        judging_time=judging_time(anatomy, judging_run, hardware, lengths),
        fit=fit,
        ladder=() if fits(training) else tuple(_ladder(anatomy, run, hardware)),
        notes=(*_notes(found, run, hardware), *_of_judging(anatomy, judging_run, hardware)),
    )


def _of_judging(anatomy: Anatomy, run: Run, hardware: Hardware) -> Iterator[str]:
    """What to know where a judge that is trained so does not fit a device whole."""
    if judging_memory(anatomy, run, hardware).fits:
        return
    for bits in ("8bit", "4bit"):
        held = judging_memory(anatomy, replace(run, quantize=bits, lora_r=16), hardware)
        if held.fits and hardware.cuda:
            yield (
                f"judging does not fit {hardware.name} with whole weights; in {bits} it takes "
                f"{held.total / GIB:.1f} GiB"
            )
            return
    yield f"judging does not fit {hardware.name}, where each device holds the whole model"


def _ladder(anatomy: Anatomy, run: Run, hardware: Hardware) -> Iterator[tuple[str, float]]:
    """What can be lowered, in order, each with all before it."""
    together = 2 if run.form == "single" else 1

    def rung(option: str) -> tuple[str, float]:
        return option, training_memory(anatomy, run, hardware).total

    if run.batch_tokens > together * run.max_length:
        run = replace(run, batch_tokens=together * run.max_length)
        yield rung(f"--batch-tokens {run.batch_tokens}")
    if not run.checkpointing:
        run = replace(run, checkpointing=True)
        yield rung("--checkpointing")
    if run.max_length > 512:
        run = replace(run, max_length=512, batch_tokens=together * 512)
        yield rung("--max-length 512")
    if hardware.count > 1 and can_share(run):
        yield "--fsdp", training_memory(anatomy, replace(run, fsdp=True), hardware).total
    if hardware.cuda and not run.full:
        for quantize in ("8bit", "4bit"):
            if run.quantize != quantize and run.quantize != "4bit":
                run = replace(run, quantize=quantize)
                yield rung(f"--quantize {quantize}")
    if run.full:
        run = replace(run, lora_r=_RANK)
        yield rung(f"--lora --lora-r {_RANK}")
    if run.lora_r > 4:
        run = replace(run, lora_r=4)
        yield rung("--lora-r 4")


def _notes(found: Found, run: Run, hardware: Hardware) -> Iterator[str]:
    """What a user has to know besides the numbers."""
    anatomy, tokenizer = found.anatomy, found.tokenizer
    if found.origin == "table":
        yield "its configuration is that of the table of known models; its files are not here"
    if anatomy.counted == "weights":
        yield (
            f"the family {anatomy.family} is not known: parameters are counted from the headers of "
            "the weights, and memory and time are rougher"
        )
    if found.weights is not None and found.quantized is None:
        apart = _apart(anatomy, found.weights.text)
        if apart:
            yield apart
    if found.quantized is not None:
        yield f"its weights are held in {found.quantized} already; take the model as it was before"
    if tokenizer.fast is False:
        yield "it has no tokenizer.json: training needs a fast tokenizer; save one with the model"
    if tokenizer.fast is None and found.folder is not None:
        yield "there are no files of a tokenizer beside it"
    if run.objective == "votes" and tokenizer.chat is False:
        yield "it has no chat template, which the objective votes needs; take the model that chats"
    if anatomy.context is not None and run.max_length > anatomy.context:
        yield f"it was made for {anatomy.context} tokens, and --max-length is {run.max_length}"
    if run.quantize is not None and not hardware.cuda:
        yield f"{run.quantize} needs a GPU that bitsandbytes knows"
    if anatomy.softcap and hardware.cuda:
        yield "its scores are capped: with flash-attn installed they take less than is said here"
    if hardware.origin == "found" and hardware.cuda and hardware.half < 61e12:
        yield f"how fast {hardware.name} is is not known: times are for a slow GPU"


def _apart(anatomy: Anatomy, found: int) -> str | None:
    """What is said where weights and configuration do not tell of the same model."""
    # Heads of other kinds and poolers may be there or not, and tied weights twice.
    least, most = anatomy.backbone, anatomy.total + anatomy.vocabulary * anatomy.hidden
    if least * (1 - _ALIKE) <= found <= most * (1 + _ALIKE) + anatomy.hidden**2:
        return None
    return (
        f"the weights hold {found:,} parameters and the configuration makes {anatomy.total:,}: "
        "they are of different models, or part of the weights is missing"
    )
