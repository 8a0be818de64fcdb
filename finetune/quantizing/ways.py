"""The ways to fewer bits: our own arithmetic (`finetune.quantizing.rounding`), or bitsandbytes.

Either looks at a model that was loaded, and says how it is to be written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.quantizing.loading import Loaded
from finetune.quantizing.settings import Settings
from finetune.quantizing.writing import save_model
from judge.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from finetune.quantizing.rounding import Finished, Way


@dataclass(frozen=True)
class Done:
    """A model in few bits that is yet to be written.

    Attributes:
        how, scheme: see `finetune.quantizing.settings.Quantized`.
        layers, kept: how many linear modules are in few bits, and as they were.
        save: writes the model and its tokenizer into a folder.
        calibrated: whether texts were looked at.
        finished: what lies beside the target meanwhile.
    """

    how: str
    scheme: str
    layers: int
    kept: int
    save: Callable[[Path], None]
    calibrated: bool
    finished: Finished | None = None


def rounded(loaded: Loaded, way: Way, target: Path, tick: Callable[[int, int], None]) -> Done:
    """The layers of a model, rounded by our own arithmetic."""
    from finetune.quantizing.rounding import (
        ENDING,
        Finished,
        layers_of,
        linear_names,
        round_layers,
        run_of,
    )

    batches = _batched(loaded)
    place = target.resolve()
    run = run_of(loaded.model, batches, way)
    finished = Finished(place.with_name(place.name + ENDING), run)
    layers, done = len(layers_of(loaded.model)), 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        tick(done, layers)

    codes = round_layers(loaded.model, loaded.forward, batches, way, finished=finished, tick=told)
    kept = [name for name in linear_names(loaded.model) if name not in codes]
    how = "w8a8" if way.scheme.activations else "gptq" if way.calibrated else "nearest"

    def save(folder: Path) -> None:
        save_model(loaded.model, loaded.tokenizer, codes, way, kept, loaded.half, folder)

    return Done(how, way.scheme.words, len(codes), len(kept), save, way.calibrated, finished)


def by_library(loaded: Loaded, settings: Settings) -> Done:
    """A model as bitsandbytes keeps it: LLM.int8, or NF4. It is written before it is run, since
    running it lays out 4-bit weights anew on some processors."""
    from finetune.quantizing.rounding import linear_names
    from judge.classifier.loading import explained, library_settings, quiet

    bits = f"{settings.bits}bit"
    said = library_settings(bits, loaded.half)
    linears = len(linear_names(loaded.model))

    def save(folder: Path) -> None:
        import torch
        from transformers import AutoModel, AutoModelForCausalLM

        writes = hasattr(loaded.model, "lm_head")
        kind: Any = AutoModelForCausalLM if writes else AutoModel
        plain: Any = loaded.model
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".whole-") as whole, quiet():
            plain.to(loaded.half).save_pretrained(whole)
            # Poolers, which judges have no use for, are drawn: their bytes cannot be, on loading.
            with explained(whole, "the model"), torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                small = kind.from_pretrained(
                    whole, dtype=loaded.half, quantization_config=said, device_map={"": "cpu"}
                )
            small.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)

    scheme = "LLM.int8" if settings.bits == 8 else "NF4"
    return Done("bitsandbytes", scheme, linears, 0, save, calibrated=False)


def way_of(settings: Settings, model: nn.Module) -> Way | None:
    """How the weights are rounded; None where bitsandbytes is to do it."""
    from finetune.quantizing.rounding import Way, layers_of
    from judge.classifier.quantized import Scheme

    how = settings.how
    if how == "auto":
        try:
            layers_of(model)
            how = "gptq"
        except InputError:
            how = "bitsandbytes"
    if how == "bitsandbytes":
        return None
    scheme = Scheme(settings.bits, activations=how == "w8a8")
    group = None if scheme.activations else settings.group
    return Way(scheme, group, calibrated=how != "nearest")


def _batched(loaded: Loaded) -> list[list[Any]]:
    from finetune.quantizing.rounding import batches_of

    lengths = [len(one) for one in loaded.texts]
    places = batches_of(lengths, loaded.batch_tokens)
    return [[loaded.texts[place] for place in batch] for batch in places]
