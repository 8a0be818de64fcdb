"""How long it takes to compare ten judges on 57,000 battles, beside what one would write oneself.

    python -m scripts.bench.comparison [--battles 57000] [--judges 10] [--rounds 2000] [--naive 5]

Battles and predictions are made up; one prompt in ten has two battles. `arena-judge compare` reads
them from files in a process of its own, and `judge.comparison.compare` measures arrays. The peers
draw prompts anew in each round and measure each judge's log loss, by scikit-learn on the drawn rows
or by numpy on the losses; they do so for a few rounds, and the time is scaled. What they leave out:
all other measures, the standard error of each round, and the pairs. Prints a Markdown table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.comparison import Comparison, compare
from judge.metrics import log_loss_rows
from judge.predictions import write_predictions
from scripts.bench.process import arena_judge
from scripts.bench.report import options, setting, table

Floats = npt.NDArray[np.float64]

HEAD = ["rounds", "time", "as long as compare", "peak memory"]


@dataclass(frozen=True)
class Field:
    """Labels, the prompts' numbers, and what judges say of the battles."""

    labels: Floats
    prompts: npt.NDArray[np.int64]
    proba: dict[str, Floats]


def made_up(battles: int, judges: int, seed: int) -> Field:
    """Labels drawn from probabilities, which each judge sees through noise of its own."""
    random = np.random.default_rng(seed)
    truth = random.dirichlet([3.0, 3.0, 2.0], battles)
    drawn = (random.random((battles, 1)) > truth.cumsum(axis=1)[:, :2]).sum(axis=1)
    prompts = np.arange(battles)
    prompts[1::10] -= 1
    proba = {}
    for number in range(judges):
        noise = random.normal(size=truth.shape) * (0.2 + 0.05 * number)
        seen = truth * np.exp(noise)
        proba[f"judge {number}"] = seen / seen.sum(axis=1, keepdims=True)
    return Field(np.eye(3)[drawn], prompts, proba)


def by_scikit_learn(field: Field, rounds: int, seed: int) -> Floats:
    """(rounds, judges) log losses of drawn prompts."""
    from sklearn.metrics import log_loss

    chosen, rows = field.labels.argmax(axis=1), _rows_of(field)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rounds):
        drawn = np.concatenate([rows[k] for k in random.integers(len(rows), size=len(rows))])
        found.append(
            [log_loss(chosen[drawn], p[drawn], labels=[0, 1, 2]) for p in field.proba.values()]
        )
    return np.array(found)


def by_numpy(field: Field, rounds: int, seed: int) -> Floats:
    """The same from losses that were worked out once."""
    losses = np.column_stack([log_loss_rows(field.labels, p) for p in field.proba.values()])
    rows = _rows_of(field)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rounds):
        drawn = np.concatenate([rows[k] for k in random.integers(len(rows), size=len(rows))])
        found.append(losses[drawn].mean(axis=0))
    return np.array(found)


def _rows_of(field: Field) -> list[npt.NDArray[np.intp]]:
    """Which battles each prompt has."""
    return [
        np.asarray(rows)
        for rows in pd.Series(field.prompts).groupby(field.prompts).indices.values()
    ]


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def as_files(field: Field, folder: Path) -> list[str]:
    """The battles, with a few words for texts, and the predictions; the names of the files."""
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    ids = [str(number) for number in range(len(field.labels))]
    battles = pd.DataFrame(
        {
            "id": ids,
            "prompt": [json.dumps([f"question {number}"]) for number in field.prompts],
            "response_a": json.dumps(["yes, so it is"]),
            "response_b": json.dumps(["no"]),
            **dict(zip(names, field.labels.T.astype(int), strict=True)),
        }
    )
    battles.to_csv(folder / "battles.csv", index=False)
    files = []
    for name, proba in field.proba.items():
        files.append(folder / f"{name}.csv")
        write_predictions(files[-1], ids, proba)
    return [str(folder / "battles.csv"), *map(str, files)]


def compared(field: Field, rounds: int, seed: int) -> Comparison:
    """What is measured."""
    return compare(field.labels, field.proba, groups=field.prompts, rounds=rounds, seed=seed)


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--battles", type=int, default=57_000, help="(default: %(default)s)")
    parser.add_argument("--judges", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument(
        "--naive", type=int, default=5, help="rounds of the peers (default: %(default)s)"
    )
    given = parser.parse_args()
    field = made_up(given.battles, given.judges, given.seed)
    own = timed(lambda: compared(field, given.rounds, given.seed))
    with TemporaryDirectory() as folder:
        files = as_files(field, Path(folder))
        run = arena_judge("compare", *files, "--rounds", str(given.rounds), "--json")
    peers = {
        "a loop with scikit-learn's log_loss": by_scikit_learn,
        "a loop over losses with numpy": by_numpy,
    }
    rounds = f"{given.rounds:,}"
    rows = [
        ["`compare`, arrays", rounds, f"{own:.1f} s", "1", ""],
        [
            "`arena-judge compare`, files",
            rounds,
            f"{run.seconds:.1f} s",
            f"{run.seconds / own:.1f}",
            f"{run.peak / 2**30:.2f} GiB",
        ],
    ]
    for name, peer in peers.items():
        took = timed(lambda peer=peer: peer(field, given.naive, given.seed))
        scaled = took / given.naive * given.rounds
        rounds_said = f"{given.naive}, scaled to {rounds}"
        rows.append([name, rounds_said, f"{scaled:.0f} s", f"{scaled / own:.1f}", ""])
    print(setting("scripts.bench.comparison"), end="\n\n")
    head = [f"{given.battles:,} battles, {given.judges} judges", *HEAD]
    print(table(head, rows))


if __name__ == "__main__":
    main()
