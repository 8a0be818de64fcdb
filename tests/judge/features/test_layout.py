"""What Markdown looks like to the judge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

See = Callable[[str, str, str], dict[str, list[float]]]

DOCUMENT = """\
# Rivers

Three of them: see [a map](https://example.org/map).

- **Nile**, in *Africa*
* Amazon
• Yangtze
+ Danube
1. first
2) second
10. tenth

| river | km |
|-------|----|
| Nile  | 6650 |

```python
x = 1  # not a heading
# a comment, which looks like one
```

## More?

Is that **all**? Yes.
"""
COUNTED = {
    "headings": 3,
    "bullets": 4,
    "numbered": 3,
    "tables": 3,
    "fences": 2,
    "paragraphs": 7,
    "lines": 18,
}


def _layout(see: See, text: str) -> dict[str, int]:
    """The counts, whose logarithms the features are."""
    found = see("q", text, "")
    return {name: round(np.expm1(found[f"logical_flow.{name}"][0])) for name in COUNTED}


def test_a_document_in_markdown(see: See) -> None:
    assert _layout(see, DOCUMENT.rstrip("\n")) == COUNTED
    found = see("q", DOCUMENT, "")
    assert np.expm1(found["clarity.emphasis"][0]) == pytest.approx(2)
    assert np.expm1(found["responsiveness.questions"][0]) == pytest.approx(2)
    assert found["accuracy.links"] == [1, 0]
    assert found["accuracy.open_fence"] == [0, 0]


@pytest.mark.parametrize("name", COUNTED)
def test_plain_text_has_no_layout(see: See, name: str) -> None:
    text = "A - b * c # d | e + 1. The range is 5-7, that is 2. `code` and **bold**."
    assert _layout(see, text)[name] == (1 if name in ("paragraphs", "lines") else 0)


def test_an_empty_response_has_no_lines(see: See) -> None:
    counts = dict.fromkeys(COUNTED, 0) | {"paragraphs": 1}
    assert _layout(see, "") == counts
    assert see("q", "", "")["logical_flow.uneven_lines"] == [0, 0]


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("  - indented\n\t- deeper", "bullets", 2),
        ("-5 degrees", "bullets", 1),
        ("--- \n***", "bullets", 0),
        ("**Bold:** text", "bullets", 0),
        ("1. a\n2. b\n3 c", "numbered", 2),
        ("１．一つ", "numbered", 0),
        ("### a\n#### b", "headings", 2),
        ("a\n\nb\n\n\n\nc", "paragraphs", 3),
        ("a\nb\nc", "lines", 3),
        ("\n\na\n\n", "lines", 1),
        ("~~~\n```\nx\n````\n``", "fences", 2),
    ],
)
def test_marks_at_the_start_of_a_line(see: See, text: str, name: str, count: int) -> None:
    assert _layout(see, text)[name] == count


@pytest.mark.parametrize("end", ["\r\n", "\r", "\u2028"])
def test_the_kind_of_line_end_does_not_matter(see: See, end: str) -> None:
    assert _layout(see, DOCUMENT.replace("\n", end)) == _layout(see, DOCUMENT)


def test_a_list_that_ends_in_its_number_does_not_run_into_the_next_text(see: See) -> None:
    for texts in (("x\n3", ". y"), (". y", "x\n3"), ("x\n3", ") y")):
        assert see("q\n2", *texts)["logical_flow.numbered"] == [0, 0]


def test_ragged_lines_are_less_even(see: See) -> None:
    even = "one two three four\n" * 6
    ragged = "one\n" + "two three four five six seven eight nine ten\n" * 2 + "one two\n"
    a, b = see("q", even, ragged)["logical_flow.uneven_lines"]
    assert a < 0.1 < 0.5 < b


def test_an_unclosed_fence_is_open(see: See) -> None:
    assert see("q", "```python\nx = 1\n", "```\nx\n```")["accuracy.open_fence"] == [1, 0]
