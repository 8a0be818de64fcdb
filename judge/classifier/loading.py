"""Transformers and tokenizers, from a folder or the hub; what goes wrong in one line.

Weights are read from safetensors alone, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from judge.classifier import families
from judge.classifier.attention import register
from judge.classifier.hardware import needed
from judge.classifier.quantized import load_quantized, scheme_of
from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ATTENTIONS = ("auto", "packed", "padded")
QUANTIZED = ("8bit", "4bit")
_NO_BITS = "leave out --quantize"


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' bars and warnings to itself; what matters is said in other words."""
    from transformers.utils import logging as of_transformers

    logging: Any = of_transformers

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def explained(name: str | Path, what: str) -> Iterator[None]:
    """Says in one line why something could not be had; of what goes wrong inside transformers and
    below it, which know many kinds of errors, the first line."""
    try:
        yield
    except ArenaJudgeError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise ArenaJudgeError(
            f"{name}: there is not enough memory for {what}; see arena-judge doctor {name}"
        ) from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in reason:
            reason = "it needs code of its own, which is not run"
        short = reason if len(reason) <= 300 else f"{reason[:300]}..."
        raise InputError(f"{what} cannot be loaded ({short})", file=name) from None


def load_config(base: str) -> Any:
    """The configuration of a model.

    Raises:
        ArenaJudgeError: it cannot be had.
    """
    needed("transformers")
    from transformers import AutoConfig

    with explained(base, "the model"):
        return AutoConfig.from_pretrained(base, trust_remote_code=False)


def load_tokenizer(base: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        ArenaJudgeError: it cannot be had.
    """
    needed("transformers")
    from transformers import AutoTokenizer

    with explained(base, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(str(base), trust_remote_code=False)
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "has no fast tokenizer, which exact counts need",
            file=base,
            mend="save one with it as tokenizer.json",
        )
    return cast("PreTrainedTokenizerBase", tokenizer)


def load_backbone(
    base: str | Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    attention: str = "auto",
    quantize: str | None = None,
) -> tuple[PreTrainedModel, bool]:
    """The part of a model that reads text, on a device, and whether it packs.

    Raises:
        ArenaJudgeError: it cannot be had or used so.
    """
    config = load_config(str(base))
    packed = packs(families.family_of(config), attention)
    scheme = scheme_of(config, base)
    if scheme is not None:
        if quantize is not None:
            raise InputError(f"has weights in {scheme.bits} bits already", file=base, mend=_NO_BITS)
        with explained(base, "the model"), quiet():
            kind = register() if packed else None
            small = load_quantized(base, config, scheme, dtype=dtype, device=device, attention=kind)
        return small, packed
    kept = _kept_by_library(config)
    if kept is not None and quantize is not None:
        raise InputError(f"has weights in {kept[0]} bits already", file=base, mend=_NO_BITS)
    with explained(base, "the model"):
        from transformers import AutoModel

        options = loading_options(dtype, device, packed=packed, quantize=quantize)
        if kept is not None:
            library_settings(kept, dtype)  # says if there is none
            options["device_map"] = {"": str(device)}
            quantize = kept
        with quiet():
            model, found = AutoModel.from_pretrained(
                str(base), config=config, output_loading_info=True, **options
            )
        part = families.text_part(model)
        complete(part, found["missing_keys"], base)
    if kept is not None:
        # What the library does not keep comes in the numbers that it was written in.
        for one in part.parameters():
            if one.is_floating_point():
                one.data = one.data.to(dtype)
    if quantize is None:
        part = part.to(device)
    else:
        plain_bits(part)
    if attention == "packed" and families.family_of(config) not in families.PACKED:
        verify_packing(cast("PreTrainedModel", part), str(base))
    return cast("PreTrainedModel", part), packed


def complete(
    part: torch.nn.Module, missing: Iterable[str], name: str | Path, *, poolers: bool = False
) -> None:
    """Sees to it that all weights were there that are used, `poolers` only if they are;
    transformers draws what was not there.

    Raises:
        InputError: some were not.
    """
    known = set(part.state_dict())
    lacking = sorted(key for key in missing if any(key.endswith(one) for one in known))
    lacking = [key for key in lacking if poolers or "pooler" not in key]
    if lacking:
        raise InputError(
            f"lacks weights ({len(lacking)}, such as {lacking[0]})", file=name, mend="copy it anew"
        )


def loading_options(
    dtype: torch.dtype, device: torch.device | str, *, packed: bool, quantize: str | None
) -> dict[str, Any]:
    """What `from_pretrained` is told."""
    options: dict[str, Any] = {
        "dtype": dtype,
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    if packed:
        options["attn_implementation"] = register()
    if quantize is not None:
        options["quantization_config"] = library_settings(quantize, dtype)
        options["device_map"] = {"": str(device)}
    return options


def packs(family: str, attention: str) -> bool:
    """Whether a family is run in packed rows.

    Raises:
        InputError: no such attention.
    """
    if attention not in ATTENTIONS:
        raise InputError(
            f"{attention!r} is no attention", mend=f"it is one of {', '.join(ATTENTIONS)}"
        )
    return attention == "packed" or (attention == "auto" and family in families.PACKED)


def _kept_by_library(config: Any) -> str | None:
    """How bitsandbytes keeps the weights that a configuration is of, if it does."""
    said = getattr(config, "quantization_config", None)
    said = said if isinstance(said, Mapping) or said is None else said.to_dict()
    if said is None or said.get("quant_method") != "bitsandbytes":
        return None
    return "4bit" if said.get("load_in_4bit") else "8bit"


def library_settings(quantize: str, dtype: torch.dtype) -> Any:
    """What transformers is told, so that bitsandbytes keeps the weights.

    Raises:
        ArenaJudgeError: no such way, or the library cannot be imported.
    """
    if quantize not in QUANTIZED:
        raise InputError(
            f"{quantize!r} is no quantisation", mend=f"it is one of {', '.join(QUANTIZED)}"
        )
    # It tells of each layer in which numbers it computes.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import_module("bitsandbytes")
    except Exception as error:  # it also fails where it finds no library for the GPU's driver
        reason = " ".join(str(error).split())[:200]
        raise ArenaJudgeError(
            f"{quantize} needs bitsandbytes, which cannot be imported ({reason}); "
            "pip install bitsandbytes"
        ) from None
    from transformers import BitsAndBytesConfig

    options: dict[str, Any] = {"load_in_8bit": True}
    if quantize == "4bit":
        options = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
    made: Any = BitsAndBytesConfig
    return made(**options)


def plain_bits(model: torch.nn.Module) -> None:
    """Has 4-bit weights on a processor stay as they are. Where it has instructions for bfloat16,
    bitsandbytes lays them out anew when something is only judged; no gradient goes through them
    from then on, so that training after a look at dev battles would go wrong without a word, and
    layers whose outputs are no multiple of 32 cannot be laid out at all."""
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            cast(Any, part).support_avx512bf16_for_cpu = False


@torch.inference_mode()
def verify_packing(model: PreTrainedModel, name: str) -> None:
    """Runs two short sequences packed and apart.

    Raises:
        InputError: packed, they come out otherwise.
    """
    from judge.classifier.packing import pack

    device = next(model.parameters()).device
    first = families.first_position(model.config)
    size = int(families.text_config(model.config).vocab_size)
    rows = [torch.arange(1, n, device=device) % size for n in (7, 12)]

    def run(sequences: list[torch.Tensor]) -> torch.Tensor:
        packed = pack(sequences)
        output = model(
            input_ids=packed.ids[None],
            position_ids=packed.positions[None] + first,
            layout=packed.layout,
        )
        return cast(torch.Tensor, output.last_hidden_state[0].float())

    with explained(name, "a packed row"):
        together, apart = run(rows), torch.cat([run([row]) for row in rows])
    far = float((together - apart).abs().max() / (apart.abs().max() + 1e-6))
    if not far < (1e-4 if model.dtype == torch.float32 else 0.05):
        raise InputError(
            "gives other results when sequences are packed", file=name, mend="leave packing out"
        )
