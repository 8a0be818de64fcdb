"""What has to be known of a family of models: how positions count, what can be packed, which part
of a model is the text's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

# Families that are known to give the same packed: attention through transformers' interface, and
# positions from `position_ids` alone. Tested ones, and those built like them.
PACKED = frozenset(
    {
        *("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "modernbert"),
        *("llama", "mistral", "phi3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
        *("olmo2", "smollm3", "granite", "starcoder2"),
    }
)
# Families whose first position is the one after the padding token's number.
_OFFSET = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer"})
# Families that learned a vector for each position: there are no more of them than positions.
_LEARNED = frozenset({"bert", "electra", "distilbert", "mpnet", "albert", "gpt2", *_OFFSET})


def family_of(config: PretrainedConfig) -> str:
    """The model type of the part that reads text."""
    return str(text_config(config).model_type)


def text_config(config: PretrainedConfig) -> Any:
    """The configuration of the part that reads text."""
    return config.get_text_config()


def text_part(model: nn.Module) -> nn.Module:
    """The part of a model that reads text, its towers for pictures left out, and no pooler, which
    judges have no use for."""
    part: Any = getattr(model, "language_model", model)
    if getattr(part, "pooler", None) is not None:
        part.pooler = None
    return part  # type: ignore[no-any-return]


def is_causal(model: nn.Module) -> bool:
    """Whether a token sees only what comes before it."""
    said = [bool(part.is_causal) for part in model.modules() if hasattr(part, "is_causal")]
    return any(said)


def first_position(config: PretrainedConfig) -> int:
    """The number of a sequence's first position."""
    if family_of(config) not in _OFFSET:
        return 0
    padding = text_config(config).pad_token_id
    return 1 + (1 if padding is None else int(padding))


def longest(config: PretrainedConfig) -> int | None:
    """How many tokens a sequence can have at most; None where nothing but quality sets a limit."""
    if family_of(config) not in _LEARNED:
        return None
    most = getattr(text_config(config), "max_position_embeddings", None)
    return None if most is None else int(most) - first_position(config)


def turning_point(config: PretrainedConfig) -> int | None:
    """The length beyond which a model turns its positions otherwise, for all sequences that are run
    with one that long; None for none."""
    scaling = getattr(text_config(config), "rope_parameters", None) or {}
    if not isinstance(scaling, dict) or scaling.get("rope_type") not in ("longrope", "dynamic"):
        return None
    most = scaling.get("original_max_position_embeddings") or getattr(
        text_config(config), "original_max_position_embeddings", None
    )
    return int(most or text_config(config).max_position_embeddings)
