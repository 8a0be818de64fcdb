"""The page of the API in a real browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
KEY = "a-key"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where a server with a key is."""
    command = [sys.executable, "-m", "judge", "serve", "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--bearer-env", "THE_KEY"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=os.environ | {"THE_KEY": KEY},
        text=True,
    )
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.send_signal(signal.SIGTERM)
    process.communicate()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_form_asks_and_shows_what_is_answered(
    visit: Callable[..., Any], url: str, path: str
) -> None:
    from playwright.sync_api import expect

    seen = visit(url + path, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = seen.page
    reply = page.get_by_role("status", name="Reply")
    page.get_by_label("Key").fill("wrong")
    page.get_by_role("button", name="Send").click()
    expect(reply).to_contain_text("unauthorized")
    page.get_by_label("Key").fill(KEY)
    page.get_by_role("button", name="Send").click()
    expect(reply).to_contain_text("winner_model_a")
    expect(reply).to_contain_text('"id": "first"')
    hostile = {"id": "<img src=x onerror=alert(1)>", "prompt": "p"}
    texts = {"response_a": "a", "response_b": "b"}
    page.get_by_label("POST /v1/judge").fill(json.dumps({**hostile, **texts}))
    page.get_by_role("button", name="Send").click()
    expect(reply).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0
    page.get_by_label("POST /v1/judge").fill("{")
    page.get_by_role("button", name="Send").click()
    expect(reply).to_contain_text("invalid_json")
    # Refusals are the only thing that the browser has to remark on, and nothing is wider than it.
    assert {"401" in said or "400" in said for said in seen.complaints} == {True}
    assert seen.abroad == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
