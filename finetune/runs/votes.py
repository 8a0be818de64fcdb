"""Ballots to learn to write: the chat messages of `arena-judge synth export --format votes`.

A row is a conversation that ends with the assistant's ballot. Only the ballot is learned, packed
with others; what is asked is read. A conversation is put as vLLM will put it: the chat template's
text up to where the assistant speaks, then the ballot and what ends a turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from finetune.runs import lora
from finetune.settings.config import Config
from finetune.training.objectives import Autocast, groups_of
from finetune.training.planning import Phase
from judge.classifier import families
from judge.classifier.batching import token_batches
from judge.classifier.hardware import dtype_of
from judge.classifier.loading import (
    explained,
    load_config,
    load_tokenizer,
    loading_options,
    packs,
    plain_bits,
    quiet,
)
from judge.classifier.packing import pack
from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from finetune.training.processes import Processes

Ints = npt.NDArray[np.int64]
Message = dict[str, str]

ASSISTANT = "assistant"
_ROLES = ("system", "user", ASSISTANT)


@dataclass(frozen=True)
class Conversation:
    """A row: what is asked, the ballot last, and the battle it is about."""

    battle: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Written:
    """Conversations as ids.

    Attributes:
        ids: of each, the ballot last.
        asked: (N,) how many of them come before the ballot.
        battles: (N,) a number for each battle.
        too_long: conversations that were left out, since cut ones would ask something else.
    """

    ids: list[npt.NDArray[np.int32]]
    asked: Ints
    battles: Ints
    too_long: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Ints:
        """(N,) ids of each."""
        return np.fromiter(map(len, self.ids), dtype=np.int64, count=len(self.ids))

    def take(self, rows: Ints) -> Written:
        """Those of the chosen rows."""
        chosen = [self.ids[row] for row in rows.tolist()]
        return Written(chosen, self.asked[rows], self.battles[rows], self.too_long)


def read_conversations(file: str | Path) -> list[Conversation]:
    """The rows of a file, JSON lines or Parquet.

    Raises:
        InputError: it cannot be read, or a row is no conversation that ends with a ballot.
    """
    found = [_conversation(row, number, file) for number, row in enumerate(_rows(Path(file)), 1)]
    if not found:
        raise InputError("has no ballots", file=file)
    return found


def _rows(path: Path) -> Iterator[Any]:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                yield from pq.read_table(path).to_pylist()
            except pa.ArrowInvalid as error:
                raise InputError(f"is no Parquet ({error})", file=path) from None
            return
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield json.loads(line)
                    except (ValueError, RecursionError):
                        raise InputError("is no JSON", file=path, row=number) from None
    except FileNotFoundError:
        raise InputError("not found", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", file=path) from None


def _conversation(row: Any, number: int, file: str | Path) -> Conversation:
    mend = "make such files with: arena-judge synth export --format votes"
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or len(messages) < 2:
        raise InputError("has no messages", file=file, row=number, mend=mend)
    for one in messages:
        if (
            not isinstance(one, dict)
            or one.get("role") not in _ROLES
            or not isinstance(one.get("content"), str)
        ):
            raise InputError("has a message without role or text", file=file, row=number, mend=mend)
    if messages[-1]["role"] != ASSISTANT or not messages[-1]["content"].strip():
        raise InputError("does not end with a ballot", file=file, row=number, mend=mend)
    plain = tuple({"role": one["role"], "content": one["content"]} for one in messages)
    return Conversation(str(row.get("id", number)), plain)


def written(
    conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Written:
    """Conversations as ids.

    Raises:
        InputError: the model has no chat template, or nothing is short enough.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "the model has no chat template, so it cannot be asked for ballots",
            mend="take one that follows instructions",
        )
    numbers: dict[str, int] = {}
    ids, asked, battles, too_long = [], [], [], 0
    for one in conversations:
        before, after = _ids(one.messages, tokenizer)
        if len(before) + len(after) > max_length:
            too_long += 1
            continue
        ids.append(np.array([*before, *after], dtype=np.int32))
        asked.append(len(before))
        battles.append(numbers.setdefault(one.battle, len(numbers)))
    if not ids:
        raise InputError(f"no ballot has {max_length:,} tokens or fewer", mend="raise --max-length")
    return Written(ids, np.array(asked), np.array(battles), too_long)


def _ids(messages: Sequence[Message], tokenizer: Any) -> tuple[list[int], list[int]]:
    """What is asked, as vLLM is going to be asked it, and the ballot with what ends it."""
    from judge.engines.vllm_worker import merge_system

    def text(said: list[Message], *, asks: bool) -> str:
        put = {"tokenize": False, "add_generation_prompt": asks}
        try:
            return str(tokenizer.apply_chat_template(said, **put))
        except Exception:
            merged = merge_system(said)  # there are templates that know no system
            if merged is None:
                raise
            return str(tokenizer.apply_chat_template(merged, **put))

    with explained("the model", "its chat template"):
        question = text(list(messages[:-1]), asks=True)
        whole = text(list(messages), asks=False)
    said = messages[-1]["content"].strip()
    # What a template puts before a reply that it is shown, such as a thought of nothing, the model
    # is not let write where its reply is kept to a ballot's form.
    ends = whole[whole.rfind(said) + len(said) :].strip() if said in whole else ""
    answer = said + (ends or tokenizer.eos_token or "")
    # Special tokens are text here, as they are to vLLM.
    before = tokenizer(question, add_special_tokens=False)["input_ids"]
    return before, tokenizer(answer, add_special_tokens=False)["input_ids"]


class Ballots:
    """The loss of ballots, token by token.

    Args:
        model: a causal model, perhaps with adapters.
        packed: whether it was loaded for packed rows.
        train: to learn from.
        dev: to measure on; None for none.
        batch_tokens: at once when measuring.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Written,
        dev: Written | None = None,
        *,
        packed: bool,
        batch_tokens: int = 4096,
    ) -> None:
        self.model, self.padded = model, not packed
        self._train, self._dev, self._budget = train, dev, batch_tokens
        self._device = next(model.parameters()).device

    @property
    def lengths(self) -> Ints:
        """(N,) tokens of each conversation."""
        return self._train.lengths

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All is learned from all the time."""
        return ()

    def loss(self, rows: Ints, epoch: int) -> tuple[Tensor, float, int]:
        """The summed loss of the ballots' tokens, and how many these are."""
        return self._loss(self._train, rows)

    def weight(self, rows: Ints) -> float:
        """The ballots' tokens."""
        return float((self._train.lengths - self._train.asked)[rows].sum())

    def evaluate(self, autocast: Autocast, processes: Processes | None = None) -> float | None:
        """The mean loss of a token of the dev ballots."""
        if self._dev is None or not len(self._dev):
            return None
        groups = token_batches(self._dev.lengths, self._budget, padded=self.padded)
        mine, own = groups_of(groups, processes)
        total = weight = 0.0
        before = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                for place, rows in enumerate(mine):
                    with autocast():
                        loss, heavy, _ = self._loss(self._dev, rows)
                    if place < own:
                        total, weight = total + float(loss), weight + heavy
        finally:
            self.model.train(before)
        if processes is not None:
            total, weight = processes.sum(total, weight)
        return total / weight

    def _loss(self, of: Written, rows: Ints) -> tuple[Tensor, float, int]:
        ids = [of.ids[row] for row in rows.tolist()]
        asked = of.asked[rows].tolist()
        tokens = sum(map(len, ids))
        logits = self._padded(ids, asked) if self.padded else self._packed(ids, asked)
        said = np.concatenate([one[start:] for one, start in zip(ids, asked, strict=True)])
        targets = torch.from_numpy(said.astype(np.int64)).to(self._device)
        return cross_entropy(logits.float(), targets, reduction="sum"), float(len(said)), tokens

    def _packed(self, ids: list[npt.NDArray[np.int32]], asked: list[int]) -> Tensor:
        """The logits of each token of the ballots, made nowhere else."""
        packed = pack(ids, device=self._device)
        starts = packed.layout.starts
        places = np.concatenate(
            [
                np.arange(at + start - 1, at + len(one) - 1)
                for at, start, one in zip(starts[:-1], asked, ids, strict=True)
            ]
        )
        output = self.model(
            input_ids=packed.ids[None],
            position_ids=packed.positions[None],
            layout=packed.layout,
            use_cache=False,
            logits_to_keep=torch.from_numpy(places).to(self._device),
        )
        return cast(Tensor, output.logits[0])

    def _padded(self, ids: list[npt.NDArray[np.int32]], asked: list[int]) -> Tensor:
        rows = [torch.from_numpy(one.astype(np.int64)) for one in ids]
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self._device)
        lengths = torch.tensor([len(one) for one in ids], device=self._device)
        mask = torch.arange(tokens.shape[1], device=self._device)[None] < lengths[:, None]
        output = self.model(input_ids=tokens, attention_mask=mask.to(torch.int64), use_cache=False)
        parts = [
            output.logits[place, start - 1 : len(one) - 1]
            for place, (start, one) in enumerate(zip(asked, ids, strict=True))
        ]
        return torch.cat(parts)


@dataclass(frozen=True)
class Writer:
    """A causal model that learns to write.

    Attributes:
        base: what it began as.
        packed: whether it was loaded for packed rows.
        max_length: tokens of a conversation.
    """

    base: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    packed: bool
    max_length: int


def load_writer(config: Config, device: torch.device) -> Writer:
    """The model that a config asks for, with adapters unless all weights are to learn.

    Raises:
        ArenaJudgeError: it cannot be had, or is not causal.
    """
    base, adapter = _origin(config)
    adapts = config.lora.lora is not False
    if config.model.quantize is not None and not adapts:
        raise InputError("weights in few bits cannot be trained", mend="add --lora")
    settings = load_config(base)
    packed = packs(families.family_of(settings), config.model.attention)
    dtype = dtype_of(config.run.dtype, device, training=True) if adapts else torch.float32
    from transformers import AutoModelForCausalLM

    options = loading_options(dtype, device, packed=packed, quantize=config.model.quantize)
    with explained(base, "the model"), quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(base, **options)
    if not families.is_causal(model):
        raise InputError("is no model that writes", file=base, mend="take a causal one")
    if config.model.quantize is None:
        model = model.to(device)
    else:
        plain_bits(model)
    if config.run.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if adapter is not None:
        model = lora.adapted_from(model, adapter)
        if not adapts:
            model = model.merge_and_unload(safe_merge=True).requires_grad_(True)
    elif adapts:
        model = lora.adapted(model, config.lora, seed=config.run.seed)
    most: Any = families.longest(settings) or getattr(settings, "max_position_embeddings", 4096)
    return Writer(
        base, model, load_tokenizer(base), packed, config.model.max_length or min(int(most), 4096)
    )


def _origin(config: Config) -> tuple[str, Path | None]:
    """The base to begin with, and the adapter to go on with, if there is one.

    Raises:
        InputError: neither is named, or they do not go together.
    """
    from finetune.runs.starting import ADAPTER, JUDGE, base_of, located
    from judge.classifier.storing import ADAPTER_CONFIG

    base, init = config.model.base, config.model.init
    if init is None:
        if base is None:
            raise InputError("training begins with a model", mend="name one: --base MODEL")
        return base, None
    kind, folder = located(Path(init))
    if kind == ADAPTER or (kind == JUDGE and (folder / ADAPTER_CONFIG).is_file()):
        return base or base_of(folder), folder
    if kind == JUDGE:
        raise InputError("is a judge that says who won, and has no more of a model that writes",
                         file=folder, mend="go on from its base")  # fmt: skip
    if base is not None:
        raise InputError(
            "holds a whole model, so it is the base itself", file=folder, mend="leave out --base"
        )
    return str(folder), None


def parted(rows: Written, share: float, seed: int) -> tuple[Written, Written | None]:
    """Ballots to learn from and ballots to measure on; those of a battle stay together."""
    if not share:
        return rows, None
    from judge.folds import grouped_folds

    count = max(2, round(1 / share))
    if len(np.unique(rows.battles)) < 2:
        raise ArenaJudgeError("ballots on one battle cannot be split; add --dev-share 0")
    held = grouped_folds(rows.battles, count, seed) == 0
    return rows.take(np.flatnonzero(~held)), rows.take(np.flatnonzero(held))
