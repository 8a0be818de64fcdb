"""Forests say what a walk down each tree says."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.trees import Forest

Floats = npt.NDArray[np.float64]
# A leaf's value, or a column, a threshold, and what lies left and right.
Tree = float | tuple[int, float, "Tree", "Tree"]

COLUMNS = 4
VALUES = st.sampled_from([-2.0, -0.5, 0.0, 0.1, 0.5, 1.0, 3.0]) | st.floats(-5, 5, width=32)


def _split(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.tuples(st.integers(0, COLUMNS - 1), VALUES, children, children)


TREE: st.SearchStrategy[Tree] = st.recursive(VALUES, _split, max_leaves=12)
ROWS = st.lists(st.lists(VALUES, min_size=COLUMNS, max_size=COLUMNS), max_size=6)


def _walk(tree: Tree, row: list[float]) -> float:
    if not isinstance(tree, tuple):
        return tree
    column, threshold, left, right = tree
    goes_right = np.float32(row[column]) > np.float32(threshold)
    return _walk(right if goes_right else left, row)


def _deepest(tree: Tree) -> int:
    return 1 + max(map(_deepest, tree[2:])) if isinstance(tree, tuple) else 0


def _forest(trees: list[Tree]) -> Forest:
    nodes: list[tuple[int, float, int, int, float]] = []

    def add(tree: Tree) -> int:
        here = len(nodes)
        nodes.append((0, 0.0, here, here, 0.0))
        if isinstance(tree, tuple):
            column, threshold, left, right = tree
            nodes[here] = (column, threshold, add(left), add(right), 0.0)
        else:
            nodes[here] = (0, 0.0, here, here, tree)
        return here

    roots = [add(tree) for tree in trees]
    table = np.array(nodes, dtype=np.float64).reshape(-1, 5)
    return Forest(
        roots=np.array(roots, dtype=np.int32),
        feature=table[:, 0].astype(np.int32),
        threshold=table[:, 1].astype(np.float32),
        children=table[:, 2:4].astype(np.int32),
        value=table[:, 4].astype(np.float32),
        depth=max(map(_deepest, trees), default=0),
    )


def _rows(rows: list[list[float]]) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(-1, COLUMNS)


@settings(deadline=None, max_examples=150)
@given(st.lists(TREE, max_size=5), ROWS)
def test_a_forest_is_the_sum_of_its_trees(trees: list[Tree], rows: list[list[float]]) -> None:
    found = _forest(trees).predict(_rows(rows))
    assert found.dtype == np.float64
    assert found.shape == (len(rows),)
    expected = [sum(float(np.float32(_walk(tree, row))) for tree in trees) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(TREE, max_size=3), ROWS)
def test_a_forest_comes_back_from_a_file(trees: list[Tree], rows: list[list[float]]) -> None:
    forest, file = _forest(trees), io.BytesIO()
    np.savez(file, allow_pickle=False, **forest.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = Forest.from_arrays(dict(stored))
    assert again.depth == forest.depth
    assert np.array_equal(again.predict(_rows(rows)), forest.predict(_rows(rows)))


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 1.0), (0.5000001, 2.0), (0.4, 1.0), (-9e9, 1.0), (9e9, 2.0)]
)
def test_a_row_goes_left_at_the_threshold(value: float, expected: float) -> None:
    forest = _forest([(0, 0.5, 1.0, 2.0)])
    assert forest.predict(np.array([[value, 0, 0, 0]])).tolist() == [expected]


def test_trees_of_different_depths_wait_for_the_deepest() -> None:
    chain: Tree = 100.0
    for column in range(COLUMNS):
        chain = (column, 0.0, -1.0, chain)
    forest = _forest([chain, 10.0, (0, 0.0, 1.0, 2.0)])
    assert forest.predict(np.ones((1, COLUMNS))).tolist() == [112.0]
    assert forest.predict(-np.ones((1, COLUMNS))).tolist() == [10.0]


def test_the_rows_do_not_depend_on_each_other() -> None:
    random = np.random.default_rng(3)
    forest = _forest([(n % 4, 0.1 * n, float(n), (n % 3, 0.0, 0.5, -n / 7)) for n in range(40)])
    rows = random.normal(size=(50, COLUMNS))
    together = forest.predict(rows)
    assert np.array_equal(np.concatenate([forest.predict(row[None]) for row in rows]), together)
    assert np.array_equal(forest.predict(rows[::-1]), together[::-1])
    assert np.array_equal(forest.predict(np.asfortranarray(rows)), together)
