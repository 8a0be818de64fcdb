"""How fast the statistical judge is, beside TF-IDF + LightGBM on the same battles in the same run.

    python -m scripts.bench.speed --data FOLDER [--runs 5] [--workers 2]

Both judge all battles of the large file in turn, several times over, and medians count. The peer's
vocabulary and trees are made beforehand, as the judge's weights are. scikit-learn finds words in
one thread, LightGBM reads its trees in as many as the judge has. Then whole processes, reading and
writing included. Prints Markdown tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_matrix, hstack

from judge.battles import iter_battles
from judge.battles import labels as labels_of
from judge.judges import load_judge
from judge.parallel import ordered_map
from scripts.bench.peers import TREE_TERMS, texts, train_boosted, vectorizer
from scripts.bench.process import arena_judge
from scripts.bench.report import options, setting, table
from scripts.statistical_data import POOL

if TYPE_CHECKING:
    import lightgbm
    from sklearn.feature_extraction.text import TfidfVectorizer

Floats = npt.NDArray[np.float64]

EXAMPLES = Path("examples/battles.csv")
ROUNDS = 200
# What a peer learns from says little about its speed; fewer battles make it ready sooner.
LEARNED_FROM = 2000


@dataclass(frozen=True)
class Peer:
    """TF-IDF of prompt, response A and response B, and three classes boosted on it."""

    words: TfidfVectorizer
    trees: lightgbm.Booster

    def predict_proba(self, battles: pd.DataFrame, workers: int) -> Floats:
        """(N, 3) probabilities."""
        proba = self.trees.predict(_columns(self.words, battles), num_threads=workers)
        return np.asarray(proba, dtype=np.float64)


def learn(battles: pd.DataFrame, least: int) -> Peer:
    """The peer, its vocabulary from all battles and its trees from the first of them."""
    labels = labels_of(battles)
    if labels is None:
        raise SystemExit("the battles have no labels")
    words = vectorizer(TREE_TERMS, least).fit(chain(*texts(battles).values()))
    some = battles.iloc[:LEARNED_FROM]
    classes = {"objective": "multiclass", "num_class": 3, "min_data_in_leaf": 20}
    trees = train_boosted(
        _columns(words, some), labels[: len(some)].argmax(axis=1), classes, ROUNDS
    )
    return Peer(words, trees)


def _columns(words: TfidfVectorizer, battles: pd.DataFrame) -> csr_matrix:
    return csr_matrix(hstack([words.transform(text) for text in texts(battles).values()]))


def alternating(tasks: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The median of so many runs of each task, in seconds, the tasks taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(runs):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - started)
    return {name: median(times) for name, times in seconds.items()}


def in_process(file: Path, workers: int, runs: int, least: int) -> str:
    """The table of judging alone, the battles already read."""
    judge, chunks = load_judge(), list(iter_battles(file))
    battles = pd.concat(chunks)
    peer = learn(battles, least)
    found = alternating(
        {
            f"statistical judge, {workers} threads": lambda: list(
                ordered_map(judge.predict_proba, chunks, workers)
            ),
            "statistical judge, 1 thread": lambda: [judge.predict_proba(c) for c in chunks],
            f"TF-IDF + LightGBM, {workers} threads": lambda: peer.predict_proba(battles, workers),
        },
        runs,
    )
    ours = next(iter(found.values()))
    rows = [
        [name, f"{seconds:.2f} s", f"{len(battles) / seconds:,.0f}", f"{seconds / ours:.2f}"]
        for name, seconds in found.items()
    ]
    return table([f"{len(battles):,} battles of {file.name}", "", "battles/s", "times ours"], rows)


def whole(file: Path, runs: int) -> str:
    """The table of whole processes, the interpreter's start included."""
    with TemporaryDirectory() as folder:
        output = str(Path(folder) / "predictions.csv")
        commands = {
            "arena-judge --help": ["--help"],
            f"arena-judge score {EXAMPLES}": ["score", str(EXAMPLES), "-o", output],
            f"arena-judge score {file.name}": ["score", str(file), "-o", output],
        }
        rows = []
        for name, arguments in commands.items():
            found = [arena_judge(*arguments) for _ in range(runs)]
            seconds = [run.seconds for run in found]
            spread = f"{min(seconds):.2f} to {max(seconds):.2f} s"
            peak = max(run.peak for run in found) / 2**20
            rows.append([f"`{name}`", f"{median(seconds):.2f} s", spread, f"{peak:,.0f} MiB"])
    return table(["whole process", "median", "all runs", "peak memory"], rows)


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each (default: 5)")
    parser.add_argument("--workers", type=int, default=2, help="threads (default: 2)")
    given = parser.parse_args()
    file = given.data / POOL
    print(setting("scripts.bench.speed"), f"- median of {given.runs} runs\n", sep="\n")
    print(in_process(file, given.workers, given.runs, given.least), end="\n\n", flush=True)
    print(whole(file, given.runs))


if __name__ == "__main__":
    main()
