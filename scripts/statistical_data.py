"""The battles that the statistical judge learns from, and what is made of their labels.

Which prompts stand in the natural sample too, which battles are odd, and how far a label is
softened by what the models' strengths say of the battle.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.statistical.authors import author_probabilities, soften
from judge.battles import read_battles
from judge.comparing.leaks import Collector, Seen

Floats = npt.NDArray[np.float64]

POOL, SAMPLE = "arena_train.parquet", "arena_dev.csv"
# More battles with an empty response or two identical ones, from people who call ties as often.
ODD = ("pandalm_testset.parquet", "autoj_pairwise.parquet")
ANONYMOUS = ("not_llama",)  # stands for many models


def load(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, npt.NDArray[np.int64]]:
    """The battles to learn strength from; those to learn the head from, the natural sample first;
    and the latter's groups by prompt, -1 for battles that are not of the natural sample."""
    sample, pool = read_battles(folder / SAMPLE), read_battles(folder / POOL)
    asked = sample["prompt"].map(normalised)
    seen = stands_in(pool["prompt"].map(normalised), asked)
    more = [odd_ones(read_battles(folder / name)) for name in ODD]
    head = pd.concat([sample, *more], ignore_index=True)
    groups = np.full(len(head), -1, dtype=np.int64)
    groups[: len(sample)] = pd.factorize(asked)[0]
    return pool[~seen].reset_index(drop=True), head, groups


def odd_ones(battles: pd.DataFrame) -> pd.DataFrame:
    """The battles in which one response is empty or both are the same."""
    empty_a, empty_b = (
        battles[column].map(lambda turns: not "".join(turns).strip())
        for column in ("response_a", "response_b")
    )
    return battles[(empty_a != empty_b) | (battles["response_a"] == battles["response_b"])]


def stands_in(prompts: pd.Series, others: pd.Series) -> npt.NDArray[np.bool_]:
    """(N,) whether a prompt is among others, but for a few characters: the cosine of their TF-IDF
    weighted runs of four characters is above 0.85."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    runs = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 4), sublinear_tf=True)
    alike = runs.fit_transform(prompts) @ runs.transform(others).T
    nearest = np.asarray(alike.max(axis=1).todense()).ravel()
    return np.asarray((nearest > 0.85) | prompts.isin(set(others)).to_numpy())


def normalised(prompt: tuple[str, ...]) -> str:
    """A prompt without case, marks and spaces, to find the same one again."""
    return re.sub(r"\W+", " ", " ".join(prompt).lower()).strip()


def softened(battles: pd.DataFrame, labels: Floats) -> Floats:
    """(N, 3) labels of the training file, mixed with what the authors' strengths say."""
    models = battles[["model_a", "model_b"]].to_numpy(dtype=object)
    return soften(labels, author_probabilities(models, labels, ANONYMOUS))


def seen(folder: Path) -> Seen:
    """The marks of all that is learned from."""
    pool, head, groups = load(folder)
    collector = Collector()
    collector.add(pool, POOL)
    collector.add(head[groups >= 0], SAMPLE)
    for name in ODD:
        collector.add(odd_ones(read_battles(folder / name)), name)
    return collector.seen()
