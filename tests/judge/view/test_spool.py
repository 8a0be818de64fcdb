"""Texts on disk come back as they were, and are found by their words."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.view import spool
from judge.view.spool import SearchFile, Spool, fold, words

TEXTS = st.text(max_size=40) | st.sampled_from(["ab" * 4000, "", "\ud800", "\0", "\x1f", "Straße"])


@given(st.lists(TEXTS, max_size=20))
def test_every_text_comes_back_by_its_number(texts: list[str]) -> None:
    kept = Spool()
    for text in texts:
        kept.add(text)
    assert [kept[number] for number in reversed(range(len(kept)))] == texts[::-1]
    kept.close()


@given(
    st.lists(st.lists(TEXTS, min_size=1, max_size=3), min_size=1, max_size=12),
    st.text(min_size=1, max_size=6) | st.sampled_from(["a", "ab", "ss", "STRASSE"]),
    st.sampled_from([1, 50, 1 << 22]),
)
def test_a_search_finds_what_looking_at_each_text_finds(
    battles: list[list[str]], query: str, block: int
) -> None:
    files = SearchFile()
    for fields in battles:
        files.add(fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_BLOCK", block)
        found = files.find(query).tolist()
    plain = [[fold(field).replace("\0", " ").replace("\x1f", " ") for field in b] for b in battles]
    expected = [
        all(any(word in field for field in fields) for word in words(query)) for fields in plain
    ]
    assert found == expected
    files.close()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("hello", [True, False, False]),
        ("HELLO there", [True, False, False]),
        ('"there world"', [False, False, False]),
        ('"hello there"', [True, False, False]),
        ("strasse", [False, True, False]),
        ("print(", [False, False, True]),
        ("ﬁle", [False, False, True]),
        ("two lines", [False, True, False]),
        ('"two lines"', [False, True, False]),
        ("", [True, True, True]),
        ('"', [True, True, True]),
        ("漢字", [False, False, True]),
    ],
)
def test_words_are_found_as_people_expect(query: str, expected: list[bool]) -> None:
    files = SearchFile()
    files.add(["Hello there", "world"])
    files.add(["Die STRASSE", "two\nlines"])
    files.add(["print(file)", "漢字 and 仮名"])
    assert files.find(query).tolist() == expected
    files.close()


def test_texts_are_read_by_many_at_once() -> None:
    kept, files = Spool(), SearchFile()
    for number in range(500):
        kept.add(f"{number} " * 200)
        files.add([f"word{number}x"])
    wrong: list[int] = []

    def read(offset: int) -> None:
        for number in range(offset, 500, 7):
            once = files.find(f"word{number}x")
            if kept[number] != f"{number} " * 200 or once.sum() != 1 or not once[number]:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(offset,)) for offset in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda **options: Full())
    with pytest.raises(spool.ArenaJudgeError, match=r"No space left on device.*TMPDIR"):
        Spool().add("text")
