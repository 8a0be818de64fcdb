"""The peers that the statistical judge is measured beside: what one would build in an afternoon
from scikit-learn and LightGBM, built as well as that goes.

Every peer learns from three sets of battles: the natural sample alone, without the fold that is
held out; that and the large file, from which it learns strength, who of the two wins, while scale
and ties come from the sample, because the large file has hardly a tie; and both with odd battles of
other collections, which is what the statistical judge learns from. Vocabulary and scales are taken
from all texts, those held out as well, but no label of theirs; that favours the peers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array, csr_matrix, hstack, vstack
from sklearn.feature_extraction.text import TfidfVectorizer

from judge.davidson import Block, fit_linear, probabilities

if TYPE_CHECKING:
    import lightgbm

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sparse: TypeAlias = "csr_array[np.float64]"

COLUMNS = ("prompt", "response_a", "response_b")
# The most frequent words and pairs of words that trees get of each text; a linear model gets more.
TREE_TERMS = 3000
TERMS = 50_000
BOUND = 4.0

PENALTY = {"style": 10.0, "terms": 3.0, "tie": 10.0, "constant": 1e-3}
# One thread: figures do not then depend on the machine, and small products are slower on several.
BOOSTING = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "seed": 0,
    "verbose": -1,
}
ROUNDS_OF_MANY, ROUNDS_OF_FEW = 300, 50

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[.!?。！？]+")
_BULLET = re.compile(r"^\s*[-*•]\s", re.MULTILINE)
_NUMBERED = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)
_HEADING = re.compile(r"^#", re.MULTILINE)
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|as an ai|language model"
    r"|i (?:cannot|can't|am unable|am not able|don't have))\b",
    re.IGNORECASE,
)
_COUNTED = ("```", "**", "\n\n", "?", "!")


@dataclass(frozen=True)
class Evidence:
    """What peers see of N battles.

    Attributes:
        labels: (N, 3).
        style: (N, k) scaled differences of style; the first is that of length.
        setting: (N, m) what stays when the responses are swapped; the first two speak of length.
        terms: (N, v) TF-IDF of prompt, response A and response B, by column.
    """

    labels: Floats
    style: Floats
    setting: Floats
    terms: dict[str, Sparse]


def texts(battles: pd.DataFrame) -> dict[str, list[str]]:
    """Prompts and responses with their turns joined, by column."""
    return {column: ["\n".join(turns) for turns in battles[column]] for column in COLUMNS}


def evidence(battles: pd.DataFrame, labels: Floats, *, least: int = 5) -> Evidence:
    """Features of all battles; a term is one that `least` texts have."""
    read = texts(battles)
    prompts, a, b = read.values()
    values = np.array([[style(*pair) for pair in zip(r, prompts, strict=True)] for r in (a, b)])
    apart = values[0] - values[1]
    turns = battles["prompt"].map(len).to_numpy(dtype=np.float64)
    setting = np.column_stack(
        [
            np.abs(apart[:, 0]),
            values[..., 0].mean(axis=0),
            values[..., 0].min(axis=0),
            [overlap(*pair) for pair in zip(a, b, strict=True)],
            [float(x == y) for x, y in zip(a, b, strict=True)],
            np.log1p([len(prompt) for prompt in prompts]),
            np.log(turns),
            values[..., REFUSALS].sum(axis=0),
            np.abs(apart[:, REFUSALS]),
        ]
    )
    words = vectorizer(TERMS, least).fit([*prompts, *a, *b])
    return Evidence(
        labels=labels,
        style=np.clip(apart / (apart.std(axis=0) + 1e-9), -BOUND, BOUND),
        setting=np.clip(
            (setting - setting.mean(axis=0)) / (setting.std(axis=0) + 1e-9), -BOUND, BOUND
        ),
        terms={column: csr_array(words.transform(text)) for column, text in read.items()},
    )


def vectorizer(terms: int, least: int) -> TfidfVectorizer:
    """TF-IDF of words and pairs of words."""
    return TfidfVectorizer(ngram_range=(1, 2), min_df=least, max_features=terms, sublinear_tf=True)


def style(text: str, prompt: str) -> list[float]:
    """Seventeen numbers on how a response is written, the logarithm of its length first."""
    words = _WORD.findall(text)
    known = {word.lower() for word in words}
    asked = {word.lower() for word in _WORD.findall(prompt)}
    length, count = len(text) + 1.0, max(len(words), 1)
    return [
        float(np.log(length)),
        float(np.log(count)),
        float(np.log(count / max(1, len(_SENTENCE.findall(text))))),
        sum(map(len, words)) / count,
        len(known) / count**0.5,
        min(len(_REFUSAL.findall(text)), 3),
        len(known & asked) / (len(asked) + 1),
        sum(map(str.isdigit, text)) / length,
        sum(map(str.isupper, text)) / length,
        *(float(np.log1p(len(p.findall(text)))) for p in (_BULLET, _NUMBERED, _HEADING)),
        *(float(np.log1p(text.count(mark))) for mark in _COUNTED),
    ]


REFUSALS = 5


def overlap(text: str, other: str) -> float:
    """The share of words that two texts have in common."""
    words, others = set(text.lower().split()), set(other.lower().split())
    return len(words & others) / (len(words | others) + 1)


# --- learning -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Which of N battles may be learned from, and how they are held out.

    Attributes:
        fold: (N,) the fold of the natural sample's battles, -1 for all others.
        large: rows of the large file.
        odd: rows from which no more than a head is learned.
    """

    fold: Ints
    large: Ints
    odd: Ints


# The battles that a peer has learned from.
FOLDS_ALONE = "folds"
WITH_LARGE = "folds, arena_train"
WITH_ALL = "folds, arena_train, odd battles"
Fit = Callable[[Ints, Ints], Floats]


def out_of_fold(split: Split, fit: Fit, beside: Ints | None = None) -> Floats:
    """(N, 3) probabilities of the natural sample's battles, NaN for all others.

    Args:
        split: the folds.
        fit: from the battles to learn from and those to judge, the latter's probabilities.
        beside: battles to learn from in every fold.
    """
    proba = np.full((len(split.fold), 3), np.nan)
    always = np.zeros(0, dtype=np.int64) if beside is None else beside
    for fold in np.unique(split.fold[split.fold >= 0]):
        held = np.flatnonzero(split.fold == fold)
        learn = np.flatnonzero((split.fold >= 0) & (split.fold != fold))
        proba[held] = fit(np.concatenate([learn, always]), held)
    return proba


def prior(seen: Evidence, split: Split) -> dict[str, Floats]:
    """The classes' rates in the other folds."""

    def fit(learn: Ints, held: Ints) -> Floats:
        return np.tile(seen.labels[learn].mean(axis=0), (len(held), 1))

    return {FOLDS_ALONE: out_of_fold(split, fit)}


def linear(
    seen: Evidence, split: Split, strength: Sequence[Block], setting: Floats
) -> dict[str, Floats]:
    """A logistic model in the Davidson form, by the set of battles that it learned from."""
    tie = [Block(np.ones((len(setting), 1)), PENALTY["constant"]), Block(setting, PENALTY["tie"])]

    def weights(rows: Ints) -> tuple[Floats, Floats]:
        sides, ties = (
            [Block(block.columns[rows], block.penalty) for block in blocks]
            for blocks in (strength, tie)
        )
        found = fit_linear(sides, ties, seen.labels[rows], rounds=60)
        return _sum(strength, found), _sum(tie, found[len(strength) :])

    def alone(learn: Ints, held: Ints) -> Floats:
        d, t = weights(learn)
        return probabilities(d[held], t[held])

    learned, _ = weights(split.large)
    return {
        FOLDS_ALONE: out_of_fold(split, alone),
        **with_head(split, learned, setting, seen.labels),
    }


def _sum(blocks: Sequence[Block], weights: Sequence[Floats]) -> Floats:
    products = [np.asarray(b.columns @ w) for b, w in zip(blocks, weights, strict=False)]
    return np.asarray(np.sum(products, axis=0))


def with_head(split: Split, strength: Floats, setting: Floats, labels: Floats) -> dict[str, Floats]:
    """What becomes of a strength (N,) that was learned from the large file, once the other folds
    have taught what it is to be multiplied by, and the tie."""
    ones = np.ones((len(setting), 1))
    apart = np.sqrt(1.0 + np.square(strength))
    tie = np.column_stack([setting, apart - apart.mean()])

    def fit(learn: Ints, held: Ints) -> Floats:
        scale, constant, weights = fit_linear(
            [Block(strength[learn, None], PENALTY["constant"])],
            [Block(ones[learn], PENALTY["constant"]), Block(tie[learn], PENALTY["tie"])],
            labels[learn],
        )
        return probabilities(scale[0] * strength[held], constant[0] + tie[held] @ weights)

    return {
        WITH_LARGE: out_of_fold(split, fit),
        WITH_ALL: out_of_fold(split, fit, split.odd),
    }


def boosted(
    seen: Evidence, split: Split, dense: Callable[[float], Floats] | None
) -> dict[str, Floats]:
    """LightGBM on TF-IDF, by the set of battles that it learned from: three classes on the folds
    alone, A against B where the head is learned apart. Each battle is shown in both orders, and
    judged in both.

    Args:
        seen: the battles.
        split: which of them to learn from.
        dense: from the order, 1.0 or -1.0, further columns; None for none.
    """
    orders = (_columns(seen, dense, 1.0), _columns(seen, dense, -1.0))

    def three(learn: Ints, held: Ints) -> Floats:
        winner = seen.labels[learn].argmax(axis=1)
        model = train_boosted(
            vstack([order[learn] for order in orders]),
            np.concatenate([winner, np.array([1, 0, 2])[winner]]),
            {"objective": "multiclass", "num_class": 3, "min_data_in_leaf": 20},
            ROUNDS_OF_FEW,
        )
        first, second = (np.asarray(model.predict(order[held])) for order in orders)
        return np.asarray((first + second[:, [1, 0, 2]]) / 2.0)

    share = seen.labels[split.large, 0] + seen.labels[split.large, 2] / 2.0
    model = train_boosted(
        vstack([order[split.large] for order in orders]),
        np.concatenate([share, 1.0 - share]),
        {"objective": "cross_entropy", "min_data_in_leaf": 50},
        ROUNDS_OF_MANY,
    )
    first, second = (np.asarray(model.predict(order, raw_score=True)) for order in orders)
    return {
        FOLDS_ALONE: out_of_fold(split, three),
        **with_head(split, (first - second) / 2.0, seen.setting, seen.labels),
    }


def _columns(seen: Evidence, dense: Callable[[float], Floats] | None, order: float) -> csr_matrix:
    prompt, a, b = (seen.terms[column] for column in COLUMNS)
    frequency = np.bincount((a + b + prompt).indices, minlength=prompt.shape[1])
    frequent = np.sort(np.argsort(-frequency, kind="stable")[:TREE_TERMS])
    parts = [part[:, frequent] for part in (prompt, *((a, b) if order > 0 else (b, a)))]
    if dense is not None:
        parts.append(csr_array(dense(order)))
    # LightGBM knows sparse matrices, not arrays.
    return csr_matrix(hstack(parts))


def train_boosted(
    columns: csr_matrix, target: npt.NDArray[np.generic], loss: Mapping[str, object], rounds: int
) -> lightgbm.Booster:
    """So many rounds of boosting under a loss."""
    import lightgbm

    return lightgbm.train({**BOOSTING, **loss}, lightgbm.Dataset(columns, target), rounds)


def all_peers(seen: Evidence, split: Split) -> dict[str, dict[str, Floats]]:
    """Each peer's out-of-fold probabilities, by what it learned from."""
    length, look = (Block(s, PENALTY["style"]) for s in (seen.style[:, :1], seen.style))
    apart = csr_array(seen.terms["response_a"] - seen.terms["response_b"])
    terms = Block(apart, PENALTY["terms"])
    return {
        "class prior of the other folds": prior(seen, split),
        "length logistic": linear(seen, split, [length], seen.setting[:, :2]),
        "style logistic": linear(seen, split, [look], seen.setting),
        "style + TF-IDF difference logistic": linear(seen, split, [terms, look], seen.setting),
        "TF-IDF + LightGBM": boosted(seen, split, None),
        "style + TF-IDF + LightGBM": boosted(
            seen, split, lambda order: np.hstack([order * seen.style, seen.setting])
        ),
    }
