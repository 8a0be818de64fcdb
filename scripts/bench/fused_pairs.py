"""How much faster both orders of a battle are together than one after the other.

    python -m scripts.bench.fused_pairs [--family llama] [--hidden 256] [--layers 4]
        [--prompt 1500] [--response 200] [--battles 16] [--rounds 5] [--device cpu]

A causal model with random weights judges battles with long prompts: *fused*, with both orders in
one batch and what they begin with worked through once, and *separate*, each order by itself. Rounds
take turns, medians count, and the largest difference of the logits is shown. Asked for: 1.3 times
the speed, and logits that agree to 1e-5. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from judge.classifier.network import build
from judge.judges.classifier import ClassifierJudge
from judge.judges.classifier_settings import ClassifierSettings
from scripts.bench.report import setting, table
from tests.finetune.tiny import tiny_model

Floats = npt.NDArray[np.float64]

SIZES = {
    "hidden": 256,
    "layers": 4,
    "prompt": 1500,
    "response": 200,
    "battles": 16,
    "rounds": 5,
}
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


def judges(said: argparse.Namespace, folder: Path, longest: int) -> list[ClassifierJudge]:
    """One for both orders at once, and one for each, over the same weights."""
    base = tiny_model(
        said.family,
        folder / "base",
        hidden_size=said.hidden,
        intermediate_size=3 * said.hidden,
        num_hidden_layers=said.layers,
        num_attention_heads=said.hidden // 32,
        num_key_value_heads=max(1, said.hidden // 64),
        head_dim=32,
        max_position_embeddings=longest,
        initializer_range=0.02,
    )
    dtype = getattr(torch, said.dtype)
    network, tokenizer = build(str(base), max_length=longest, device=said.device, dtype=dtype)
    ways = ((("AB", "BA"), True), (("AB",), False), (("BA",), False))
    return [
        ClassifierJudge(
            [network],
            tokenizer,
            name="bench",
            running=ClassifierSettings(orders=orders, share_prompt=share),
        )
        for orders, share in ways
    ]


def seconds(ways: dict[str, Callable[[], Floats]], rounds: int) -> dict[str, float]:
    """The median of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    return {name: median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", default="llama")
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    said = parser.parse_args()
    made = battles(said.battles, said.prompt, said.response)
    with tempfile.TemporaryDirectory() as folder:
        longest = 4 * (said.prompt + 2 * said.response) + 512
        fused, *apart = judges(said, Path(folder), longest)
        ways = {
            "fused": lambda: fused.logits(made),
            "separate": lambda: np.concatenate([one.logits(made) for one in apart], axis=1),
        }
        together, separately = (work() for work in ways.values())  # and warm now
        taken = seconds(ways, said.rounds)
    print(setting("scripts.bench.fused_pairs"), end="\n\n")
    rows = [
        [name, f"{taken[name]:.2f}", f"{taken['separate'] / taken[name]:.2f}"] for name in taken
    ]
    print(table([f"{said.battles} battles", "seconds", "times as fast"], rows))
    print(f"\nlogits differ by at most {np.abs(together - separately).max():.1e}")


if __name__ == "__main__":
    main()
