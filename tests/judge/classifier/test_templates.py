"""The words around a battle's texts: found by name and version, and complete."""

from __future__ import annotations

import pytest

from judge.classifier.templates import FORMS, load_template, template_names
from judge.errors import InputError


def test_each_form_has_templates_and_all_have_all_words() -> None:
    assert template_names("pair") == ["interleaved", "a-then-b"]
    assert template_names("single") == ["single"]
    assert set(template_names()) == set(template_names("pair") + template_names("single"))
    for name in template_names():
        template = load_template(name)
        assert template.form in FORMS
        words = (template.between, template.prompt, *template.responses, template.closing)
        assert all(word.strip() or word == template.between for word in words)
        # An answer is told apart from another by its place alone where one is shown at a time.
        assert (template.responses[0] == template.responses[1]) == (template.form == "single")


def test_a_judge_says_the_version_it_was_trained_with() -> None:
    template = load_template("interleaved")
    assert template.spec == f"interleaved@{template.version}"
    assert load_template(template.spec) == template
    # Judges were trained with these very words: they may be added to, and never change.
    first = load_template("interleaved@1")
    assert (first.prompt, first.responses) == ("# Prompt\n", ("# Response A\n", "# Response B\n"))
    assert first.closing == "# Better response: A, B or tie?"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("interleave", "did you mean interleaved"),
        ("zzz", "a-then-b"),
        ("interleaved@99", "there is interleaved@1"),
        ("", "single"),
    ],
)
def test_a_template_that_is_not_there(name: str, mend: str) -> None:
    with pytest.raises(InputError, match=mend):
        load_template(name)
