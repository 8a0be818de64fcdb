"""A network that judges: a transformer, what it makes of a text, and a head.

    network, tokenizer = build("microsoft/Phi-3-mini-4k-instruct", form="pair", head="plain")
    logits = network(ids)            # ids: sequences of tokens, as long as they are

Where the family's attention allows, sequences are packed into one row without padding
(`judge.classifier.packing`); elsewhere they are padded to the longest among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from judge.classifier import families
from judge.classifier.heads import conclude, make_head
from judge.classifier.loading import load_backbone, load_tokenizer
from judge.classifier.packing import Ids, Packed, pack
from judge.classifier.shape import Shape
from judge.classifier.templates import load_template
from judge.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from judge.classifier.narrowing import Rows

__all__ = ["Network", "Shape", "build"]


class Network(nn.Module):
    """What reads sequences and gives logits.

    Args:
        shape: what it is.
        backbone: the transformer without a head of its own, perhaps with adapters.
        head: from states to logits, in float32 whatever the backbone computes in.
        packed: whether the backbone was made for packed rows.

    Attributes:
        causal: whether a token sees only what comes before it.
        rows: see `judge.classifier.narrowing`; None where all tokens are worked through.
        multiple: of how many tokens what is worked through at once is filled up to.
    """

    def __init__(self, shape: Shape, backbone: nn.Module, head: nn.Module, *, packed: bool) -> None:
        super().__init__()
        self.shape, self.backbone, self.head, self.packed = shape, backbone, head, packed
        self.causal = families.is_causal(backbone)
        self.rows: Rows | None = None
        self.multiple = 1
        config = self._config
        self._first = families.first_position(config)
        self._padding = families.text_config(config).pad_token_id or 0
        most = self.longest
        if most is not None and shape.max_length > most:
            raise InputError(
                f"{shape.base} reads {most} tokens at most, and max_length is {shape.max_length}",
                mend=f"lower max_length to {most}",
            )

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.backbone.parameters()).device

    @property
    def turning_point(self) -> int | None:
        """See `judge.classifier.families.turning_point`."""
        return families.turning_point(self._config)

    @property
    def longest(self) -> int | None:
        """See `judge.classifier.families.longest`."""
        return families.longest(self._config)

    @property
    def shares(self) -> bool:
        """Whether siblings' common beginning can be worked through once."""
        return self.packed and self.causal and self.shape.pooling == "last"

    def forward(self, ids: Ids | Packed, shared: Sequence[int] | None = None) -> Tensor:
        """Logits of sequences.

        Args:
            ids: the sequences, siblings side by side where the head concludes from two.
            shared: see `judge.classifier.packing.pack`; left aside where nothing can be shared.

        Returns:
            (S, 3) logits of A, B and tie as shown, or (S / 2, 3) from a symmetric head.
        """
        return self.conclude(self.states(ids, shared))

    def states(self, ids: Ids | Packed, shared: Sequence[int] | None = None) -> Tensor:
        """(S, hidden) float32: what the network makes of each sequence."""
        if not self.packed:
            if isinstance(ids, Packed):
                raise ValueError("this network pads: give it sequences")
            return self._padded(ids)
        if not isinstance(ids, Packed):
            return self._filled(ids, shared if self.shares else None)
        if ids.shares and not self.shares:
            raise ValueError("beginnings are shared by causal networks only")
        return self._packed(ids)

    def conclude(self, states: Tensor) -> Tensor:
        """The head's logits of states, those of siblings side by side."""
        return conclude(self.head, states, self.shape.sequences)

    def checkpoint(self, on: bool = True) -> None:
        """Has layers worked through again in the backward pass, for less memory in training."""
        model: Any = self.bare
        # Older versions of transformers call it gradient checkpointing.
        new = hasattr(model, "activation_checkpointing_enable")
        kind = "activation" if new else "gradient"
        if not on:
            getattr(model, f"{kind}_checkpointing_disable")()
            return
        if not model.supports_gradient_checkpointing:
            raise InputError(
                f"{self.shape.family} knows no gradient checkpointing", mend="leave it out"
            )
        getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})

    def with_shape(self, **changes: Any) -> None:
        """Changes what the shape says, such as `max_length`."""
        self.shape = replace(self.shape, **changes)

    @property
    def bare(self) -> nn.Module:
        """The backbone without the wrapping that adapters bring."""
        inner = getattr(self.backbone, "get_base_model", None)
        return self.backbone if inner is None else cast(nn.Module, inner())

    @property
    def _config(self) -> PretrainedConfig:
        return cast("PreTrainedModel", self.backbone).config

    def _filled(self, ids: Ids, shared: Sequence[int] | None) -> Tensor:
        """The states of sequences in one row, with another sequence at its end that fills it up."""
        packed = pack(ids, shared=shared, device=self.device)
        missing = -packed.tokens % self.multiple
        if not missing:
            return self._packed(packed)
        rows = [torch.as_tensor(one) for one in ids]
        filler = rows[0].new_full((missing,), self._padding)
        full = pack([*rows, filler], shared=shared, device=self.device)
        return self._packed(full)[: len(ids)]

    def _packed(self, packed: Packed) -> Tensor:
        looked_at = None
        if self.shape.pooling != "mean":
            looked_at = packed.last() if self.shape.pooling == "last" else packed.first()
        rows = None if self.training else self.rows
        with nullcontext() if rows is None else rows.only(looked_at):
            output = self.backbone(
                input_ids=packed.ids[None],
                position_ids=packed.positions[None] + self._first,
                layout=packed.layout,
                **self._options,
            )
        hidden = output.last_hidden_state[0]
        if looked_at is not None:
            return cast(Tensor, hidden[looked_at].float())
        lengths = torch.tensor(packed.layout.lengths, device=hidden.device)
        return torch.segment_reduce(hidden.float(), "mean", lengths=lengths, unsafe=True)

    def _padded(self, ids: Ids) -> Tensor:
        rows = [torch.as_tensor(one).to(self.device, torch.int64) for one in ids]
        if not rows or min(map(len, rows)) == 0:
            raise ValueError("no sequences, or one without a token")
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._padding)
        missing = -tokens.shape[1] % self.multiple
        tokens = nn.functional.pad(tokens, (0, missing), value=self._padding)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(tokens.shape[1], device=self.device)[None] < lengths[:, None]
        output = self.backbone(
            input_ids=tokens, attention_mask=mask.to(torch.int64), **self._options
        )
        hidden = output.last_hidden_state
        if self.shape.pooling == "last":
            return cast(Tensor, hidden[torch.arange(len(rows)), lengths - 1].float())
        if self.shape.pooling == "cls":
            return cast(Tensor, hidden[:, 0].float())
        summed = hidden.float().masked_fill(~mask[..., None], 0.0).sum(1)
        return cast(Tensor, summed / lengths[:, None])

    @cached_property
    def _options(self) -> dict[str, Any]:
        """What every call is told: nothing is kept of it for another one."""
        takes = "use_cache" in signature(self.bare.forward).parameters
        return {"use_cache": False} if takes else {}


def build(
    base: str,
    *,
    form: str = "pair",
    head: str = "plain",
    pooling: str | None = None,
    template: str | None = None,
    max_length: int | None = None,
    policy: str = "proportional",
    dropout: float = 0.0,
    width: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    attention: str = "auto",
    quantize: str | None = None,
    seed: int = 0,
) -> tuple[Network, PreTrainedTokenizerBase]:
    """A network with a new head, and its tokenizer.

    Args:
        base: a folder, or a name on the hub.
        form, head, pooling, template, max_length, policy, dropout, width: see
            `judge.classifier.shape.Shape`; by default causal models pool the last token and others
            the mean, templates are `single` or `a-then-b`, and lengths are 1024 tokens or what the
            model can read.
        dtype: of the backbone's weights.
        attention: `packed`, `padded`, or `auto`, which packs the families that are known to allow
            it.
        quantize: `8bit` or `4bit` through bitsandbytes.
        seed: of the head's first weights.

    Raises:
        ArenaJudgeError: the base cannot be had or used so.
    """
    tokenizer = load_tokenizer(base)
    backbone, packed = load_backbone(
        base, dtype=dtype, device=device, attention=attention, quantize=quantize
    )
    config = backbone.config
    if pooling is None:
        pooling = "last" if families.is_causal(backbone) else "mean"
    if max_length is None:
        max_length = min(families.longest(config) or 1024, 1024)
    shape = Shape(
        base=base,
        family=families.family_of(config),
        form=form,
        head=head,
        pooling=pooling,
        template=load_template(template or ("single" if form == "single" else "a-then-b")).spec,
        max_length=max_length,
        policy=policy,
        dropout=dropout,
        width=width,
    )
    hidden = int(families.text_config(config).hidden_size)
    made = make_head(head, hidden, width=width, dropout=dropout, seed=seed).to(device)
    return Network(shape, backbone, made, packed=packed), tokenizer
