"""The arrows between the packages of finetune/: what imports what, however late it does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import finetune

ROOT = Path(finetune.__file__).parent
FOLD = {"folds", "measuring", "rows"}
KNOWS: dict[str, set[str]] = {
    "settings": set(),
    "rows": set(),
    "measuring": {"rows"},
    "folds": {"measuring", "rows"},
    "logits": {"folds", "rows"},
    "pruning": set(),
    "training": {"logits", "settings"},
    "runs": FOLD | {"logits", "settings", "training"},
    "statistical": FOLD,
    "weights": {"folds", "measuring", "settings", "training"},
    "quantizing": {"measuring", "rows", "weights"},
    "ensembles": FOLD,
    "pipeline": set(),
}
"""What a package may import of the others; commands import what they run."""


def imported(file: Path) -> Iterator[str]:
    """The packages that a module imports: at its head, in its functions, or for its types."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{one.name}" for one in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "finetune":
                yield rest[0]


def test_every_module_is_in_a_package_that_is_known() -> None:
    assert {file.name for file in ROOT.glob("*.py")} == {"__init__.py"}
    there = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert there == KNOWS.keys() | {"cli"}


@pytest.mark.parametrize("package", KNOWS)
def test_a_package_imports_what_it_may(package: str) -> None:
    found = {
        f"{file.name}: {one}"
        for file in (ROOT / package).rglob("*.py")
        for one in imported(file)
        if one not in KNOWS[package] | {package}
    }
    assert not found


def test_no_package_is_above_itself() -> None:
    left = dict(KNOWS)
    while left:
        lowest = {name for name, below in left.items() if not below & left.keys()}
        assert lowest, f"{', '.join(left)} import one another"
        left = {name: below for name, below in left.items() if name not in lowest}


def test_nothing_runs_when_a_package_is_imported() -> None:
    for file in ROOT.glob("*/__init__.py"):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        assert len(body) == 1, file
        assert ast.get_docstring(ast.Module(body, [])), file
