"""A plan that was edited or damaged is known before anything is paid for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from judge.errors import InputError
from judge.files.folders import written_folder
from synth.plans import BATTLES, FILE, read_plan, written_plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = {name: [("x",)] * 3 for name in ("prompt", "response_a", "response_b")}
    with written_folder(tmp_path / "plan") as draft, written_plan(draft) as plan:
        plan.append(pd.DataFrame({"id": ["a", "b", "c"], **texts}))
        plan.settings = {"size": 3, "seed": 0, "annotators": ["endpoint:m"]}
    return tmp_path / "plan"


def test_a_plan_is_read_as_it_was_written(folder: Path) -> None:
    plan = read_plan(folder)
    assert plan.size == 3
    assert [name for table in plan.tables() for name in table["id"]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("annotators", value) for value in (5, "endpoint:m", [1], [None], {"a": 1})),
        *(("writers", value) for value in (3, [5])),
        *(("samples", value) for value in ("many", 1.5, True, [2])),
        *(("prompt", value) for value in ({"a": "b"}, ["annotated"], 1)),
        *(("orders", "AB"), ("base_urls", 7), ("prices", 9)),
        *(("size", value) for value in (None, 0, "3", True)),
    ],
)
def test_what_a_run_goes_by_has_to_be_of_its_kind(folder: Path, name: str, value: object) -> None:
    said: dict[str, Any] = yaml.safe_load((folder / FILE).read_text())
    (folder / FILE).write_text(yaml.safe_dump(said | {name: value}))
    with pytest.raises(InputError, match=rf"plan\.yaml: .*{name}"):
        read_plan(folder)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda table: table.iloc[:2], "has 2 battles, and plan.yaml says 3"),
        (lambda table: table.assign(id="a"), "an id, or two with the same"),
        (lambda table: table.assign(id=["a", None, "c"]), "an id, or two with the same"),
        (lambda table: table.drop(columns="id"), "an id, or two with the same"),
    ],
)
def test_battles_that_were_edited_are_known(
    folder: Path, edit: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    edit(pd.read_parquet(folder / BATTLES)).to_parquet(folder / BATTLES)
    with pytest.raises(InputError, match=words):
        read_plan(folder)


@pytest.mark.parametrize("kept", [0, 7, -40])
def test_battles_that_are_not_whole_are_known(folder: Path, kept: int) -> None:
    content = (folder / BATTLES).read_bytes()
    (folder / BATTLES).write_bytes(content[:kept])
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(folder)
