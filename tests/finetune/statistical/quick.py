"""What makes statistical judges quick to learn, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from finetune.statistical import strength, tables
from judge.cli.main import cli
from tests.finetune.small import battles_file

BUCKETS = 1 << 10
SHORT = ("--trees", "6", "--crossings", "2", "--workers", "1")


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Few n-grams are told apart, and trees grow from few battles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BUCKETS", BUCKETS)
        patch.setitem(strength.FOREST, "min_data_in_leaf", 5)
        patch.setitem(strength.FOREST, "num_threads", 1)
        yield


def command(*arguments: object) -> Result:
    """`arena-judge finetune ...`"""
    return CliRunner().invoke(cli, ["finetune", *map(str, arguments)])


def learned(*arguments: object) -> Result:
    """`arena-judge finetune statistical ...`, which must end well."""
    done = command("statistical", *arguments, *SHORT)
    assert done.exit_code == 0, done.output
    return done


def refused(*arguments: object) -> str:
    """What it says in one line where it does not."""
    done = command("statistical", *arguments, *SHORT)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return str(done.stderr).splitlines()[-1]


def changed(file: Path, source: Path, **columns: Any) -> Path:
    """A file with other columns."""
    pd.read_csv(source).assign(**columns).to_csv(file, index=False)
    return file


def battles(file: Path, count: int = 40, **more: Any) -> Path:
    """Battles that words decide, two about each prompt."""
    return battles_file(file, count, asked=count // 2, **more)
