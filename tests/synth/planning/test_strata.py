"""Strata: bands have names, rare words go together, no cell is too small to draw from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.errors import InputError
from synth.strata import Aspect, aspects_of, closest, limits, stratify


def facts(**columns: list[object]) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    plain: dict[str, object] = {
        "length": [500] * size,
        "turns": [1] * size,
        "language": ["en"] * size,
        "category": ["other"] * size,
    }
    table = {name: pd.Series(cells) for name, cells in (plain | columns).items()}
    for name in columns.keys() - {"length", "turns"}:
        table[name] = pd.Series(columns[name], dtype=object)
    return pd.DataFrame(table)


def found(
    table: pd.DataFrame,
    by: tuple[str, ...] | None = None,
    closeness: object = None,
    unwritten: object = None,
    sources: list[str] | None = None,
) -> dict[str, list[str]]:
    """What each battle is by each aspect."""
    size = len(table)
    aspects = aspects_of(
        table,
        np.full(size, np.nan) if closeness is None else np.array(closeness, dtype=float),
        np.zeros(size, bool) if unwritten is None else np.array(unwritten, dtype=bool),
        sources or ["a.csv"] * size,
        by,
    )
    return {one.name: [one.values[code] for code in one.of.tolist()] for one in aspects}


def test_numbers_are_banded_and_words_are_named() -> None:
    table = facts(length=[999, 1000, 3000, 8000, 5], turns=[1, 2, 1, 9, 1])
    by = found(table, unwritten=[0, 0, 0, 0, 1])
    assert by["length"] == ["short", "medium", "long", "very long", "unwritten"]
    assert by["turns"] == ["1 turn", "more turns", "1 turn", "more turns", "1 turn"]
    assert list(by) == ["length", "turns"]  # battles differ in nothing else


def test_rare_languages_are_others() -> None:
    languages = [f"l{n:02}" for n in range(12) for _ in range(20 - n)]
    by = found(facts(language=languages), ("language",))["language"]
    assert set(by) == {*(f"l{n:02}" for n in range(8)), "other"}
    assert by.count("other") == sum(20 - n for n in range(8, 12))


def test_closeness_is_in_thirds_and_the_unjudged_are_apart() -> None:
    closeness = [0.1, 0.5, 0.9, 0.2, 0.6, 0.95, np.nan]
    table = facts(length=[5] * 7)
    by = found(table, ("closeness",), closeness)["closeness"]
    assert by == ["clear", "middle", "close", "clear", "middle", "close", "not judged"]
    assert closest(np.array(closeness)).tolist() == [False, False, True, False, False, True, False]
    assert limits(np.array(closeness)) == (0.2, 0.6)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_where_all_are_as_close_none_is_the_closest(value: float) -> None:
    assert not closest(np.full(6, value)).any()
    assert found(facts(length=[5] * 6), None, [value] * 6) == {}


def test_other_columns_are_named_or_banded_and_may_be_empty() -> None:
    table = facts(topic=["x", "y", None, "x"] * 10, score=[str(n / 2) for n in range(39)] + [None])
    by = found(table, ("topic", "score", "source"), sources=["a.csv"] * 30 + ["b.csv"] * 10)
    assert by["topic"][:4] == ["x", "y", "not said", "x"]
    assert by["score"][0] == "to 4.5"
    assert by["score"][10] == "4.5 to 9.5"
    assert by["score"][38:] == ["over 14.5", "not said"]
    assert by["source"] == ["a.csv"] * 30 + ["b.csv"] * 10


def test_a_column_that_says_nothing_is_an_error_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"no battle says anything of 'topic'.*category, length"):
        found(facts(topic=[None, None]), ("topic",))


def test_cells_that_are_too_small_go_together_by_what_was_named_first() -> None:
    first = Aspect("one", ("p", "q"), np.repeat([0, 1], [950, 50]))
    second = Aspect("two", ("x", "y", "z"), np.array([0] * 930 + [1] * 12 + [2] * 8 + [0] * 50))
    strata = stratify([first, second], 1000)
    sizes = dict(zip(strata.names, np.bincount(strata.of).tolist(), strict=True))
    assert sizes == {"p | x": 930, "p | others": 20, "q | x": 50}


def test_one_small_cell_keeps_its_name() -> None:
    one = Aspect("one", ("p", "q"), np.array([0] * 995 + [1] * 5))
    assert stratify([one], 1000).names == ("p", "q")


def test_without_aspects_there_is_one_stratum() -> None:
    strata = stratify([], 7)
    assert strata.names == ("all",)
    assert strata.of.tolist() == [0] * 7


@given(st.integers(1, 400), st.lists(st.integers(1, 9), max_size=4), st.integers(0, 99))
def test_every_battle_is_in_one_stratum_and_few_strata_are_small(
    battles: int, values: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    aspects = []
    for number, most in enumerate(values):
        codes = np.minimum(rng.geometric(0.4, battles) - 1, most - 1)
        there, of = np.unique(codes, return_inverse=True)
        aspects.append(Aspect(f"a{number}", tuple(f"v{code}" for code in there), of))
    strata = stratify(aspects, battles)
    sizes = np.bincount(strata.of, minlength=len(strata.names))
    assert len(sizes) == len(strata.names) == len(set(strata.names))
    assert sizes.sum() == battles
    assert (sizes > 0).all()
    assert (sizes < min(20, max(1, battles // 50))).sum() <= 1
    assert list(strata.names) == sorted(strata.names)
