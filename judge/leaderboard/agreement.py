"""Two boards of the same models held against each other: a judge's and the labels', or a plain one
and one with style held constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError
from judge.leaderboard.board import Leaderboard
from judge.leaderboard.ranking import EQUAL, LEVEL, QUANTILES, reach

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """One model on two boards.

    Attributes:
        model: its name.
        score, rank: on the first board; `other_score` and `other_rank` on the second.
        difference: first less second, with its paired 95 % interval `low` to `high`, NaN where the
            boards were not resampled alike.
    """

    model: str
    score: float
    other_score: float
    difference: float
    low: float
    high: float
    rank: int
    other_rank: int


@dataclass(frozen=True)
class Swap:
    """Two models that the boards put in opposite orders, beyond doubt.

    Attributes:
        better, worse: by the second board, the labels'.
        gap: their difference in score there; `judge_gap`, negative, on the first board.
        p_value: that one of the boards has them the wrong way round, two-sided, corrected for all
            pairs (Holm 1979).
    """

    better: str
    worse: str
    gap: float
    judge_gap: float
    p_value: float


@dataclass(frozen=True)
class Agreement:
    """How far a judge's board agrees with the labels', over the models of the largest island.

    Attributes:
        judge, labels: the boards' names.
        models, battles: how many both are about.
        kendall, spearman: tau-b and rho of the scores, each with its 95 % interval: where those of
            two other boards from as many prompts would lie.
        kendall_ceiling, spearman_ceiling: the same of the labels' board and itself resampled, which
            is about what a judge without a fault could reach on labels that are so uncertain.
        spread: the standard deviation of the judge's scores over that of the labels'; below 1 the
            judge sees the models nearer together than people do.
        pairs: pairs of models; `opposed` of them stand in opposite order.
        told_apart: pairs that the labels tell apart; `confirmed` of them the judge tells apart as
            well, in the same order, and `contradicted` in the other, each pair taken on its own.
        swaps: pairs in opposite order beyond doubt, all pairs considered, the surest first.
        shifts: each model on both boards, in the judge's order.
    """

    judge: str
    labels: str
    models: int
    battles: int
    kendall: float
    kendall_low: float
    kendall_high: float
    kendall_ceiling: float
    spearman: float
    spearman_low: float
    spearman_high: float
    spearman_ceiling: float
    spread: float
    pairs: int
    opposed: int
    told_apart: int
    confirmed: int
    contradicted: int
    swaps: tuple[Swap, ...]
    shifts: tuple[Shift, ...]


def shifts(board: Leaderboard, other: Leaderboard) -> tuple[Shift, ...]:
    """Each model's score on a board less that on another, in the order of the first."""
    place = _places(board, other)
    low, high = np.full((2, len(place)), np.nan)
    if _alike(board, other):
        paired = board.samples - other.samples[:, place]
        low, high = np.quantile(paired, QUANTILES, axis=0)
    return tuple(
        Shift(
            model=model,
            score=float(board.scores[k]),
            other_score=float(other.scores[at]),
            difference=float(board.scores[k] - other.scores[at]),
            low=float(low[k]),
            high=float(high[k]),
            rank=int(board.ranks[k]),
            other_rank=int(other.ranks[at]),
        )
        for k, (model, at) in enumerate(zip(board.models, place.tolist(), strict=True))
    )


def compare_boards(judge: Leaderboard, labels: Leaderboard) -> Agreement:
    """Holds a judge's board against the labels' on the same battles (see `rank_models`).

    Intervals come from the rounds in which both boards were resampled alike. A round's boards have
    the noise of one sample more, so they agree less than the boards do: what is taken of the rounds
    is their standard deviation, about the estimate, and no quantiles.

    Raises:
        ArenaJudgeError: the boards are not about the same models.
    """
    place = _places(judge, labels)
    main = judge.islands == 1
    there = place[main]
    own, theirs = judge.scores[main], labels.scores[there]
    ahead = np.round(own[:, None] - own, 6)
    gap = np.round(theirs[:, None] - theirs, 6)
    inner, outer = np.ix_(main, main), np.ix_(there, there)
    better, sure = judge.better[inner], labels.better[outer]
    rounds = None
    if _alike(judge, labels):
        rounds = (judge.samples[:, main], labels.samples[:, there])
    kendall = _correlated(_kendall, own, theirs, rounds, labels.prompts)
    spearman = _correlated(_spearman, own, theirs, rounds, labels.prompts)
    surety = np.minimum(
        np.abs(ahead) / _gap_errors(judge.covariance[inner]),
        np.abs(gap) / _gap_errors(labels.covariance[outer]),
    )
    names = [name for name, kept in zip(judge.models, main.tolist(), strict=True) if kept]
    width = float(np.std(theirs))
    return Agreement(
        judge=judge.name,
        labels=labels.name,
        models=len(own),
        battles=int(labels.battles[outer].sum()) // 2,
        kendall=kendall[0],
        kendall_low=kendall[1],
        kendall_high=kendall[2],
        kendall_ceiling=kendall[3],
        spearman=spearman[0],
        spearman_low=spearman[1],
        spearman_high=spearman[2],
        spearman_ceiling=spearman[3],
        spread=float(np.std(own)) / width if width > EQUAL else float("nan"),
        pairs=len(own) * (len(own) - 1) // 2,
        opposed=int((ahead * gap < 0).sum()) // 2,
        told_apart=int(sure.sum()),
        confirmed=int((sure & better).sum()),
        contradicted=int((sure & better.T).sum()),
        swaps=_swaps(names, gap, ahead, surety, labels.prompts),
        shifts=shifts(judge, labels),
    )


def _gap_errors(covariance: Floats) -> Floats:
    """(M, M) standard errors of the differences between scores, at least a hair."""
    own = np.diag(covariance)
    variance = own[:, None] + own - 2 * covariance
    return np.asarray(np.sqrt(np.maximum(variance, 1e-12)))


def _swaps(
    names: Sequence[str], gap: Floats, ahead: Floats, surety: Floats, prompts: int
) -> tuple[Swap, ...]:
    """The pairs in opposite order that stay significant among all pairs.

    Both orders must be sure for a swap to be, so the less sure of the two decides (Berger 1982).

    Args:
        names: M of them.
        gap, ahead: (M, M) differences in score by the labels and by the judge.
        surety: (M, M) the less sure of the two, over its standard error; NaN from a single prompt.
        prompts: how many there are, which is how well standard errors are known.
    """
    from scipy.stats import t

    p_values = 2.0 * t.sf(surety, max(prompts - 1, 1))
    better, worse = np.nonzero((gap > 0) & (ahead < 0) & ~np.isnan(p_values))
    left = len(names) * (len(names) - 1) // 2
    found: list[Swap] = []
    corrected = 0.0
    for k in np.argsort(p_values[better, worse], kind="stable").tolist():
        i, j = int(better[k]), int(worse[k])
        corrected = max(corrected, min(1.0, float(p_values[i, j]) * left))
        if corrected >= LEVEL:
            break
        found.append(Swap(names[i], names[j], float(gap[i, j]), float(ahead[i, j]), corrected))
        left -= 1
    return tuple(found)


def _places(board: Leaderboard, other: Leaderboard) -> npt.NDArray[np.int64]:
    """(M,) where the board's models stand on the other."""
    at = {model: place for place, model in enumerate(other.models)}
    if set(at) != set(board.models):
        raise ArenaJudgeError(
            f"the boards of {board.name} and {other.name} are not about the same models; "
            "make both from the battles that both judge"
        )
    return np.array([at[model] for model in board.models], dtype=np.int64)


def _alike(board: Leaderboard, other: Leaderboard) -> bool:
    """Whether a round of one board drew the prompts that it drew for the other."""
    drawn = (board.samples.shape, board.seed) == (other.samples.shape, other.seed)
    return drawn and len(board.samples) > 0


def _correlated(
    measure: Callable[[Floats, Floats], float],
    own: Floats,
    theirs: Floats,
    rounds: tuple[Floats, Floats] | None,
    prompts: int,
) -> tuple[float, float, float, float]:
    """A correlation, its interval from low to high, and its ceiling; NaN for what it has not."""
    value = measure(own, theirs)
    if rounds is None or np.isnan(value):
        return value, float("nan"), float("nan"), float("nan")
    drawn = np.array([measure(a, b) for a, b in zip(*rounds, strict=True)])
    far = reach(prompts) * float(np.nanstd(drawn))
    again = np.array([measure(round_, theirs) for round_ in rounds[1]])
    return value, max(value - far, -1.0), min(value + far, 1.0), float(np.nanmean(again))


def _kendall(own: Floats, theirs: Floats) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(np.round(own, 6), np.round(theirs, 6)).statistic)


def _spearman(own: Floats, theirs: Floats) -> float:
    from scipy.stats import rankdata

    a, b = rankdata(np.round(own, 6)), rankdata(np.round(theirs, 6))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("nan")
