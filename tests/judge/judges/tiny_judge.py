"""Folders of fine-tuned judges that were never trained, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from judge.classifier.network import build
from judge.classifier.storing import save_network
from tests.finetune.tiny import tiny_model

SIAMESE: dict[str, Any] = {"form": "single", "head": "symmetric", "width": 4}
"""What makes a judge that sees each response by itself."""


def tiny_judge(place: Path, family: str, **options: Any) -> Path:
    """A judge folder `made` in `place`, beside the base model that it is of.

    Args:
        family: one of `tests.finetune.tiny.FAMILIES`.
        options: of `judge.classifier.network.build`, such as `form` and `head`.
    """
    base = str(tiny_model(family, place / "base"))
    network, tokenizer = build(base, **{"max_length": 160, "seed": 3, **options})
    with torch.no_grad():  # so that what is said hangs on the battle
        for weight in network.head.parameters():
            weight.mul_(10)
    settings = save_network(network, tokenizer, place / "made")
    (place / "made" / "judge.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return place / "made"
