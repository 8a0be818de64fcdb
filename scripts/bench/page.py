"""How large a report is, and how long a browser takes to open it.

    python -m scripts.bench.page [--battles 57000] [--judges 10]

Battles, labels and judges are drawn; what a page holds does not depend on whose they are. Needs
playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from judge.comparing.slices import compare_slices
from judge.comparison import compare
from judge.report.comparing import comparison_page
from judge.report.leaning import leaning
from judge.report.page import origin, write_page
from scripts.bench.report import setting


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--battles", type=int, default=57_000)
    parser.add_argument("--judges", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(setting("scripts.bench.page"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        begun = time.perf_counter()
        draw(options.battles, options.judges, options.seed, path)
        drawn = time.perf_counter() - begun
        first, again = opened(path)
        size = path.stat().st_size / 1e6
    print(f"\n{options.battles:,} battles, {options.judges} judges, all slices\n")
    print("| page | measured |\n| --- | ---: |")
    print(f"| compared and drawn in | {drawn:.1f} s |\n| size | {size:.2f} MB |")
    print(f"| open in Chromium, first | {first:.2f} s |\n| again | {again:.2f} s |")


def draw(battles: int, judges: int, seed: int, path: Path) -> None:
    """A comparison with everything in it, drawn."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(battles, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    choice = (generator.random(battles)[:, None] > np.cumsum(true, axis=1)).sum(axis=1)
    labels = np.eye(3)[np.minimum(choice, 2)]
    said = {}
    for number in range(judges):
        noisy = np.exp(logits + generator.normal(size=logits.shape) * (0.2 + 0.1 * number))
        said[f"judge {number}"] = noisy / noisy.sum(axis=1, keepdims=True)
    length = logits[:, 0] - logits[:, 1] + generator.normal(size=battles)
    models = np.array([f"model {n}" for n in range(60)], dtype=object)
    facts = pd.DataFrame(
        {
            "turns": generator.integers(1, 6, size=battles),
            "prompt_characters": generator.integers(5, 4000, size=battles),
            "a_characters": generator.integers(5, 4000, size=battles),
            "b_characters": generator.integers(5, 4000, size=battles),
            "length_difference": length,
            "language": generator.choice(["en", "de", "zh", "ru"], size=battles),
            "code": generator.random(battles) < 0.2,
            "category": generator.choice(["maths", "writing", "advice"], size=battles),
            "model_a": generator.choice(models, size=battles),
            "model_b": generator.choice(models, size=battles),
        }
    )
    prompts = generator.integers(0, battles // 2, size=battles)
    result = compare(labels, said, groups=prompts, length_difference=length, rounds=500, seed=seed)
    slices = compare_slices(
        labels, said, facts, best=result.best, groups=prompts, rounds=200, seed=seed
    )
    leans = leaning(labels, said, length, prompts, rounds=200, seed=seed)
    page = comparison_page(
        result, source="drawn", slices=slices, leans=leans, origin=origin("compare", seed)
    )
    write_page(page, path)


def opened(path: Path) -> tuple[float, float]:
    """Seconds until a page has been drawn, in a new browser and once more."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        found = []
        for _ in range(2):
            page = browser.new_context().new_page()
            begun = time.perf_counter()
            page.goto(path.as_uri())
            page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
            found.append(time.perf_counter() - begun)
        browser.close()
    return found[0], found[1]


if __name__ == "__main__":
    main()
