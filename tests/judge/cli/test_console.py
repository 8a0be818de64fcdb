"""What a terminal is shown: nothing that could act on it, aligned, honest about what is left."""

from __future__ import annotations

import io
import sys
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.cli import console
from judge.cli.console import Progress, clean, duration, expected_rows, fit, table, width


@given(st.text())
def test_cleaned_text_is_one_line_that_cannot_act(text: str) -> None:
    cleaned = clean(text)
    assert not [c for c in cleaned if unicodedata.category(c)[0] in "CZ" and c != " "]
    assert cleaned == clean(cleaned) == " ".join(cleaned.split())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\tc", "a b c"),
        ("\x1b]0;owned\x07\x1b[2Jx", "]0;owned[2Jx"),
        ("\u202eevil\u2066", "evil"),
        ("\x9b31mred", "31mred"),
        ("zero\u200bwidth", "zerowidth"),
        ("line\u2028break", "line break"),
        ("half \ud83d", "half"),
        ("日本 語", "日本 語"),
    ],
)
def test_hostile_text(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(), st.integers(1, 40))
def test_fitted_text_fits(text: str, columns: int) -> None:
    fitted = fit(text, columns)
    assert width(fitted) <= columns
    if width(clean(text)) <= columns and len(text) <= columns:
        assert fitted == clean(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a short text", "a short…"),
        ("日本語の文章です", "日本語…"),
        ("x" * 10_000_000, "xxxxxxx…"),
        ("e" + "\u0301" * 500, "e" + "\u0301" * 31 + "…"),
    ],
)
def test_text_is_cut_by_columns(text: str, shown: str) -> None:
    assert fit(text, 8) == shown


def test_tables_are_aligned_whatever_the_script() -> None:
    lines = table(["id", "p"], [["日本", "0.5"], ["long name", "10.25"], ["x\n\x1b[1m", ""]])
    assert lines == [
        "id             p",
        "---------  -----",
        "日本         0.5",
        "long name  10.25",
        "x [1m",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0416, "0.04 s"),
        (4.21, "4.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (187, "3 min 07 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(console.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    return _Clock(monkeypatch)


def test_progress_on_a_terminal_is_one_line_that_goes_at_the_end(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress("battles", 400) as progress:
        clock.now = 2.0
        progress.advance(100)
    assert "[#####               ] 25% of 400: 100 battles, 50 a second, 6.0 s left" in (
        stream.getvalue()
    )
    assert stream.getvalue().endswith("\r\x1b[K")
    assert "\n" not in stream.getvalue()


def test_progress_elsewhere_is_a_plain_line_now_and_then(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("battles", None) as progress:
        for _ in range(70):
            clock.now += 1.0
            progress.advance(10)
    assert capsys.readouterr().err == ("300 battles, 10 a second\n600 battles, 10 a second\n")


def test_a_slow_judge_has_a_rate_too(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("battles", 3) as progress:
        clock.now = 40.0
        progress.advance(1)
    assert capsys.readouterr().err == ("33% of 3: 1 battle, 0.025 a second, 1 min 20 s left\n")


@pytest.mark.parametrize(
    ("number", "seconds", "said"),
    [(12_345, 1.0, "12,345"), (99, 10.0, "9.9"), (5, 1.0, "5"), (24, 36.0, "0.67"), (0, 0.0, "0")],
)
def test_rates(number: int, seconds: float, said: str) -> None:
    assert console.rate(number, seconds) == f"{said} a second"


def test_an_estimate_that_falls_short_does_not_claim_to_be_done(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("battles", 50, about=True) as progress:
        clock.now = 40.0
        progress.advance(200)
    assert "about 100% of about 201: 200 battles, 5 a second, about 0.20 s left" in (
        capsys.readouterr().err
    )


def test_the_number_of_battles_is_known_or_guessed_where_it_can_be(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt": ['say "hi"\nthere'] * 50, "id": range(50)})
    frame.to_parquet(tmp_path / "b.parquet")
    frame.to_csv(tmp_path / "b.csv", index=False)
    frame.to_json(tmp_path / "b.jsonl", orient="records", lines=True)
    frame.to_csv(tmp_path / "b.csv.gz", index=False)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "empty.csv").touch()
    expected = {
        "b.parquet": (50, False),
        "b.csv": (50, True),
        "b.jsonl": (50, True),
        "b.csv.gz": (None, True),
        "bad.parquet": (None, True),
        "empty.csv": (None, True),
        "missing.csv": (None, True),
        "-": (None, True),
    }
    for name, rows in expected.items():
        assert expected_rows(name if name == "-" else str(tmp_path / name)) == rows, name
