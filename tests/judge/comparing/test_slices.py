"""Slices: every battle is in one, small ones are pooled and not dropped, p-values are corrected."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.comparing.slices import Slices, compare_slices
from judge.comparing.slicing import columns_wanted, parts, slicings
from judge.comparison import compare
from judge.errors import InputError
from judge.metrics import class_prior, log_loss

N = 400


def facts(rng: np.random.Generator, count: int = N) -> pd.DataFrame:
    lengths = rng.integers(0, 3000, size=(2, count))
    models = np.array([f"m{k}" for k in range(6)], dtype=object)
    return pd.DataFrame(
        {
            "turns": rng.choice([1, 2, 3, 7], size=count, p=[0.6, 0.2, 0.1, 0.1]),
            "a_characters": lengths[0],
            "b_characters": lengths[1],
            "length_difference": np.log1p(lengths[0]) - np.log1p(lengths[1]),
            "language": rng.choice(["en", "de", "fr"], size=count, p=[0.8, 0.15, 0.05]),
            "code": rng.random(count) < 0.3,
            "category": rng.choice(np.array(["math", "chat", None], dtype=object), size=count),
            "model_a": models[rng.integers(6, size=count)],
            "model_b": models[rng.integers(6, size=count)],
        }
    )


def judged(rng: np.random.Generator, count: int = N) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    labels = np.eye(3)[rng.integers(3, size=count)]
    sharp = 0.6 * labels + 0.4 / 3
    noise = rng.dirichlet([8, 8, 8], size=count)
    return labels, {"good": 0.5 * sharp + 0.5 * noise, "poor": noise}


def sliced(seed: int = 0, **options: object) -> tuple[Slices, pd.DataFrame, np.ndarray, dict]:
    rng = np.random.default_rng(seed)
    table, (labels, proba) = facts(rng), judged(rng)
    arguments = {"best": "good", "groups": np.arange(N) // 2, "rounds": 200, **options}
    return compare_slices(labels, proba, table, **arguments), table, labels, proba  # type: ignore[arg-type]


@pytest.mark.parametrize("by", [name for name in slicings() if name != "model"])
@given(seed=st.integers(0, 1000), least=st.sampled_from([1, 30, 1000]))
def test_every_battle_is_in_one_slice(by: str, seed: int, least: int) -> None:
    table = facts(np.random.default_rng(seed), 150)
    found = parts(table, by, least)
    np.testing.assert_array_equal(np.sum([part.rows for part in found], axis=0), 1)
    assert all(part.rows.any() for part in found)
    assert len({part.name for part in found}) == len(found)


def test_by_model_a_battle_is_in_two_but_for_one_against_itself() -> None:
    table = facts(np.random.default_rng(1))
    found = parts(table, "model", 1)
    itself = (table["model_a"] == table["model_b"]).to_numpy()
    np.testing.assert_array_equal(np.sum([part.rows for part in found], axis=0), 2 - itself)
    for part in found:
        there = (table["model_a"] == part.name) | (table["model_b"] == part.name)
        np.testing.assert_array_equal(part.rows, there)


def test_small_slices_are_pooled_with_their_names() -> None:
    table = facts(np.random.default_rng(2))
    table.loc[:4, "language"] = ["eo", "la", "cy", "eu", "eo"]
    *large, rest = parts(table, "language", 10)
    assert large[0].name == "en"
    assert (rest.name, rest.pooled) == ("others (4)", ("eo", "cy", "eu", "la"))
    assert rest.rows.sum() == 5
    # One alone has nobody to be pooled with: it stays, and is small.
    table.loc[:4, "language"] = "eo"
    *_, last = parts(table, "language", 10)
    assert (last.name, last.pooled, int(last.rows.sum())) == ("eo", (), 5)


def test_thirds_are_as_equal_as_ties_let_them_be() -> None:
    table = facts(np.random.default_rng(3))
    sizes = [int(part.rows.sum()) for part in parts(table, "length", 1)]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 4
    table["a_characters"], table["b_characters"] = 5, 5
    assert len(parts(table, "length", 1)) == 1
    table.loc[:9, "a_characters"] = 9
    low, high = parts(table, "length", 1)
    assert (int(low.rows.sum()), int(high.rows.sum())) == (N - 10, 10)


def test_the_way_round_does_not_matter_for_length_difference() -> None:
    table = facts(np.random.default_rng(4))
    turned = table.assign(length_difference=-table["length_difference"])
    for one, two in zip(
        parts(table, "length-difference", 1), parts(turned, "length-difference", 1), strict=True
    ):
        assert one.name == two.name
        np.testing.assert_array_equal(one.rows, two.rows)


def test_a_slice_is_measured_as_the_whole_would_be() -> None:
    found, table, labels, proba = sliced(by=["code"], rounds=300)
    prior = class_prior(labels)
    code = table["code"].to_numpy()
    for part, rows in zip(found.slices, (code, ~code), strict=True):
        assert part.battles == rows.sum()
        assert part.prior == pytest.approx(log_loss(labels[rows], np.tile(prior, (rows.sum(), 1))))
        alone = compare(
            labels[rows],
            {name: p[rows] for name, p in proba.items()},
            groups=(np.arange(N) // 2)[rows],
            rounds=300,
        )
        levels = {score.name: score for score in alone.scores}
        for score in part.scores:
            own = levels[score.name]
            assert score.log_loss == pytest.approx(own.log_loss)
            assert (score.low, score.high) == pytest.approx((own.low, own.high))
            if score.name == "poor":
                assert score.against_best is not None
                assert own.against_best is not None
                assert score.against_best.value == pytest.approx(own.against_best.value)
                assert score.against_best.low == pytest.approx(own.against_best.low)
            else:
                assert score.against_best is None


def test_p_values_are_corrected_for_all_that_was_asked() -> None:
    few = sliced(by=["code"])[0]
    many = sliced()[0]
    assert few.tests == (4, 2)
    assert many.tests[0] == 2 * len(many.slices)
    assert many.tests[1] == len(many.slices)
    alone = {s.name: s.against_prior for part in few.slices[:1] for s in part.scores}
    among = {
        s.name: s.against_prior
        for part in many.slices
        if (part.by, part.name) == ("code", few.slices[0].name)
        for s in part.scores
    }
    for name, gap in alone.items():
        assert among[name].p_value == pytest.approx(gap.p_value)
        assert among[name].p_holm >= gap.p_holm >= gap.p_value


def test_chance_alone_stands_out_nowhere() -> None:
    """A judge that says the prior of each battle's slice at random: no slice may be significant
    more often than one time in twenty, over all slices of a table."""
    hits = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        table = facts(rng)
        labels = np.eye(3)[rng.integers(3, size=N)]
        tilt = rng.choice([0.9, 1.1], size=(N, 1))
        proba = np.hstack([tilt, 2 - tilt, np.ones((N, 1))]) / 3
        found = compare_slices(
            labels, {"j": proba}, table, best="j", groups=np.arange(N), rounds=100, seed=seed
        )
        gaps = [score.against_prior for part in found.slices for score in part.scores]
        hits += any(gap.told_apart and gap.value < 0 for gap in gaps)
    assert hits <= 6


def test_battles_without_label_and_without_judgment_are_left_out_and_counted() -> None:
    rng = np.random.default_rng(5)
    table, (labels, proba) = facts(rng), judged(rng)
    labels[:40] = np.nan
    proba["poor"][40:60] = np.nan
    found = compare_slices(
        labels, proba, table, best="good", groups=np.arange(N), by=["code"], rounds=100
    )
    assert sum(part.battles for part in found.slices) == 360
    counts = {
        name: [sum(getattr(s, name) for p in found.slices for s in p.scores if s.name == "poor")]
        for name in ("battles", "unjudged")
    }
    assert counts == {"battles": [340], "unjudged": [20]}
    frame = found.to_frame()
    assert len(frame) == 2 * len(found.slices)
    assert frame["against_prior_p_holm"].notna().all()


def test_a_judge_that_judged_nothing_of_a_slice_is_shown_all_the_same() -> None:
    rng = np.random.default_rng(6)
    table, (labels, proba) = facts(rng), judged(rng)
    proba["poor"][table["code"].to_numpy()] = np.nan
    found = compare_slices(
        labels, proba, table, best="good", groups=np.arange(N), by=["code"], rounds=100
    )
    poor = next(score for score in found.slices[0].scores if score.name == "poor")
    assert (poor.battles, poor.unjudged) == (0, found.slices[0].battles)
    assert np.isnan([poor.log_loss, poor.against_prior.value]).all()


def test_what_is_not_there_is_said_if_it_was_asked_for() -> None:
    table = facts(np.random.default_rng(7)).assign(category=None)
    rng = np.random.default_rng(7)
    labels, proba = judged(rng)
    options = {"best": "good", "groups": np.arange(N), "rounds": 100}
    with pytest.raises(InputError, match="'category'"):
        compare_slices(labels, proba, table, by=["category"], **options)  # type: ignore[arg-type]
    table["language"] = "en"
    found = compare_slices(labels, proba, table, **options)  # type: ignore[arg-type]
    assert {part.by for part in found.slices}.isdisjoint({"category", "language"})
    assert found.alone == (("language", "en"),)


def test_a_column_of_the_file_will_do() -> None:
    assert columns_wanted(["turns", "source", "length"]) == ["source"]
    table = facts(np.random.default_rng(8)).assign(source=np.arange(N) % 2)
    found = parts(table, "source", 1)
    assert [part.name for part in found] == ["0", "1"]
