"""The browser that tests look at pages with sees what a page does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_a_page_that_does_nothing_is_quiet(tmp_path: Path, visit: Callable[..., Any]) -> None:
    (tmp_path / "page.html").write_text("<!doctype html><title>quiet</title><p>nothing</p>")
    seen = visit((tmp_path / "page.html").as_uri(), color_scheme="dark")
    assert seen.page.title() == "quiet"
    assert seen.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert not seen.complaints
    assert not seen.abroad


def test_a_page_that_asks_elsewhere_or_fails_is_caught(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    text = "<!doctype html><img src='http://example.invalid/beacon'><script>oops()</script>"
    (tmp_path / "page.html").write_text(text)
    seen = visit((tmp_path / "page.html").as_uri())
    assert seen.abroad == ["http://example.invalid/beacon"]
    assert any("oops" in complaint for complaint in seen.complaints)


def test_whatever_needs_a_browser_is_slow(
    request: pytest.FixtureRequest, visit: Callable[..., Any]
) -> None:
    assert request.node.get_closest_marker("slow")
