"""A process of its own that trains a model of a family for two steps and says what it held at most.

python training_step.py FAMILY LORA_RANK CHECKPOINTING SEQUENCES LENGTH SETTINGS
"""

from __future__ import annotations

import json
import resource
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "finetune"))

import numpy as np
import tiny
import torch
from transformers import AutoModel

from judge.classifier import families
from judge.classifier.attention import register
from judge.classifier.heads import make_head
from judge.classifier.network import Network
from judge.classifier.shape import Shape


def main() -> None:
    family, rank, checkpointing, count, length = sys.argv[1], *map(int, sys.argv[2:6])
    config = tiny.tiny_config(family, **json.loads(sys.argv[6]))
    if family in tiny.PACKED:
        config._attn_implementation = register()
    if rank and find_spec("bitsandbytes"):
        # peft imports it where it can, and a library is no part of a step.
        import_module("bitsandbytes")
    before = peak()
    backbone = families.text_part(AutoModel.from_config(config))
    if rank:
        from peft import LoraConfig, get_peft_model

        backbone = get_peft_model(backbone, LoraConfig(r=rank, target_modules="all-linear"))
    shape = Shape(
        base="here",
        family=family,
        form="pair",
        head="plain",
        pooling="last" if family in tiny.CAUSAL else "mean",
        template="a-then-b@1",
        max_length=length,
        policy="proportional",
    )
    head = make_head("plain", config.hidden_size)
    network = Network(shape, backbone, head, packed=family in tiny.PACKED).train()
    network.checkpoint(bool(checkpointing))
    learning = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learning, fused=True)
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, config.vocab_size, length) for _ in range(count)]
    for _ in range(2):
        network(ids).square().sum().backward()
        optimizer.step()
    print(json.dumps({"bytes": peak() - before, "config": json.loads(config.to_json_string())}))


def peak() -> int:
    """The most bytes that this process has held."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What `resource` says may be the most that the process which started this one has held.
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main()
