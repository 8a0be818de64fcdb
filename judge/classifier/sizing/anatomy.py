"""What a transformer is made of, worked out from its configuration: no weights, no torch.

anatomy = anatomy_of(json.loads((folder / "config.json").read_text()))
anatomy.total        # parameters, as published
anatomy.backbone     # those that a judge uses: no vocabulary's head, no pooler
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from judge.errors import InputError


@dataclass(frozen=True)
class Linear:
    """A linear layer, of which every block has one.

    Attributes:
        name: its own, such as `q_proj`, or with its parent's where two would be called alike.
        inputs, outputs: how wide.
        bias: whether it has one.
    """

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class Anatomy:
    """What a transformer is made of.

    Attributes:
        family: the model type of the part that reads text.
        causal: whether a token sees only what comes before it.
        layers, hidden, inner, heads, kv_heads, head_dim, vocabulary: its measures; `inner` is the
            width of the feed-forward part.
        context: the most tokens it was made for; None where it is not said.
        linears: the linear layers of one block.
        gated: whether the feed-forward part multiplies two halves.
        norms: normalisations of a block over the hidden width.
        embeddings: parameters of all embeddings.
        rest: parameters of norms and of what every block has not.
        lm_head: parameters of a vocabulary's head of its own; 0 where it is tied, or there is none.
        pooler: parameters of a pooler that judges do without.
        tied: whether the vocabulary's head is the embeddings.
        softcap: whether attention scores are capped, which common kernels cannot do.
        relative: whether attention scores have parts for relative positions (DeBERTa).
        positions: how many relative positions there are, 0 for none.
        dropout: whether the model trains with dropout.
        window: how far layers with sliding windows see; None where all see everything.
        counted: where the numbers come from: `config`, or `weights` for families not known here.
    """

    family: str
    causal: bool
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int | None
    linears: tuple[Linear, ...]
    gated: bool
    norms: int
    embeddings: int
    rest: int
    lm_head: int = 0
    pooler: int = 0
    tied: bool = False
    softcap: bool = False
    relative: bool = False
    positions: int = 0
    dropout: bool = False
    window: int | None = None
    counted: str = "config"

    @property
    def block(self) -> int:
        """Parameters of the linear layers of one block."""
        return sum(linear.parameters for linear in self.linears)

    @property
    def linear(self) -> int:
        """Parameters of all blocks' linear layers."""
        return self.layers * self.block

    @property
    def multiplied(self) -> int:
        """Weights that each token is multiplied with."""
        return self.layers * sum(one.inputs * one.outputs for one in self.linears)

    @property
    def backbone(self) -> int:
        """Parameters that a judge uses."""
        return self.embeddings + self.linear + self.rest

    @property
    def most(self) -> int | None:
        """How many tokens a sequence can have, where each position has a vector of its own."""
        learned = not (self.causal or self.relative or self.family in ("modernbert", "deberta-v2"))
        return self.context if learned and self.counted == "config" else None

    @property
    def total(self) -> int:
        """Parameters as published."""
        return self.backbone + self.lm_head + self.pooler

    def adapted(self, targets: str | tuple[str, ...] = "all-linear") -> tuple[Linear, ...]:
        """The linear layers of a block that adapters go to.

        Args:
            targets: the ends of their names, or `all-linear`.

        Raises:
            InputError: there is none of a name.
        """
        if targets == "all-linear":
            return self.linears
        names = (targets,) if isinstance(targets, str) else tuple(targets)
        for name in names:
            if not any(_ends(one.name, name) for one in self.linears):
                known = ", ".join(one.name for one in self.linears)
                raise InputError(f"{self.family} has no layer {name!r}", mend=f"it has {known}")
        return tuple(one for one in self.linears if any(_ends(one.name, end) for end in names))

    def lora(self, r: int, targets: str | tuple[str, ...] = "all-linear") -> int:
        """Parameters of adapters of rank `r`: r (inputs + outputs) for each layer (Hu et al. 2021,
        section 4.1)."""
        each = sum(one.inputs + one.outputs for one in self.adapted(targets))
        return self.layers * r * each


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith("." + end) or end.endswith("." + name)


DECODERS = (
    *("llama", "granite", "smollm3", "mistral", "phi3", "gemma", "gemma2", "gemma3_text"),
    *("qwen2", "qwen3"),
)
ENCODERS = (
    *("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "modernbert"),
    "deberta-v2",
)
FAMILIES = (*DECODERS, *ENCODERS)
"""Families whose parameters are counted from the configuration alone."""

_FILE = "defaults.yaml"
# Names that some configurations have for the same.
_ALIASES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
}
_MOST = 10**9


def text_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that is about text."""
    inner = config.get("text_config")
    if isinstance(inner, Mapping):
        kind = str(config.get("model_type"))
        return {"model_type": f"{kind}_text", **inner}
    return dict(config)


def family_of(config: Mapping[str, Any]) -> str:
    """The model type of the part that reads text.

    Raises:
        InputError: it is not said.
    """
    family = text_settings(config).get("model_type")
    if not isinstance(family, str) or not family:
        raise InputError("does not say its model_type")
    return family


def anatomy_of(config: Mapping[str, Any]) -> Anatomy:
    """What the model of a configuration is made of.

    Raises:
        InputError: its family is not known here, or its numbers cannot be.
    """
    family = family_of(config)
    if family not in FAMILIES:
        raise InputError(f"the family {family} is not known")
    said = {key: value for key, value in text_settings(config).items() if value is not None}
    settings = {**_defaults()[family], **said}
    if family == "distilbert":  # elsewhere these names mean other things
        settings |= {usual: settings[own] for own, usual in _ALIASES.items()}
    try:
        return (_decoder if family in DECODERS else _encoder)(family, settings)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise InputError(f"has a configuration that cannot be ({error})") from None


@cache
def _defaults() -> dict[str, dict[str, Any]]:
    """What a configuration need not say, by family."""
    import yaml

    text = (resources.files(__package__) / _FILE).read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


def _whole(settings: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = settings[name] if default is None else settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError(f"{name} is {value!r}")
    return value


def _measures(settings: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """Hidden width, inner width, layers, heads, vocabulary."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    values = [_whole(settings, name) for name in (*names, "vocab_size")]
    if min(values) < 1:
        raise ValueError("a measure is nought")
    hidden, inner, layers, heads, vocabulary = values
    return hidden, inner, layers, heads, vocabulary


def _decoder(family: str, s: Mapping[str, Any]) -> Anatomy:
    h, f, layers, heads, vocabulary = _measures(s)
    kv_heads = _whole(s, "num_key_value_heads", heads)
    dim = _whole(s, "head_dim", h // heads)
    q, kv = heads * dim, kv_heads * dim
    bias = bool(s.get("attention_bias", False))
    mlp_bias = bool(s.get("mlp_bias", False))
    if family == "phi3":
        linears: tuple[Linear, ...] = (
            Linear("qkv_proj", h, q + 2 * kv),
            Linear("o_proj", q, h),
            Linear("gate_up_proj", h, 2 * f),
            Linear("down_proj", f, h),
        )
    else:
        inputs = bias or family == "qwen2"
        linears = (
            Linear("q_proj", h, q, inputs),
            Linear("k_proj", h, kv, inputs),
            Linear("v_proj", h, kv, inputs),
            Linear("o_proj", q, h, bias),
            Linear("gate_proj", h, f, mlp_bias),
            Linear("up_proj", h, f, mlp_bias),
            Linear("down_proj", f, h, mlp_bias),
        )
    norms = 4 if family in ("gemma2", "gemma3_text") else 2
    inside = 2 * dim if family in ("qwen3", "gemma3_text") else 0
    tied = bool(s["tie_word_embeddings"])
    window = s.get("sliding_window") if _slides(family, s) else None
    return Anatomy(
        family=family,
        causal=True,
        layers=layers,
        hidden=h,
        inner=f,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        vocabulary=vocabulary,
        context=_whole(s, "max_position_embeddings"),
        linears=linears,
        gated=True,
        norms=norms,
        embeddings=vocabulary * h,
        rest=layers * (norms * h + inside) + h,
        lm_head=0 if tied else vocabulary * h,
        tied=tied,
        softcap=family == "gemma2" and bool(s.get("attn_logit_softcapping")),
        window=window if isinstance(window, int) else None,
    )


def _slides(family: str, s: Mapping[str, Any]) -> bool:
    return bool(s.get("use_sliding_window", not family.startswith("qwen")))


def _encoder(family: str, s: Mapping[str, Any]) -> Anatomy:
    h, f, layers, heads, vocabulary = _measures(s)
    build = _modernbert if family == "modernbert" else _bert
    linears, embeddings, rest, pooler = build(family, s)
    return Anatomy(
        family=family,
        causal=False,
        layers=layers,
        hidden=h,
        inner=f,
        heads=heads,
        kv_heads=heads,
        head_dim=h // heads,
        vocabulary=vocabulary,
        context=_whole(s, "max_position_embeddings") - _offset(family, s),
        linears=linears,
        gated=family == "modernbert",
        norms=2,
        embeddings=embeddings,
        rest=rest,
        pooler=pooler,
        tied=True,
        relative=family == "deberta-v2" and bool(s.get("relative_attention")),
        positions=_relative(s) if family == "deberta-v2" else 0,
        dropout=float(s.get("hidden_dropout_prob", 0.0)) > 0,
        window=_whole(s, "local_attention") if family == "modernbert" else None,
    )


def _offset(family: str, s: Mapping[str, Any]) -> int:
    """Positions that are no sequence's: those up to the padding's (RoBERTa)."""
    if family not in ("roberta", "xlm-roberta", "camembert"):
        return 0
    return 1 + _whole(s, "pad_token_id", 1)


Parts = tuple[tuple[Linear, ...], int, int, int]


def _modernbert(family: str, s: Mapping[str, Any]) -> Parts:
    h, f, layers, _, vocabulary = _measures(s)
    attention, mlp = bool(s.get("attention_bias", False)), bool(s.get("mlp_bias", False))
    norm = h * (2 if s.get("norm_bias", False) else 1)
    linears = (
        Linear("attn.Wqkv", h, 3 * h, attention),
        Linear("attn.Wo", h, h, attention),
        Linear("mlp.Wi", h, 2 * f, mlp),
        Linear("mlp.Wo", f, h, mlp),
    )
    # The first block's attention has no norm: the embeddings' is there; and there is a last one.
    return linears, vocabulary * h, norm * (2 * layers + 1), 0


_BERT_NAMES = {
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    "deberta-v2": (
        *("query_proj", "key_proj", "value_proj"),
        *("attention.output.dense", "intermediate.dense", "output.dense"),
    ),
}
_BERT = (
    *("query", "key", "value"),
    *("attention.output.dense", "intermediate.dense", "output.dense"),
)


def _bert(family: str, s: Mapping[str, Any]) -> Parts:
    h, f, layers, _, vocabulary = _measures(s)
    narrow = _whole(s, "embedding_size", h) if family in ("electra", "deberta-v2") else h
    positions = _whole(s, "max_position_embeddings")
    types = 0 if family == "distilbert" else _whole(s, "type_vocab_size")
    learned = family != "deberta-v2" or bool(s.get("position_biased_input", True))
    embeddings = narrow * (vocabulary + types + (positions if learned else 0))
    widths = ((h, h), (h, h), (h, h), (h, h), (h, f), (f, h))
    names = _BERT_NAMES.get(family, _BERT)
    linears = [Linear(n, i, o, True) for n, (i, o) in zip(names, widths, strict=True)]
    rest = layers * 4 * h
    # What makes the embeddings as wide as the rest, and their norm.
    if family == "deberta-v2":
        rest += 2 * h + (narrow * h if narrow != h else 0)
        more, extra = _disentangled(s, h)
        linears += more
        embeddings += extra[0]
        rest += extra[1]
    else:
        rest += 2 * narrow + (narrow * h + h if narrow != h else 0)
    pooled = family in ("bert", "roberta", "xlm-roberta", "camembert")
    return tuple(linears), embeddings, rest, h * h + h if pooled else 0


def _relative(s: Mapping[str, Any]) -> int:
    """How many relative positions DeBERTa has embeddings for."""
    if not s.get("relative_attention"):
        return 0
    buckets, reach = int(s.get("position_buckets", -1)), int(s.get("max_relative_positions", -1))
    if buckets > 0:
        return 2 * buckets
    return 2 * (reach if reach > 0 else _whole(s, "max_position_embeddings"))


def _disentangled(s: Mapping[str, Any], h: int) -> tuple[list[Linear], tuple[int, int]]:
    """DeBERTa's own: layers for positions, their embeddings, and other parameters."""
    linears, embeddings, rest = [], 0, 0
    kinds = s.get("pos_att_type") or []
    kinds = kinds.split("|") if isinstance(kinds, str) else list(kinds)
    if s.get("relative_attention"):
        if not s.get("share_att_key"):
            linears += [Linear("pos_key_proj", h, h, True)] if "c2p" in kinds else []
            linears += [Linear("pos_query_proj", h, h, True)] if "p2c" in kinds else []
        embeddings = _relative(s) * h
    if "layer_norm" in str(s.get("norm_rel_ebd", "none")):
        rest += 2 * h
    kernel = int(s.get("conv_kernel_size", 0))
    if kernel > 0:
        rest += kernel * h * h // int(s.get("conv_groups", 1)) + h + 2 * h
    return linears, (embeddings, rest)
