"""What tests of several packages share: the steady profile, real battles, a browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# A busy machine is no failure of the code: no example is timed. A CI tries the same examples every
# time, so that it fails for what was changed; a developer's run looks for new ones.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")

# Several processes, each with as many threads as there are processors that wait for one another by
# spinning: torch then takes thirty times as long. Tests want none of it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_DEFAULT = Path(__file__).parents[2] / "shared" / "data"
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page under test may ask for what is elsewhere, and is seen to; it is never answered.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)
_WAIT_MS = 60_000


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a browser is slow."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `--dist loadgroup`, files that are marked with the same xdist_group go to one worker.

    xdist 3.8 would write the group into a test's id, which pytest 9.2 does not let it do any more:
    the mark is passed over in silence, and two workers start the same servers. So the mark is read
    out of the file, and holds for all of it.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    @cache
    def group(file: str) -> str | None:
        text = (config.rootpath / file).read_text(encoding="utf-8")
        found = re.search(r"\bxdist_group\((?:name=)?[\"'](\w+)[\"']\)", text)
        return found and found[1]

    class Scheduling(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid.partition("::")[0]) or super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real battles; tests that need it skip where it isn't there."""
    folder = Path(os.environ.get("ARENA_JUDGE_DATA", _DEFAULT))
    if not folder.is_dir():
        pytest.skip(f"no battles in {folder}; set ARENA_JUDGE_DATA to the folder that has them")
    return folder


@dataclass
class Visit:
    """A page in a browser, and what came of opening it.

    Attributes:
        page: the page, in a context of its own.
        requests: the address of everything it asked for.
        complaints: its warnings and errors: of the console, and those that no code caught.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def abroad(self) -> list[str]:
        """The requests that were not for this machine."""
        at_home = ("file", "data", "blob", "about")
        return [
            url
            for url in self.requests
            if urlsplit(url).scheme not in at_home
            and urlsplit(url).hostname not in ("127.0.0.1", "localhost")
        ]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A Chromium; tests that need it are slow, and skip where there is none.

    One a module, not a session: while it is there, the thread has a running event loop, and what
    calls `asyncio.run` in other modules' tests would not.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    named = os.environ.get("ARENA_JUDGE_CHROMIUM")
    path = named or next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if path is None:
        pytest.skip(f"no {_CHROMIUM[0]} here; ARENA_JUDGE_CHROMIUM says where one is")
    playwright.expect.set_options(timeout=_WAIT_MS)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(_FLAGS), timeout=_WAIT_MS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens an address: `visit(url, color_scheme="dark", viewport={"width": 390, "height": 844})`,
    with whatever a context of playwright takes; nothing is shared between two visits."""
    contexts = []

    def open_page(url: str, **options: object) -> Visit:
        context = chromium.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(_WAIT_MS)
        page = context.new_page()
        seen = Visit(page)
        context.on("request", lambda request: seen.requests.append(request.url))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                seen.complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.goto(url)
        return seen

    yield open_page
    for context in contexts:
        context.close()
