"""Forests of regression trees, evaluated with numpy alone.

Trees are stored as flat arrays, so that all trees and all rows take each step down together: the
cost of a prediction is a few array operations a level, whatever the number of trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Forest:
    """T trees over M nodes in all.

    A row goes left where its value is at most the threshold. A leaf is its own child on both sides,
    so a row that has arrived stays.

    Attributes:
        roots: (T,) each tree's first node.
        feature: (M,) the column that a node looks at.
        threshold: (M,) float32.
        children: (M, 2) the next node, left then right.
        value: (M,) what a leaf adds.
        depth: steps from a root to its deepest leaf.
    """

    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    children: npt.NDArray[np.int32]
    value: npt.NDArray[np.float32]
    depth: int

    def predict(self, columns: Floats) -> Floats:
        """(N,) sum of the trees' leaves for (N, k) columns."""
        rows = len(columns)
        values = np.ascontiguousarray(columns, dtype=np.float32)
        base = (np.arange(rows, dtype=np.int32) * values.shape[1])[:, None]
        flat, children = values.ravel(), self.children.ravel()
        node = np.broadcast_to(self.roots, (rows, len(self.roots)))
        for _ in range(self.depth):
            right = flat[base + self.feature[node]] > self.threshold[node]
            node = children[2 * node + right]
        return np.asarray(self.value[node].sum(axis=1, dtype=np.float64))

    def is_sound(self, columns: int) -> bool:
        """Whether every node has all its parts and leads to nodes and columns that are there."""
        nodes = len(self.value)
        same = self.feature.shape == self.threshold.shape == self.value.shape == (nodes,)
        if not same or self.children.shape != (nodes, 2) or self.roots.ndim != 1:
            return False
        links = np.concatenate([self.roots, self.children.ravel()])
        inside = bool(((links >= 0) & (links < nodes)).all())
        seen = bool(((self.feature >= 0) & (self.feature < columns)).all())
        return inside and seen and bool(np.isfinite(self.value).all())

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The forest as named arrays, for a file of weights."""
        return {
            "roots": self.roots,
            "feature": self.feature,
            "threshold": self.threshold,
            "children": self.children,
            "value": self.value,
            "depth": np.array(self.depth, dtype=np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Forest:
        """The forest that `arrays` wrote."""
        return cls(
            roots=arrays["roots"].astype(np.int32),
            feature=arrays["feature"].astype(np.int32),
            threshold=arrays["threshold"].astype(np.float32),
            children=arrays["children"].astype(np.int32),
            value=arrays["value"].astype(np.float32),
            depth=int(arrays["depth"]),
        )


def pack_trees(trees: list[dict[str, Any]], columns: list[int], width: int) -> Forest:
    """The share that one group of columns has in LightGBM's trees, as a forest of its own.

    The trees were grown under interaction constraints: no path mixes the group's own columns with
    another group's, but a tree may split on common columns first and then speak for different
    groups in its branches. A leaf belongs to the group whose columns lie on the way to it; one that
    is reached by common columns alone is left out.

    Args:
        trees: `tree_structure` of each tree in `Booster.dump_model()["tree_info"]`.
        columns: the model's columns that the forest will be given, in its order.
        width: how many of them, from the first, are the group's own; the others are common.
    """
    place = {column: k for k, column in enumerate(columns)}
    own = set(columns[:width])
    nodes: list[tuple[float, ...]] = []
    depth = 0

    def speaks(node: dict[str, Any]) -> bool:
        if "leaf_value" in node:
            return False
        below = (node["left_child"], node["right_child"])
        return node["split_feature"] in own or any(speaks(child) for child in below)

    def add(node: dict[str, Any], level: int, owned: bool) -> int:
        nonlocal depth
        here = len(nodes)
        depth = max(depth, level)
        if not (owned or speaks(node)) or "leaf_value" in node:
            nodes.append((0, 0, here, here, node["leaf_value"] if owned else 0.0))
            return here
        feature = node["split_feature"]
        nodes.append(())
        owned = owned or feature in own
        left = add(node["left_child"], level + 1, owned)
        right = add(node["right_child"], level + 1, owned)
        nodes[here] = (place[feature], node["threshold"], left, right, 0.0)
        return here

    roots = [add(tree, 0, False) for tree in trees if speaks(tree)]
    array = np.array(nodes, dtype=np.float64).reshape(-1, 5)
    return Forest(
        roots=np.array(roots, dtype=np.int32),
        feature=array[:, 0].astype(np.int32),
        threshold=array[:, 1].astype(np.float32),
        children=array[:, 2:4].astype(np.int32),
        value=array[:, 4].astype(np.float32),
        depth=depth,
    )
