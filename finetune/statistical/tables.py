"""Battles with the features that a statistical judge learns from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.ballots import CRITERIA
from judge.features.extraction import Extract, extract
from judge.features.grams import A, B, Grams
from judge.judges.statistical import buckets
from judge.parallel import ordered_map

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BUCKETS = 1 << 18
_BATCH = 256

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.bool_]
Texts = list[list[tuple[str, ...]]]


@dataclass(frozen=True)
class Table:
    """Battles with their features, N of them.

    Attributes:
        labels: (N, 3).
        natural: (N,) which are of the natural sample: the battles that the judge is for.
        found: their features; `grams` are those of the first batch only, all of them in `grams`.
        grams: the n-grams, a batch each; none where strengths are only learned from the table.
        signs: (N, BUCKETS) 1 for an n-gram that only A has, -1 for one that only B has.
    """

    labels: Floats
    natural: Rows
    found: Extract
    grams: list[Grams]
    signs: csr_array[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def context(self) -> Floats:
        """(N, m) features of the setting."""
        return self.found.context

    def take(self, rows: Ints, *, grams: bool = True) -> Table:
        """Those of the chosen battles, in ascending order; the n-grams, which take most of the
        memory, only where strengths are to be asked for."""
        responses = {c: values[:, rows] for c, values in self.found.responses.items()}
        return Table(
            labels=self.labels[rows],
            natural=self.natural[rows],
            found=replace(self.found, responses=responses, context=self.context[rows]),
            grams=list(_parts(self.grams, rows)) if grams else [],
            signs=self.signs[rows],
        )


def prepare(
    battles: pd.DataFrame, labels: Floats, natural: Rows | None = None, *, workers: int = 1
) -> Table:
    """The features of battles; all are of the natural sample unless `natural` says otherwise.

    Args:
        battles: a battle table, of one battle at least.
        labels: (N, 3).
        natural: (N,).
        workers: threads.
    """
    from scipy.sparse import vstack

    texts = [battles[c].tolist() for c in ("prompt", "response_a", "response_b")]
    cut = ([text[start : start + _BATCH] for text in texts] for start in _starts(len(battles)))
    parts, signs = [], []
    for found, sign in ordered_map(_read, cut, workers):
        parts.append(found)
        signs.append(sign)
    whole = replace(
        parts[0],
        responses={c: np.concatenate([p.responses[c] for p in parts], axis=1) for c in CRITERIA},
        context=np.concatenate([part.context for part in parts]),
    )
    return Table(
        labels=labels,
        natural=np.ones(len(battles), dtype=bool) if natural is None else natural,
        found=whole,
        grams=[part.grams for part in parts],
        signs=vstack(signs).tocsr(),
    )


def _starts(battles: int) -> range:
    return range(0, battles, _BATCH)


def _read(texts: Texts) -> tuple[Extract, csr_array[np.float64]]:
    """The features of a batch, and which n-grams are one-sided."""
    from scipy.sparse import csr_array

    found = extract(*texts)
    grams = found.grams
    sign = (grams.roles & A > 0).astype(np.float64) - (grams.roles & B > 0)
    one_sided = np.flatnonzero(sign)
    place = (grams.battle[one_sided], buckets(grams.hashes[one_sided], BUCKETS))
    return found, csr_array((sign[one_sided], place), shape=(grams.battles, BUCKETS))


def _parts(batches: list[Grams], rows: Ints) -> Iterator[Grams]:
    """The n-grams of the chosen battles, in batches as before."""
    start = 0
    for batch in batches:
        first, last = np.searchsorted(rows, [start, start + batch.battles])
        own = rows[first:last] - start
        start += batch.battles
        if not len(own):
            continue
        number = np.full(batch.battles, -1, dtype=np.int64)
        number[own] = np.arange(len(own))
        kept = number[batch.battle] >= 0
        yield Grams(
            battles=len(own),
            battle=number[batch.battle[kept]],
            hashes=batch.hashes[kept],
            families=batch.families[kept],
            roles=batch.roles[kept],
            counts=batch.counts[:, :, own],
        )
