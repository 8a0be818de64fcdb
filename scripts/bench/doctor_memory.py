"""What training steps hold on this processor, beside what `arena-judge doctor` estimates.

    python scripts/bench/doctor_memory.py

Each run is a process of its own, once as it is and once with an allocator that gives back what is
freed (MALLOC_MMAP_THRESHOLD_), which shows what tensors take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from judge.classifier.sizing.anatomy import anatomy_of
from judge.classifier.sizing.devices import GIB, processor
from judge.classifier.sizing.memory import training_memory
from judge.classifier.sizing.runs import Run

STEP = Path(__file__).parents[2] / "tests/judge/classifier/sizing/training_step.py"
WIDE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "vocab_size": 8000,
}
GROUPED = WIDE | {"num_key_value_heads": 4}
RUNS: list[tuple[str, int, bool, dict[str, Any]]] = [
    ("llama", 0, False, GROUPED),
    ("llama", 16, False, GROUPED),
    ("llama", 16, True, GROUPED),
    ("phi3", 16, False, GROUPED),
    ("bert", 0, False, WIDE),
    ("bert", 0, True, WIDE),
    ("bert", 16, False, WIDE),
    ("modernbert", 0, False, WIDE | {"layer_types": None}),
    ("gemma2", 16, False, GROUPED | {"layer_types": None, "head_dim": 64}),
    ("deberta-v2", 0, False, WIDE | {"position_buckets": 128, "pooler_hidden_size": 512}),
]
COUNT, LENGTH = 8, 256
MIB = 1 << 20


def main() -> None:
    cpu = processor(measure=False)
    print(f"{COUNT} sequences of {LENGTH} tokens, float32; MiB beside what Python and torch take")
    print("family      LoRA  again  parameters  estimated  held  as it is, estimated  held")
    for family, rank, again, changes in RUNS:
        words = [family, str(rank), str(int(again)), str(COUNT), str(LENGTH), json.dumps(changes)]
        tight = step(words, {"MALLOC_MMAP_THRESHOLD_": "65536"})
        plain = step(words, {})
        anatomy = anatomy_of(tight["config"])
        run = Run(
            max_length=LENGTH,
            batch_tokens=COUNT * LENGTH,
            lora_r=rank,
            checkpointing=again,
            dtype="float32",
        )
        parts = training_memory(anatomy, run, cpu).parts
        gaps = parts["gaps"]
        tensors = sum(parts.values()) - parts["reserve"] - gaps
        print(
            f"{family:<12}{rank:>4}{again!s:>7}{anatomy.backbone / 1e6:>10.1f} M"
            f"{tensors / MIB:>11.0f}{tight['bytes'] / MIB:>6.0f}"
            f"{(tensors + gaps) / MIB:>22.0f}{plain['bytes'] / MIB:>6.0f}",
            flush=True,
        )
    print(f"memory here: {cpu.memory / GIB:.1f} GiB")


def step(words: list[str], settings: dict[str, str]) -> dict[str, Any]:
    """What one process says."""
    done = subprocess.run(
        [sys.executable, str(STEP), *words],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | settings,
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


if __name__ == "__main__":
    main()
