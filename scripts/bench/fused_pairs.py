"""How much faster both orders of a battle are together than one after the other.

    python scripts/bench/fused_pairs.py [--family llama] [--hidden 256] [--layers 4]
        [--prompt 1500] [--response 200] [--battles 16] [--rounds 5] [--device cpu]

A causal model with random weights judges battles with long prompts: *fused*, with both orders in
one batch and what they begin with worked through once, and *separate*, each order by itself. Rounds
take turns; what is printed is the median, and the largest difference of the logits. Asked for: 1.3
times the speed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

_WORDS = ("people", "vote", "quick", "brown", "fox", "answer", "prompt", "judge", "better", "lazy")


def battles(count: int, prompt: int, response: int) -> pd.DataFrame:
    """Battles of about so many words."""
    rng = np.random.default_rng(0)

    def text(words: int) -> tuple[str, ...]:
        return (" ".join(rng.choice(_WORDS, words)),)

    rows = [
        {
            "id": str(n),
            "prompt": text(prompt),
            "response_a": text(response),
            "response_b": text(response),
        }
        for n in range(count)
    ]
    return pd.DataFrame(rows)


def judge_of(network: Any, tokenizer: Any, orders: tuple[str, ...], share: bool) -> Any:
    from judge.judges.classifier import ClassifierJudge
    from judge.judges.classifier_settings import ClassifierSettings

    running = ClassifierSettings(orders=orders, share_prompt=share)
    return ClassifierJudge([network], tokenizer, name="bench", running=running)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="llama")
    for name, value in (
        *(("hidden", 256), ("layers", 4), ("prompt", 1500), ("response", 200)),
        *(("battles", 16), ("rounds", 5)),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    said = parser.parse_args()

    import torch

    from judge.classifier.network import build
    from tests.finetune.tiny import tiny_model

    table = battles(said.battles, said.prompt, said.response)
    most = 4 * (said.prompt + 2 * said.response) + 512
    with tempfile.TemporaryDirectory() as folder:
        base = tiny_model(
            said.family,
            Path(folder) / "base",
            hidden_size=said.hidden,
            intermediate_size=3 * said.hidden,
            num_hidden_layers=said.layers,
            num_attention_heads=said.hidden // 32,
            num_key_value_heads=max(1, said.hidden // 64),
            head_dim=32,
            max_position_embeddings=most,
            initializer_range=0.02,
        )
        network, tokenizer = build(
            str(base),
            max_length=most,
            device=said.device,
            dtype=getattr(torch, said.dtype),
        )
        fused = judge_of(network, tokenizer, ("AB", "BA"), True)
        apart = [judge_of(network, tokenizer, (order,), False) for order in ("AB", "BA")]

        def together() -> Any:
            return fused.logits(table)

        def separately() -> Any:
            return np.concatenate([one.logits(table) for one in apart], axis=1)

        difference = float(np.abs(together() - separately()).max())  # and warm now
        times: dict[str, list[float]] = {"fused": [], "separate": []}
        for _ in range(said.rounds):
            for name, work in (("fused", together), ("separate", separately)):
                started = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - started)
        tokens = len(fused._encoders[0].assemble(fused._encoders[0].read(table)).ids[0])
    median = {name: statistics.median(found) for name, found in times.items()}
    print(
        json.dumps(
            {
                "tokens": tokens,
                "battles": said.battles,
                "seconds": {name: round(value, 4) for name, value in median.items()},
                "times": round(median["separate"] / median["fused"], 3),
                "largest_difference": difference,
            }
        )
    )


if __name__ == "__main__":
    main()
