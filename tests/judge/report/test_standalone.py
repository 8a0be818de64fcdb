"""Charts as files of their own: well-formed, described, and safe with hostile names."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from judge.report.charts import Chart, Row, Series, forest, lines
from judge.report.standalone import standalone

HOSTILE = '</title><script>alert("x")</script>&\x00'
NAMESPACE = "{http://www.w3.org/2000/svg}"


ROWS = [Row(HOSTILE, 1.0, 0.9, 1.1), Row("b", 0.5, 0.4, 0.6)]
CURVE = Series(HOSTILE, ((0.0, 1.0, 0.5, 1.5), (1.0, 0.8, 0.6, 1.0)))
CHARTS = [
    forest(HOSTILE, "what is seen", ROWS, "nats"),
    lines("title", HOSTILE, [CURVE], "x", "y"),
]


@pytest.mark.parametrize("chart", CHARTS, ids=["forest", "lines"])
def test_it_is_a_document_that_says_what_it_shows(chart: Chart) -> None:
    written = standalone(chart)
    root = ElementTree.fromstring(written)
    assert root.tag == f"{NAMESPACE}svg"
    assert root.get("role") == "img"
    assert {child.tag for child in root} >= {f"{NAMESPACE}{n}" for n in ("title", "desc", "style")}
    assert not root.findall(f".//{NAMESPACE}script")
    assert root.findall(f".//{NAMESPACE}circle")
    # Every class that gives something a colour is in the style.
    style = root.findtext(f"{NAMESPACE}style") or ""
    for element in root.iter():
        for name in (element.get("class") or "").split():
            assert f".{name}" in style or name in {"label", "value", "key"}, name
