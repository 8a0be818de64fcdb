"""Metrics against scikit-learn, by their properties, and on input that is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from judge.errors import ArenaJudgeError
from judge.metrics import (
    CLIP,
    accuracy,
    accuracy_rows,
    brier,
    brier_rows,
    calibration_error,
    class_prior,
    classwise_calibration_error,
    confidence,
    decided_accuracy,
    entropy,
    lean,
    log_loss,
    log_loss_rows,
    ranked_probability,
    ranked_probability_rows,
)

Floats = npt.NDArray[np.float64]

SWAP = [1, 0, 2]
EXACT = 1e-9


@st.composite
def _battles(draw: st.DrawFn, *, soft: bool = False) -> tuple[Floats, Floats]:
    """Labels and probabilities, some of them certain."""
    size = draw(st.integers(2, 80))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.05, 0.5, 1.0, 5.0]))
    proba = generator.dirichlet([spread] * 3, size)
    proba[generator.random(size) < 0.1] = [0.0, 1.0, 0.0]
    if soft:
        votes = generator.multinomial(draw(st.integers(1, 4)), [0.3, 0.3, 0.4], size)
        return votes / votes.sum(axis=1, keepdims=True), proba
    return np.eye(3)[generator.integers(3, size=size)], proba


@given(_battles())
def test_metrics_agree_with_scikit_learn(battles: tuple[Floats, Floats]) -> None:
    labels, proba = battles
    chosen = labels.argmax(axis=1)
    assert log_loss(labels, proba) == pytest.approx(
        reference.log_loss(chosen, proba, labels=[0, 1, 2]), abs=EXACT
    )
    assert brier(labels, proba) == pytest.approx(
        reference.brier_score_loss(chosen, proba, labels=[0, 1, 2], scale_by_half=False), abs=EXACT
    )
    hits = reference.accuracy_score(chosen, proba.argmax(axis=1))
    assert accuracy(labels, proba) == pytest.approx(hits, abs=EXACT)


@given(_battles())
def test_accuracy_on_decided_battles_agrees_with_scikit_learn(
    battles: tuple[Floats, Floats],
) -> None:
    labels, proba = battles
    decided = (labels[:, 2] == 0) & (proba[:, 0] != proba[:, 1])
    if not decided.any():
        assert np.isnan(decided_accuracy([[0, 0, 1]], [[0.2, 0.3, 0.5]]))
        return
    right = reference.accuracy_score(labels[decided, 0] == 1, proba[decided, 0] > proba[decided, 1])
    assert decided_accuracy(labels[decided], proba[decided]) == pytest.approx(right, abs=EXACT)
    ties = np.tile([0.0, 0.0, 1.0], (3, 1))
    more = np.vstack([labels[decided], ties]), np.vstack([proba[decided], ties])
    assert decided_accuracy(*more) == pytest.approx(right, abs=EXACT)


def test_sides_that_are_equally_probable_share_a_decided_battle() -> None:
    labels, proba = [[1, 0, 0], [1, 0, 0]], [[0.3, 0.3, 0.4], [0.2, 0.1, 0.7]]
    assert decided_accuracy(labels, proba) == 0.75


@given(_battles())
def test_sharpness_agrees_with_scipy(battles: tuple[Floats, Floats]) -> None:
    labels, proba = battles
    assert entropy(proba) == pytest.approx(scipy_entropy(proba, axis=1).mean(), abs=EXACT)
    assert confidence(proba) == pytest.approx(proba.max(axis=1).mean(), abs=EXACT)
    assert entropy(labels) == 0
    assert confidence(labels) == 1


@given(_battles(soft=True))
def test_the_ranked_probability_score_is_the_mean_over_the_cuts_of_the_order(
    battles: tuple[Floats, Floats],
) -> None:
    labels, proba = battles
    ordered = [0, 2, 1]
    gaps = (proba[:, ordered].cumsum(axis=1) - labels[:, ordered].cumsum(axis=1))[:, :2]
    expected = (gaps**2).mean()
    assert ranked_probability(labels, proba) == pytest.approx(expected, abs=EXACT)


def test_a_tie_is_nearer_to_a_win_than_a_loss_is() -> None:
    won = [[1.0, 0.0, 0.0]]
    assert ranked_probability(won, [[0, 0, 1.0]]) == 0.5
    assert ranked_probability(won, [[0, 1.0, 0]]) == 1.0
    assert ranked_probability([[0, 0, 1.0]], [[0, 1.0, 0]]) == 0.5


def test_a_judge_that_gives_more_to_a_than_people_do_leans_to_it() -> None:
    labels, proba = np.eye(3), np.tile([0.6, 0.2, 0.2], (3, 1))
    assert lean(labels, proba) == pytest.approx(0.4)
    assert lean(labels, proba[:, SWAP]) == pytest.approx(-0.4)
    assert lean(labels, labels) == 0


@given(_battles(soft=True))
def test_a_soft_label_counts_as_its_voters_would(battles: tuple[Floats, Floats]) -> None:
    labels, proba = battles
    rows, classes = np.nonzero(labels)
    weights = labels[rows, classes]
    top = proba.argmax(axis=1)
    if (np.sort(proba, axis=1)[:, 1] < proba.max(axis=1)).all():
        hits = reference.accuracy_score(classes, top[rows], sample_weight=weights)
        assert accuracy(labels, proba) == pytest.approx(hits, abs=EXACT)
    expected = reference.log_loss(
        classes, proba[rows], labels=[0, 1, 2], sample_weight=weights / weights.sum()
    )
    assert log_loss(labels, proba) == pytest.approx(expected, abs=EXACT)


@given(_battles(), st.sampled_from(["uniform", "quantile"]))
def test_classwise_calibration_error_agrees_with_scikit_learn_s_curve(
    battles: tuple[Floats, Floats], strategy: str
) -> None:
    labels, proba = battles
    # Quantile bins coincide only where the bins divide the battles and no two are alike.
    if strategy == "quantile":
        proba = np.random.default_rng(len(proba)).dirichlet([1.0] * 3, 60)
        labels = np.resize(labels, (60, 3))
    errors = []
    for label, p in zip(labels.T, proba.T, strict=True):
        true, predicted = calibration_curve(label, p, n_bins=10, strategy=strategy)
        if strategy == "uniform":
            sizes = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], p), minlength=10)
        else:
            sizes = np.full(10, 6)
        errors.append((sizes[sizes > 0] * np.abs(true - predicted)).sum() / len(p))
    found = classwise_calibration_error(labels, proba, bins=10, adaptive=strategy == "quantile")
    assert found == pytest.approx(np.mean(errors), abs=EXACT)


def test_calibration_error_of_a_case_worked_by_hand() -> None:
    proba = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]]
    labels = [[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]
    # Bins of a fifth: {0.8, 0.8} is right once in two, {0.5, 0.6} twice in two.
    expected = 0.5 * abs(0.8 - 0.5) + 0.5 * abs(0.55 - 1.0)
    assert calibration_error(labels, proba, bins=5) == pytest.approx(expected, abs=EXACT)
    assert calibration_error(labels, proba, bins=2, adaptive=True) == pytest.approx(
        expected, abs=EXACT
    )


@pytest.mark.parametrize(
    ("seed", "size", "bins", "equal_width", "equal_mass"),
    [
        (0, 200, 10, 0.06107866209649749, 0.09177030722254206),
        (0, 200, 15, 0.06383423358185465, None),
        (1, 1000, 10, 0.03213829950019867, 0.04147394997632599),
        (1, 1000, 15, 0.051875028504416984, None),
        (2, 57, 10, 0.18860591168565213, None),
        (2, 57, 15, 0.20272106119183797, None),
    ],
)
def test_calibration_error_agrees_with_netcal(
    seed: int, size: int, bins: int, equal_width: float, equal_mass: float | None
) -> None:
    """The figures are those of netcal 1.4.0, `ECE(bins).measure(proba, chosen)` and
    `ACE(bins, equal_intervals=False)`, on these very draws (numpy 2.4). Where the bins do not
    divide the battles, netcal's of equal mass overlap, and ours do not."""
    generator = np.random.default_rng(seed)
    proba = generator.dirichlet([1.0] * 3, size)
    chosen = (generator.random((size, 1)) > proba.cumsum(axis=1)[:, :2]).sum(axis=1)
    labels = np.eye(3)[chosen]
    assert calibration_error(labels, proba, bins=bins) == pytest.approx(equal_width, abs=EXACT)
    if equal_mass is not None:
        found = calibration_error(labels, proba, bins=bins, adaptive=True)
        assert found == pytest.approx(equal_mass, abs=EXACT)


@given(_battles(soft=True), st.booleans(), st.integers(1, 30))
def test_calibration_errors_do_not_depend_on_the_order_of_battles(
    battles: tuple[Floats, Floats], adaptive: bool, bins: int
) -> None:
    labels, proba = battles
    proba = proba.round(1) + (1 - proba.round(1).sum(axis=1, keepdims=True)) / 3
    proba = np.clip(proba, 0, None) / np.clip(proba, 0, None).sum(axis=1, keepdims=True)
    for metric in (calibration_error, classwise_calibration_error):
        forward = metric(labels, proba, bins=bins, adaptive=adaptive)
        backward = metric(labels[::-1], proba[::-1], bins=bins, adaptive=adaptive)
        assert forward == pytest.approx(backward, abs=EXACT)
        assert 0 <= forward <= 1


@given(_battles(soft=True))
def test_metrics_do_not_care_which_response_is_called_a(battles: tuple[Floats, Floats]) -> None:
    labels, proba = battles
    for metric in (
        *(log_loss, brier, accuracy, ranked_probability, decided_accuracy),
        *(calibration_error, classwise_calibration_error),
    ):
        if metric is decided_accuracy and not labels[:, :2].any():
            continue
        assert metric(labels, proba) == pytest.approx(
            metric(labels[:, SWAP], proba[:, SWAP]), abs=EXACT
        )


@given(_battles(soft=True))
def test_rows_have_the_mean_that_the_metric_states(battles: tuple[Floats, Floats]) -> None:
    for rows, metric in (
        (log_loss_rows, log_loss),
        (brier_rows, brier),
        (accuracy_rows, accuracy),
        (ranked_probability_rows, ranked_probability),
    ):
        values = rows(*battles)
        assert values.shape == (len(battles[0]),)
        assert metric(*battles) == pytest.approx(values.mean(), abs=EXACT)


@given(_battles(soft=True), st.integers(0, 2**32))
def test_no_constant_beats_the_class_prior(battles: tuple[Floats, Floats], seed: int) -> None:
    labels, _ = battles
    prior = np.tile(class_prior(labels), (len(labels), 1))
    other = np.tile(np.random.default_rng(seed).dirichlet([1, 1, 1]), (len(labels), 1))
    assert log_loss(labels, prior) <= log_loss(labels, other) + EXACT
    assert calibration_error(labels, prior, adaptive=True) == pytest.approx(0.0, abs=EXACT)


def test_a_shared_maximum_is_decided_by_lot() -> None:
    labels = [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    proba = [[0.6, 0.3, 0.1], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2]]
    assert accuracy_rows(labels, proba).tolist() == [0.5, 0.5, 0.5]


def test_a_verdict_is_right_for_as_many_as_voted_for_it() -> None:
    labels = [[2 / 3, 1 / 3, 0.0]] * 2
    proba = [[0.6, 0.3, 0.1], [0.3, 0.6, 0.1]]
    assert accuracy_rows(labels, proba) == pytest.approx([2 / 3, 1 / 3])
    assert decided_accuracy(labels[:1], proba[:1]) == pytest.approx(2 / 3)


def test_certain_and_wrong_costs_a_finite_amount() -> None:
    loss = log_loss([[1, 0, 0]], [[0.0, 1.0, 0.0]])
    assert loss == pytest.approx(-np.log(CLIP))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.2, 0.3, 0.5], r"shape \(N, 3\)"),
        ([[0.5, 0.5]], r"shape \(N, 3\)"),
        (np.empty((0, 3)), "empty"),
        ([[0.2, 0.3, 0.5], [np.nan] * 3], "NaN or infinity in row 1"),
        ([[np.inf, 0, 0]], "NaN or infinity in row 0"),
        ([[0.5, 0.5, 0.5]], "sum to 1; row 0"),
        ([[1.5, -0.5, 0.0]], "sum to 1; row 0"),
        ([["a", "b", "c"]], "numbers"),
        ([[1, 0, 0], [1, 0]], "numbers"),
    ],
)
def test_what_is_no_distribution_is_refused(values: npt.ArrayLike, said: str) -> None:
    good = [[0.2, 0.3, 0.5]]
    metrics = (log_loss, brier, accuracy, ranked_probability, decided_accuracy, lean)
    for metric in (*metrics, calibration_error, classwise_calibration_error):
        with pytest.raises(ArenaJudgeError, match=said):
            metric(good, values)
        with pytest.raises(ArenaJudgeError, match=said):
            metric(values, good)
    for alone in (class_prior, entropy, confidence):
        with pytest.raises(ArenaJudgeError, match=said):
            alone(values)


def test_labels_and_probabilities_must_be_as_many() -> None:
    with pytest.raises(ArenaJudgeError, match="2 labels but 1 probabilities"):
        log_loss([[1, 0, 0], [0, 1, 0]], [[0.2, 0.3, 0.5]])


@pytest.mark.parametrize("bins", [0, -1])
def test_bins_must_be_at_least_one(bins: int) -> None:
    with pytest.raises(ArenaJudgeError, match="one bin at least"):
        calibration_error([[1, 0, 0]], [[0.2, 0.3, 0.5]], bins=bins)
