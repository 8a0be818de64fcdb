"""Battle text as HTML that is safe to put on a page, and hides nothing of the text.

Two layers, either of which would do: a Markdown parser that knows no HTML and lets only web and
mail addresses be links, then a sanitiser with a short list of tags. Nothing is loaded from
anywhere: a picture is its description and address. What Markdown would swallow (link definitions,
titles, what stands after a fence's language, text nested too deep) is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

from judge.view.unseen import plain_html, restored, shielded, visible_html

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# Longer texts are cut: the page stays quick, and shows the rest as plain text when asked.
LONGEST = 20_000
_DEEPEST = 100
_SCHEMES = ("http:", "https:", "mailto:")
_TAGS = {
    *("p", "br", "hr", "blockquote", "ul", "ol", "li", "strong", "em", "s", "a", "span", "div"),
    *("h4", "h5", "h6", "pre", "code", "table", "thead", "tbody", "tr", "th", "td"),
}
_CLASSES = {
    "span": {"unseen", "address", "picture", "fence"},
    "div": {"plain", "wide"},
    "th": {"center", "right"},
    "td": {"center", "right"},
}
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}, "span": {"title"}}
# The page's own headings come first: a response's begin below them.
_HEADINGS = {"h1": "h4", "h2": "h5"}

Rule = Callable[["Sequence[Token]", int, Any, Any], str]


def render(text: str, *, plain: bool = False, longest: int = LONGEST) -> tuple[str, int]:
    """A text as safe HTML.

    Args:
        text: Markdown; anything at all.
        plain: show it as it is written.
        longest: characters to render.

    Returns:
        The HTML, and how many characters of the text it shows.
    """
    end = whole(text, longest)
    shown = text[:end]
    if plain:
        return as_plain(shown), end
    parser = _parser()
    environment: dict[str, Any] = {}
    tokens = parser.parse(shielded(shown), environment)
    if any(token.level >= _DEEPEST - 1 for token in tokens):
        return as_plain(shown), end  # the parser leaves out what is nested deeper
    return _sanitised(parser.renderer.render(tokens, parser.options, environment)), end


def as_plain(text: str) -> str:
    """A text as safe HTML that shows it as it is written."""
    return f'<div class="plain">{plain_html(text)}</div>'


def whole(text: str, end: int) -> int:
    """`end`, or the length of a shorter text; moved back to the last line end if one is near, and
    never between a letter and its marks."""
    if end >= len(text):
        return len(text)
    line = text.rfind("\n", end - min(end, 1000), end)
    if line > 0:
        return line + 1
    from judge.context.graphemes import before_cluster

    return before_cluster(text, end) or end


def _sanitised(html: str) -> str:
    import nh3

    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        allowed_classes=_CLASSES,
        clean_content_tags=set(),
        url_schemes={scheme.rstrip(":") for scheme in _SCHEMES},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": _DEEPEST})
    parser.enable(["table", "strikethrough"])
    parser.disable("reference")
    normalised = parser.normalizeLink
    parser.normalizeLink = lambda url: normalised(restored(url))  # type: ignore[method-assign]
    parser.validateLink = _is_address  # type: ignore[method-assign]
    rules: dict[str, Rule] = {
        "text": lambda tokens, at, options, env: _shown(tokens[at].content),
        "code_inline": _code_inline,
        "code_block": _code,
        "fence": _code,
        "image": _image,
        "link_open": _link_open,
        "link_close": _link_close,
        "heading_open": _heading,
        "heading_close": _heading,
        "table_open": lambda tokens, at, options, env: '<div class="wide"><table>\n',
        "table_close": lambda tokens, at, options, env: "</table></div>\n",
        "th_open": _cell,
        "td_open": _cell,
    }
    parser.renderer.rules.update(rules)  # type: ignore[attr-defined]
    return parser


def _shown(shielded_text: str) -> str:
    return visible_html(restored(shielded_text))


def _is_address(url: str) -> bool:
    return url.strip().lower().startswith(_SCHEMES)


def _code_inline(tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    return f"<code>{_shown(tokens[at].content)}</code>"


def _code(tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    info = tokens[at].info.strip()
    caption = f'<span class="fence">{_shown(info)}</span>' if info else ""
    return f"{caption}<pre><code>{_shown(tokens[at].content)}</code></pre>\n"


def _image(tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    token = tokens[at]
    words = [token.content or "no description", str(token.attrs.get("src", ""))]
    words.append(str(token.attrs.get("title", "")))
    said = " · ".join(_shown(word) for word in words if word)
    return f'<span class="picture">Picture, not loaded: {said}</span>'


def _link_open(tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    return f'<a href="{escape(str(tokens[at].attrs.get("href", "")))}">'


def _link_close(tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """Says where the link goes, unless its text is just that."""
    before = list(tokens[:at])
    start = max(place for place, token in enumerate(before) if token.type == "link_open")
    href = str(tokens[start].attrs.get("href", ""))
    title = str(tokens[start].attrs.get("title", ""))
    text = "".join(token.content for token in before[start + 1 :])
    target = href if text.strip() not in (href, href.removeprefix("mailto:")) else ""
    said = " · ".join(_shown(word) for word in (target, title) if word)
    return f'</a><span class="address">{said}</span>' if said else "</a>"


def _heading(tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    tag = _HEADINGS.get(tokens[at].tag, "h6")
    return f"<{tag}>" if tokens[at].nesting == 1 else f"</{tag}>\n"


def _cell(tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    style = str(tokens[at].attrs.get("style", ""))
    side = next((name for name in ("center", "right") if name in style), None)
    return f'<{tokens[at].tag} class="{side}">' if side else f"<{tokens[at].tag}>"
