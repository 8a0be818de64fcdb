"""Judge folders of one base, made in no time: adapters and heads are drawn, not trained."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from finetune.runs.lora import adapted
from finetune.settings.config import LoraConfig
from judge.classifier.network import build
from judge.classifier.storing import save_network
from tests.finetune.tiny import tiny_model


def base_model(folder: Path, family: str = "llama") -> Path:
    """The model that judges begin as."""
    return tiny_model(family, folder)


def drawn_judge(
    base: Path,
    folder: Path,
    seed: int,
    *,
    lora: LoraConfig | None = None,
    whole: bool = False,
    start: int = 0,
    **more: Any,
) -> Path:
    """A judge folder whose adapter (or, `whole`, all of its weights) hangs on a seed.

    Args:
        base: the folder of the model.
        folder: the judge's.
        seed: of what it is said to have learned.
        lora: of the adapter.
        whole: all weights, and no adapter.
        start: the seed of what it began with.
        more: of its judge.yaml.
    """
    network, tokenizer = build(str(base), max_length=64, seed=start)
    if not whole:
        network.backbone = adapted(network.backbone, lora or LoraConfig(r=4, alpha=8), seed=start)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if whole or "lora_" in name or name.startswith("head."):
                weight.add_(torch.randn_like(weight) * (0.02 if whole else 0.05))
    folder.mkdir(parents=True)
    settings = save_network(network, tokenizer, folder) | more
    (folder / "judge.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def drawn_folds(base: Path, folder: Path, losses: Sequence[float] = (1.0, 1.1, 1.2)) -> Path:
    """A folder of fold-0, fold-1, ... as `finetune teach` leaves it."""
    for fold, loss in enumerate(losses):
        measured = {f"fold {fold}": {"battles": 9, "log_loss": loss}, "dev": {"log_loss": 9.0}}
        about: dict[str, Any] = {"fold": fold, "folds": "f00d", "measured": measured}
        drawn_judge(base, folder / f"fold-{fold}", fold, **about)
    return folder


def copied(folder: Path, target: Path) -> Path:
    """The same judge again, beside it."""
    return Path(shutil.copytree(folder, target))
