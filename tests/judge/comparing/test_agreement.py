"""Agreement of verdicts and labels, against scikit-learn, statsmodels and krippendorff."""

from __future__ import annotations

import krippendorff
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference
from statsmodels.stats.inter_rater import cohens_kappa

from judge.comparing.agreement import cohen_kappa, confusion, krippendorff_alpha, macro_f1

Floats = npt.NDArray[np.float64]

EXACT = 1e-9


@st.composite
def _verdicts(draw: st.DrawFn) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Labels and verdicts as classes; some classes may not occur."""
    size = draw(st.integers(2, 60))
    classes = draw(st.sampled_from([[0, 1, 2], [0, 2], [1]]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return generator.choice(classes, size), generator.integers(3, size=size)


def _sure(verdicts: npt.NDArray[np.int64], generator: np.random.Generator) -> Floats:
    """Probabilities whose largest is that of the verdict."""
    proba = generator.dirichlet([1.0] * 3, len(verdicts)) / 2
    proba[np.arange(len(verdicts)), verdicts] += 0.5 + 1e-9
    return np.asarray(proba / proba.sum(axis=1, keepdims=True))


@given(_verdicts())
def test_the_confusion_matrix_and_f1_agree_with_scikit_learn(
    drawn: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> None:
    labels, verdicts = drawn
    matrix = confusion(np.eye(3)[labels], _sure(verdicts, np.random.default_rng(0)))
    expected = reference.confusion_matrix(labels, verdicts, labels=[0, 1, 2])
    np.testing.assert_allclose(matrix, expected, atol=EXACT)
    f1 = reference.f1_score(labels, verdicts, average="macro", zero_division=0)
    assert macro_f1(matrix) == pytest.approx(f1, abs=EXACT)


@given(_verdicts())
def test_kappa_agrees_with_scikit_learn_and_statsmodels(
    drawn: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> None:
    labels, verdicts = drawn
    matrix = reference.confusion_matrix(labels, verdicts, labels=[0, 1, 2])
    if len(set(labels)) == len(set(verdicts)) == 1 and labels[0] == verdicts[0]:
        assert np.isnan(cohen_kappa(matrix))
        return
    kappa = reference.cohen_kappa_score(labels, verdicts, labels=[0, 1, 2])
    assert cohen_kappa(matrix) == pytest.approx(kappa, abs=EXACT)
    assert cohen_kappa(matrix) == pytest.approx(
        cohens_kappa(matrix, return_results=False), abs=EXACT
    )


@given(_verdicts())
def test_alpha_agrees_with_krippendorff(
    drawn: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> None:
    labels, verdicts = drawn
    matrix = reference.confusion_matrix(labels, verdicts, labels=[0, 1, 2])
    if len({*labels, *verdicts}) == 1:
        assert np.isnan(krippendorff_alpha(matrix))
        return
    alpha = krippendorff.alpha(
        reliability_data=np.array([labels, verdicts], dtype=float), level_of_measurement="nominal"
    )
    assert krippendorff_alpha(matrix) == pytest.approx(alpha, abs=EXACT)


@given(st.integers(0, 2**32))
def test_votes_that_differ_count_in_shares(seed: int) -> None:
    generator = np.random.default_rng(seed)
    votes = generator.multinomial(3, [0.4, 0.3, 0.3], 30)
    proba = _sure(generator.integers(3, size=30), generator)
    rows, classes = (
        np.repeat(np.arange(30), 3),
        np.concatenate([np.repeat(range(3), v) for v in votes]),
    )
    matrix = confusion(votes / 3, proba)
    each = confusion(np.eye(3)[classes], proba[rows])
    np.testing.assert_allclose(3 * matrix, each, atol=EXACT)
    assert matrix.sum() == pytest.approx(30)
    kappa = reference.cohen_kappa_score(classes, proba.argmax(axis=1)[rows], labels=[0, 1, 2])
    assert cohen_kappa(matrix) == pytest.approx(kappa, abs=EXACT)


def test_a_constant_judge_agrees_by_chance_alone() -> None:
    labels = np.eye(3)[[0, 0, 1, 2, 2]]
    matrix = confusion(labels, np.tile([0.2, 0.2, 0.6], (5, 1)))
    assert cohen_kappa(matrix) == 0
    assert krippendorff_alpha(matrix) < 0


def test_what_cannot_be_said_is_nan() -> None:
    ties = confusion([[0, 0, 1.0]] * 4, [[0.1, 0.1, 0.8]] * 4)
    assert np.isnan(cohen_kappa(ties))
    assert np.isnan(krippendorff_alpha(ties))
    assert macro_f1(ties) == 1
    nothing = np.zeros((3, 3))
    assert np.isnan([cohen_kappa(nothing), krippendorff_alpha(nothing), macro_f1(nothing)]).all()


def test_swapping_the_responses_changes_no_agreement() -> None:
    generator = np.random.default_rng(1)
    matrix = generator.random((3, 3)) * 10
    swapped = matrix[[1, 0, 2]][:, [1, 0, 2]]
    for measure in (macro_f1, cohen_kappa, krippendorff_alpha):
        assert measure(matrix) == pytest.approx(measure(swapped), abs=EXACT)
