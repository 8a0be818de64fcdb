"""Battles that a judge says nothing of, each with its reason."""

from __future__ import annotations

import numpy as np

from judge.comparing.missing import missing_table

FLAT = [1 / 3] * 3
NONE = [np.nan] * 3


def test_each_missing_battle_is_listed_once_a_judge_with_its_reason() -> None:
    labels = [[1, 0, 0], [0, 1, 0], NONE, [0, 0, 1]]
    table = missing_table(
        ["p", "q", "r", "s"],
        labels,
        {
            "file": [FLAT, NONE, NONE, NONE],
            "model": [NONE, NONE, NONE, FLAT],
            "whole": [FLAT] * 4,
        },
        in_file={"file": {"p", "s"}},
        reasons={"model": {1: "refused\nto say", 2: "no label, no matter"}},
    )
    assert table.to_dict("records") == [
        {"id": "q", "judge": "file", "reason": "not in file"},
        {"id": "s", "judge": "file", "reason": "unjudged"},
        {"id": "p", "judge": "model", "reason": "unjudged"},
        {"id": "q", "judge": "model", "reason": "unjudged: refused\nto say"},
    ]


def test_nothing_missing_is_an_empty_table() -> None:
    table = missing_table(["p"], [[1, 0, 0]], {"j": [FLAT]})
    assert list(table.columns) == ["id", "judge", "reason"]
    assert len(table) == 0
