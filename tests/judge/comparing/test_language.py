"""Languages by script and by words of grammar, and nothing guessed where neither tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.comparing.language import UNKNOWN, language, named


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What should I cook for my friends on Friday?", "en"),
        ("¿Qué puedo cocinar para mis amigos el viernes?", "es"),
        ("Comment est-ce que je peux apprendre le piano ?", "fr"),
        ("Wie kann ich meiner Katze das Springen abgewöhnen?", "de"),
        ("Perché il cielo è blu e non verde?", "it"),
        ("Você pode me explicar por que o gelo não afunda na água?", "pt"),
        ("Waarom is de lucht blauw en niet groen?", "nl"),
        ("Varför är himlen blå och inte grön?", "sv"),
        ("Dlaczego niebo jest niebieskie, a nie zielone?", "pl"),
        ("Gökyüzü neden mavi ve çok güzel?", "tr"),
        ("Bagaimana saya bisa belajar memasak dengan cepat?", "id"),
        ("Tại sao bầu trời là màu xanh và không phải màu đỏ?", "vi"),
        ("Miksi taivas on sininen, mutta meri ei ole?", "fi"),
        ("为什么天空是蓝色的？", "zh"),
        ("なぜ空は青いのですか", "ja"),
        ("하늘은 왜 파란가요?", "ko"),
        ("Почему небо голубое, а вы нет?", "ru"),
        ("Чому небо синє і не зелене?", "uk"),
        ("Защо небето е синьо, а кръвта е червена?", "bg"),
        ("لماذا السماء زرقاء؟", "ar"),
        ("چرا آسمان آبی است؟ پاسخ کوتاه بده", "fa"),
        ("आसमान नीला क्यों है?", "hi"),
        ("Γιατί ο ουρανός είναι μπλε;", "el"),
        ("למה השמיים כחולים?", "he"),
        ("ทำไมท้องฟ้าถึงเป็นสีฟ้า", "th"),
    ],
)
def test_languages_are_told_apart(text: str, code: str) -> None:
    assert language(text) == code
    assert language(text.upper()) == code or not text.isascii()


@pytest.mark.parametrize(
    "text", ["", "   ", "2 + 2 =", "asdf qwer", "🙂🙂", "x = y", "Curse Tippecanoe"]
)
def test_nothing_is_guessed(text: str) -> None:
    assert language(text) == UNKNOWN


def test_code_and_terms_do_not_hide_the_language_around_them() -> None:
    code = "```python\nfor item in the_list: print(item) if item is not None else do(it)\n```"
    assert language(f"Что делает этот код?\n{code}") == "ru"
    assert language(f"Was macht das hier, und wie kann ich es ändern?\n{code}") == "de"
    assert language("请解释 Python 的 asyncio event loop 是什么") == "zh"
    table = "CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR, email VARCHAR, age INT);\n" * 4
    assert language(f"根据以下数据库表结构信息回答问题\n{table}") == "zh"


@given(st.text(max_size=300))
def test_any_text_has_one(text: str) -> None:
    code = language(text)
    assert code == UNKNOWN or (len(code) == 2 and code.islower())


def test_names_in_files_become_codes() -> None:
    assert [named(word) for word in ("English", " GERMAN", "pt-BR", "zh_CN", "fr")] == [
        *("en", "de", "pt", "zh", "fr")
    ]
    assert named("Klingon") == "Klingon"
