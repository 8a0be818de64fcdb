"""What style control holds constant."""

from __future__ import annotations

import pytest

from judge.leaderboard import STYLE, style_differences

LAID_OUT = "# A title\n\n- one\n- two\n1. three\n\n**bold** words\n\n```\ncode\n```\n"


def _differences(a: str, b: str) -> dict[str, float]:
    return dict(zip(STYLE, style_differences([(a,)], [(b,)])[0].tolist(), strict=True))


def test_a_text_that_has_everything_against_one_that_has_nothing() -> None:
    found = _differences(LAID_OUT, "plain words and nothing else")
    assert 0 < found.pop("length") < 1
    assert found == {"headings": 1.0, "lists": 1.0, "bold": 1.0, "code": 1.0}


def test_swapping_changes_the_sign_alone() -> None:
    other = "- one\n\n## Two\n\n### Three\n\n**a** **b**"
    there, back = _differences(LAID_OUT, other), _differences(other, LAID_OUT)
    assert there == {name: -value for name, value in back.items()}


def test_differences_are_relative() -> None:
    assert _differences("word " * 30, "word " * 10)["length"] == pytest.approx(0.5)
    assert _differences("word " * 300, "word " * 100)["length"] == pytest.approx(0.5)
    assert _differences("- a\n- b\n- c", "- a")["lists"] == pytest.approx(0.5)


@pytest.mark.parametrize("text", ["", "a", "你好世界", "<script>", "\u202e\x00"])
def test_equal_texts_do_not_differ(text: str) -> None:
    assert set(_differences(text, text).values()) == {0.0}


def test_scripts_without_spaces_have_a_length() -> None:
    assert _differences("你好世界" * 3, "你好世界")["length"] == pytest.approx(0.5)


def test_all_turns_count() -> None:
    found = style_differences([("# one", "# two")], [("# one", "two")])[0]
    assert found[STYLE.index("headings")] == pytest.approx(1 / 3)
