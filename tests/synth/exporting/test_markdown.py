"""Whatever a name holds, a card shows it and does nothing else."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.exporting.markdown import escaped, plain, table

HOSTILE = (
    "[x](http://evil.example)",
    "<img src=x onerror=alert(1)>",
    "![x](http://evil.example/a.png)",
    "www.evil.example",
    "https://evil.example",
    "a@evil.example",
    "x | y | z",
    "**bold** _it_ ~~no~~ `code`",
    "&lt;b&gt; &amp;",
    "\u202eright to left",
    "$$x$$",
    "---\n# heading\n---",
)


def rendered(markdown: str) -> str:
    """HTML as GitHub-like Markdown gives it, raw HTML and bare addresses included."""
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return str(parser.render(markdown))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown(text: str) -> None:
    found = rendered(f"Said {escaped(text)} once.")
    assert re.findall(r"<(?!/?p>)", found) == []
    assert html.unescape(found) == f"<p>Said {plain(text)} once.</p>\n"
    # Addresses that parsers make links of although nothing marks them as such.
    assert not re.search(r"https?:|www\.", escaped(text))


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_stays_in_its_cell(first: str, second: str) -> None:
    lines = table(("one", "two"), [(f"x{first}", second)])
    assert len(lines) == 3
    found = rendered("\n".join(lines))
    cells = re.findall(r"<td>(.*?)</td>", found, re.DOTALL)
    assert [html.unescape(cell) for cell in cells] == [plain(f"x{first}"), plain(second) or "-"]


def test_long_texts_are_cut() -> None:
    assert plain("x" * 10_000, 10) == "x" * 9 + "…"
    assert len(plain("x" * 10_000)) == 200
