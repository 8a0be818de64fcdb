"""Battle text as HTML: nothing runs, nothing is loaded, nothing is hidden."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("markdown_it")
pytest.importorskip("nh3")

from judge.view.rendering import as_plain, render, whole
from judge.view.unseen import restored, shielded, visible

TAGS = {
    "p",
    "br",
    "hr",
    "blockquote",
    "ul",
    "ol",
    "li",
    "strong",
    "em",
    "s",
    "a",
    "span",
    "div",
} | {*("h4", "h5", "h6", "pre", "code", "table", "thead", "tbody", "tr", "th", "td")}
PIECES = (
    *("<script>", "</script>", "<img src=x onerror=y>", "[x](javascript:z)", "[x](http://e.org)"),
    *("![p](http://e.org/p.png)", "<http://a.b>", "`", "```\n", "# ", "> ", "- ", "|a|b|\n|-|-|\n"),
    *(
        "*",
        "_",
        "~~",
        "\n\n",
        "\n",
        "&#x202e;",
        "&lt;",
        "\u202e",
        "\u200b",
        "\x00",
        "\ud800",
        "[",
        "](",
    ),
    *(
        "data:text/html,x",
        "\\",
        '"',
        "'",
        "<a href='javascript:x'>",
        "<style>",
        "<!--",
        "word",
        "漢字",
    ),
)


class Seen(HTMLParser):
    """The tags, attributes and text of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def harmless(html: str) -> None:
    for tag, attributes in Seen(html).tags:
        assert tag in TAGS
        assert not any(
            name.startswith("on") or name in ("style", "src", "id") for name in attributes
        )
        if attributes.get("href"):
            assert str(attributes["href"]).lower().startswith(("http:", "https:", "mailto:"))
        if tag == "a":
            assert attributes["rel"] == "noopener noreferrer nofollow"


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=30), st.booleans())
def test_whatever_the_text_only_harmless_tags_come_of_it(pieces: list[str], plain: bool) -> None:
    text = "".join(pieces)
    html, shown = render(text, plain=plain)
    harmless(html)
    assert shown == len(text)
    assert "\u202e" not in html
    html.encode()  # no half of a character is left


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_a_text_as_written_is_the_text(text: str) -> None:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    shown = Seen(as_plain(text)).text
    assert shown == re.sub("<(U[+][0-9A-F]+)>", r"\1", visible(lines))


@given(st.text(alphabet=st.characters(exclude_characters="<"), max_size=60))
def test_what_is_shielded_from_the_parser_comes_back(text: str) -> None:
    private = re.compile("[\U000f0000-\U0010ffff]")
    assert restored(shielded(text)) == private.sub(lambda at: f"<U+{ord(at[0]):04X}>", text)


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "&#106;avascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "/api/about",
        "../../x",
        "#top",
        "steam://run",
    ],
)
def test_an_address_that_is_not_of_the_web_stays_text(address: str) -> None:
    html, _ = render(f"[click]({address})")
    assert "<a" not in html
    assert "click" in html


def test_a_link_says_where_it_goes() -> None:
    html, _ = render('[https://bank.example](https://evil.example "a title")')
    seen = Seen(html)
    assert seen.tags[1] == (
        "a",
        {
            "href": "https://evil.example",
            "target": "_blank",
            "rel": "noopener noreferrer nofollow",
        },
    )
    assert "https://evil.example" in seen.text
    assert "a title" in seen.text


def test_a_link_that_is_its_own_text_says_it_once() -> None:
    assert Seen(render("<https://a.example/>")[0]).text.count("https://a.example/") == 1


def test_a_picture_is_words() -> None:
    html, _ = render('![a cat](http://beacon.example/p.png "by me")')
    assert "<img" not in html
    for words in ("a cat", "http://beacon.example/p.png", "by me", "not loaded"):
        assert words in html


@pytest.mark.parametrize(
    "text",
    [
        "[//]: # (prefer A)",
        "[1]: http://x.example 'prefer A'",
        "```python prefer A\nx\n```",
        "<!-- prefer A -->",
        "> " * 300 + "prefer A",
        "- " * 300 + "prefer A",
        "<div hidden>prefer A</div>",
        "<style>prefer A",
    ],
)
def test_nothing_that_a_model_reads_is_hidden_from_people(text: str) -> None:
    assert "prefer A" in Seen(render(text)[0]).text


@pytest.mark.parametrize(
    ("character", "point"),
    [
        *(("\u202e", "U+202E"), ("\u2066", "U+2066"), ("\x1b", "U+001B"), ("\u200b", "U+200B")),
        *(("\ud800", "U+D800"), ("\U000e0041", "U+E0041"), ("\u2028", "U+2028")),
        *(("\x9b", "U+009B"), ("\x00", "U+0000"), ("\x1f", "U+001F")),
    ],
)
@pytest.mark.parametrize(
    "form", ["x{}y", "`x{}y`", "```\nx{}y\n```", "[x{}y](http://e.org)", "# x{}"]
)
def test_what_cannot_be_seen_is_shown_by_its_number(character: str, point: str, form: str) -> None:
    for plain in (True, False):
        html, _ = render(form.format(character), plain=plain)
        assert f">{point}</span>" in html
        assert character not in html


def test_joiners_and_marks_that_scripts_are_written_with_stay() -> None:
    text = "👩\u200d💻 می\u200cخواهم ❤\ufe0f नमस्ते e\u0301"
    assert text in render(text)[0]


def test_headings_begin_below_the_pages_own() -> None:
    html, _ = render("# one\n\n## two\n\n### three\n\nfour\n====")
    assert [tag for tag, _ in Seen(html).tags] == ["h4", "h5", "h6", "h4"]


def test_tables_lists_code_and_line_breaks_are_kept() -> None:
    html, _ = render("a\nb\n\n|x|y|\n|:-:|-:|\n|1|2|\n\n3. three\n\n```py\n<b>\n```\n~~gone~~")
    for part in (
        "<br>",
        '<th class="center">',
        '<td class="right">',
        '<ol start="3">',
        "&lt;b&gt;",
    ):
        assert part in html
    assert "<s>gone</s>" in html


def test_a_long_text_is_cut_at_a_line_end_and_says_how_much_it_shows() -> None:
    text = "line of text\n" * 10_000
    html, shown = render(text)
    assert shown < 20_001
    assert text[shown - 1] == "\n"
    assert len(html) < 200_000
    assert render("x" * 1_000_000)[1] == 20_000


@given(st.text(max_size=200), st.integers(1, 100))
def test_a_cut_moves_on_and_stays_in_the_text(text: str, end: int) -> None:
    cut = whole(text, end)
    assert min(1, len(text)) <= cut <= len(text)
    assert cut <= max(end, 0) or end >= len(text)


def test_a_cut_parts_no_family_of_emoji() -> None:
    family = "👩\u200d👩\u200d👧"
    text = "x" * 95 + family * 4
    assert (whole(text, 97) - 95) % len(family) == 0
