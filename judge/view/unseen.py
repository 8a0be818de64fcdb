"""Characters that show nothing, or that change how others show, made visible.

A right-to-left override turns what is read around, a zero-width space splits a word that looks
whole, tag characters carry a message that only a model sees. A reader who judges a text must see
what is in it. Joiners and variation selectors 1 to 16 are left: scripts and emoji are written with
them. White space is left, too.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction
    "\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f"
    "\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff"  # no width, or blank
    "\U000e0000-\U000e0fff"  # tags, further variation selectors
    "\ud800-\udfff]"  # halves of a character
)
_LINE_ENDS = re.compile("\r\n?")
# Where no character is ever assigned: planes 15 and 16 are for private use.
_PLANE_15, _PLANE_16, _TAGS = 0xF0000, 0x100000, 0xE0000
_SHIELDS = re.compile(f"[{chr(_PLANE_15)}-{chr(0x10FFFF)}]")


def visible(text: str) -> str:
    """The text with each such character as its code point in brackets: <U+202E>."""
    return _UNSEEN.sub(lambda found: f"<{_point(found[0])}>", text)


def visible_html(text: str) -> str:
    """The text escaped, with each such character as a small box that says its code point."""
    pieces, end = [], 0
    for found in _UNSEEN.finditer(text):
        pieces.append(escape(text[end : found.start()]))
        point, name = _point(found[0]), unicodedata.name(found[0], "control character")
        pieces.append(f'<span class="unseen" title="{escape(name.lower())}">{point}</span>')
        end = found.end()
    pieces.append(escape(text[end:]))
    return "".join(pieces)


def plain_html(text: str) -> str:
    """A plain text as HTML, to be shown with its white space as it is."""
    return visible_html(_LINE_ENDS.sub("\n", text))


def shielded(text: str) -> str:
    """The text with each such character behind one of private use, which a parser takes for a
    letter: it would strip some as white space, and replace others."""
    text = _SHIELDS.sub(lambda found: f"<{_point(found[0])}>", text)
    return _UNSEEN.sub(lambda found: _shield(ord(found[0])), text)


def restored(text: str) -> str:
    """The text that was shielded."""
    return _SHIELDS.sub(lambda found: _unshield(ord(found[0])), text)


def _shield(code: int) -> str:
    return chr(_PLANE_15 + code - _TAGS if code >= _TAGS else _PLANE_16 + code)


def _unshield(code: int) -> str:
    return chr(code - _PLANE_16 if code >= _PLANE_16 else code - _PLANE_15 + _TAGS)


def _point(character: str) -> str:
    return f"U+{ord(character):04X}"
