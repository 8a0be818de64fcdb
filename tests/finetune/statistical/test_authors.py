"""What is made of who wrote the responses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from finetune.statistical.authors import author_probabilities, soften

Floats = npt.NDArray[np.float64]
A, B, TIE = np.eye(3)


def models(*pairs: tuple[str | None, str | None]) -> npt.NDArray[np.object_]:
    found = np.empty((len(pairs), 2), dtype=object)
    for row, pair in enumerate(pairs):
        found[row] = pair
    return found


def test_models_that_win_are_likelier_to() -> None:
    names = models(*[("strong", "weak")] * 8, ("weak", "strong"), ("weak", "other"))
    said = author_probabilities(names, np.array([A] * 8 + [B] + [A]))
    assert (said[:8] > 0.7).all()
    assert said[8] < 0.3
    assert np.isclose(said[0] + said[8], 1.0)


def test_battles_without_names_are_left_as_they_are() -> None:
    names = models(("x", "y"), ("x", None), ("", "y"), ("many", "x"))
    labels = np.array([A, B, TIE, B])
    said = author_probabilities(names, labels, ["many"])
    assert np.isnan(said).tolist() == [False, True, True, True]
    assert np.array_equal(soften(labels, said)[1:], labels[1:])
    nobody = author_probabilities(models((None, None), ("", "")), labels[:2])
    assert np.isnan(nobody).all()


def test_what_models_are_called_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(6, size=(80, 2))
    labels = np.eye(3)[rng.integers(3, size=80)]
    first, second = (
        author_probabilities(models(*((names[a], names[b]) for a, b in numbers)), labels)
        for names in ("abcdef", "zyxwvu")
    )
    assert np.allclose(first, second, atol=1e-4)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_softened_labels_are_shares(rows: list[tuple[int, float]], share: float) -> None:
    labels = np.eye(3)[[label for label, _ in rows]]
    author = np.array([said for _, said in rows])
    mixed = soften(labels, author, share)
    assert np.allclose(mixed.sum(axis=1), 1.0)
    assert (mixed >= 0).all()
    assert np.array_equal(soften(labels, author, 0.0), labels)
    assert np.allclose(soften(labels, author, 1.0)[:, 0], author)
    turned = soften(labels[:, [1, 0, 2]], 1.0 - author, share)
    assert np.allclose(turned, mixed[:, [1, 0, 2]])
