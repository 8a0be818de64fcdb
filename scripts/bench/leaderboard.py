"""How fast a board is made, and that it is evalica's, on battles drawn from known strengths.

    python -m scripts.bench.leaderboard [--battles 57000] [--models 100] [--rounds 1000]

The point estimate is held against evalica's own fit, and evalica's bootstrap is timed for as many
rounds beside ours. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.leaderboard import compare_boards, rank_models
from scripts.bench.report import setting, table

Floats = npt.NDArray[np.float64]

# Evalica fits every round from the start; so many are enough to know what a thousand would take.
PEER_ROUNDS = 10


def main() -> None:
    """Draws battles, makes boards of them, prints how long that took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--battles", type=int, default=57_000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    names, outcomes, proba, style = _draw(chosen.battles, chosen.models, chosen.seed)
    prompts = np.arange(chosen.battles) // 2
    rows = []

    def timed(what: str, work: Callable[[], object]) -> object:
        started = time.perf_counter()
        result = work()
        rows.append((what, f"{time.perf_counter() - started:.2f}"))
        return result

    options = {"prompts": prompts, "rounds": chosen.rounds, "seed": chosen.seed}
    labels = rank_models(*names, outcomes, **options)
    timed("board, sandwich", lambda: rank_models(*names, outcomes, intervals="sandwich", **options))
    timed("board, bootstrap", lambda: rank_models(*names, outcomes, **options))
    timed(
        "board with style held constant, bootstrap",
        lambda: rank_models(*names, outcomes, style=style, **options),
    )
    judge = rank_models(*names, proba, name="judge", **options)
    timed("agreement of two boards", lambda: compare_boards(judge, labels))
    each = _evalica_seconds(names, outcomes)
    rows.append(
        (
            f"evalica's bootstrap, {chosen.rounds:,} rounds at {each:.3f} s",
            f"{each * chosen.rounds:.2f}",
        )
    )
    print(setting("scripts.bench.leaderboard"))
    print(f"\n{chosen.battles:,} battles, {chosen.models:,} models, {chosen.rounds:,} rounds:\n")
    print(table(("", "seconds"), rows))
    print(f"\nLargest difference from evalica's fit: {_difference(names, outcomes):.1e} nats")


def _draw(
    battles: int, models: int, seed: int
) -> tuple[tuple[list[str], list[str]], Floats, Floats, Floats]:
    """Names, outcomes, a judge's probabilities and style differences."""
    generator = np.random.default_rng(seed)
    strengths = generator.normal(size=models)
    first = generator.integers(models, size=battles)
    second = (first + generator.integers(1, models, size=battles)) % models
    style = generator.uniform(-1, 1, size=(battles, 5))
    gap = strengths[first] - strengths[second] + 0.5 * style[:, 0]
    wins = 0.7 / (1.0 + np.exp(-gap))
    proba = np.column_stack([wins, 0.7 - wins, np.full(battles, 0.3)])
    drawn = (generator.random(battles)[:, None] > proba.cumsum(axis=1)).sum(axis=1)
    names = ([f"model {k}" for k in first], [f"model {k}" for k in second])
    return names, np.eye(3)[np.minimum(drawn, 2)], proba, style


def _evalica_seconds(names: tuple[list[str], list[str]], outcomes: Floats) -> float:
    """Of one round of its bootstrap."""
    import evalica

    started = time.perf_counter()
    evalica.bootstrap(
        evalica.bradley_terry,
        *names,
        _winners(outcomes),
        n_resamples=PEER_ROUNDS,
        bootstrap_method="percentile",
        random_state=0,
    )
    return (time.perf_counter() - started) / (PEER_ROUNDS + 1)


def _difference(names: tuple[list[str], list[str]], outcomes: Floats) -> float:
    """The largest, in nats, of our strengths without a prior from evalica's."""
    import evalica

    golden = evalica.bradley_terry(*names, _winners(outcomes), tolerance=1e-13, limit=100_000)
    board = rank_models(*names, outcomes, prior=1e-9, intervals="sandwich")
    ours = pd.Series(board.scores, index=board.models) * np.log(10) / 400
    theirs = np.log(golden.scores).reindex(ours.index)
    return float(np.abs((ours - ours.mean()) - (theirs - theirs.mean())).max())


def _winners(outcomes: Floats) -> list[object]:
    import evalica

    known = (evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw)
    return [known[k] for k in outcomes.argmax(axis=1).tolist()]


if __name__ == "__main__":
    main()
