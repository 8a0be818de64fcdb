"""What tests of several packages share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure of the code: no example is timed. A CI tries the same examples every
# time, so that it fails for what was changed; a developer's run looks for new ones.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")

_DEFAULT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real battles; tests that need it skip where it isn't there."""
    folder = Path(os.environ.get("ARENA_JUDGE_DATA", _DEFAULT))
    if not folder.is_dir():
        pytest.skip(f"no battles in {folder}; set ARENA_JUDGE_DATA to the folder that has them")
    return folder
