"""A run that is refused, failed, left without answers and killed ends as an undisturbed one does.

`scripts.bench.faults` does it and ends with an error where a promise is broken; this is a small run
of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("jinja2")

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL to send")
def test_faults_and_kills_change_nothing() -> None:
    options = ["--battles", "200", "--kills", "3", "--concurrency", "32", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.bench.faults", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["kills"]) == 3
    assert found["unjudged"] == 0
    assert sum(kill["kept"] for kill in found["kills"]) > 0
    assert set(found["fates"]) >= {"answered", "busy", "error", "garbage", "silence"}
    assert found["again"] < 400 < found["calls"]
