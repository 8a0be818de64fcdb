"""Prompt files: one's own words, and what such a file may get wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from judge.ballots import CRITERIA
from judge.encoding import BattleText
from judge.errors import InputError
from judge.prompt_files import load_prompt, own_prompts

NAMES = (
    *("annotated", "annotated_referenced", "criterion", "critiqued", "critiqued_referenced"),
    *("discriminator", "reasoned", "referenced"),
)
FILES = Path(__file__).parents[2] / "prompts"
TALK = BattleText(("What is 17 * 3?",), ("51.",), ("It is 41.",))
# Lists of lists: twelve lines that would be written out as 10 ** 12 words.
LAUGHS = b"l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"l%d: &l%d [%s]\n" % (n, n, b", ".join([b"*l%d" % (n - 1)] * 10)) for n in range(1, 12)
)
LAUGHS += b"format: *l11\n"


def test_the_package_brings_these_prompts() -> None:
    assert own_prompts() == list(NAMES)
    for name in NAMES:
        assert load_prompt(name).name == name


def _own(folder: Path, *changes: tuple[str, str], base: str = "discriminator") -> Path:
    text = (FILES / f"{base}.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_an_own_file_may_change_the_words(tmp_path: Path) -> None:
    relevance = (
        "keeps to what the user asked, in the user's language, without padding or digression"
    )
    file = _own(
        tmp_path,
        (relevance, "speaks of bees"),
        ("name: discriminator", "name: bees"),
        ("version: 1", "version: 2.1"),
    )
    prompt = load_prompt(file)
    assert (prompt.name, prompt.version) == ("bees", "2.1")
    assert "1. relevance: speaks of bees\n" in prompt.render(TALK)[0].content
    assert prompt.digest != load_prompt("discriminator").digest
    assert prompt.criteria == CRITERIA
    assert load_prompt(str(file)) == prompt


def test_an_own_file_may_do_without_a_system_message(tmp_path: Path) -> None:
    file = _own(tmp_path)
    text = re.sub(r"system: \|\n.*?\nbattle: \|\n", "battle: |\n", file.read_text(), flags=re.S)
    file.write_text(text)
    assert [message.role for message in load_prompt(file).render(TALK)] == ["user"]


def test_an_own_file_may_ask_for_one_vote_with_its_reason(tmp_path: Path) -> None:
    prompt = load_prompt(_own(tmp_path, ("reason: false", "reason: true"), base="criterion"))
    schema = prompt.schema()
    assert schema is not None
    assert list(schema["properties"]) == ["reason", "vote"]
    assert prompt.choices is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("format: 1", "format: 2"), "format is 2, not 1"),
        (("format: 1\n", ""), "format is 'missing', not 1"),
        (("version: 1\n", ""), "no version"),
        (("version: 1\n", "version: 1\ntemperature: 0\n"), "unknown key temperature"),
        (("asks: all", "asks: some"), "asks is neither 'all' nor 'one'"),
        (("reason: false", "reason: maybe"), "reason is neither true nor false"),
        (("max_tokens: 128", "max_tokens: many"), "max_tokens is no number from 1"),
        (("max_tokens: 128", "max_tokens: 0"), "max_tokens is no number from 1"),
        (("  relevance: >-", "  wit: >-"), "unknown criterion wit"),
        (("  NA: the", "  C: the"), "unknown vote C"),
        (("  NA: the criterion cannot be applied to this battle\n", ""), "no text for NA"),
        (("name: discriminator", "name: ["), "bad YAML (expected"),
        (("{{ turn.prompt }}", "{{ turn.question }}"), "bad Jinja in battle, line 5"),
        (("{{ turn.prompt }}", "{{ winner }}"), "battle speaks of winner, which is undefined"),
        (("=== {{ nonce }} user", "=== {{ criteria }} user"), "battle speaks of criteria"),
        (("{{ turn.a }}", "{{ turns[7].a }}"), "bad Jinja in battle, line 7"),
        (("{{ turn.b }}", "{{ turn.a }}"), "battle never shows a turn"),
        (("{{ nonce }}", "marker"), "battle never shows the nonce"),
        (("{% for turn in turns %}", "{% for turn in %}"), "bad Jinja in battle, line 3"),
        (("You judge battles.", "{{ turns }}"), "system speaks of turns"),
        (("Vote on all {{ criteria | length }}", "{{ 1 / 0 }}"), "bad Jinja in question"),
        (("Vote on all", "{{ criterion.text }}"), "question speaks of criterion"),
        (("You judge battles.", "{{ ''.__class__.__mro__ }}"), "bad Jinja in system"),
        (("You judge battles.", "{% include 'x' %}"), "bad Jinja in system"),
        (("You judge battles.", "{{ range(999999999) | list }}"), "bad Jinja in system"),
        (
            ("You judge battles.", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
            "bad Jinja in system",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_line(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    file = _own(tmp_path, change)
    with pytest.raises(InputError) as caught:
        load_prompt(file)
    said = str(caught.value)
    assert said.startswith(str(file))
    assert says in said
    assert "; " in said, "the mend"
    assert "\n" not in said


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not a mapping"),
        (b"- 1", "not a mapping"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: \x07", "bad"),
        (LAUGHS, "format is no number, not 1"),
    ],
)
def test_files_that_are_no_prompts(tmp_path: Path, raw: bytes, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(raw)
    with pytest.raises(InputError, match=says):
        load_prompt(file)


def test_prompts_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prompt is called best; take one of annotated, "):
        load_prompt("best")
    with pytest.raises(InputError, match="No such file"):
        load_prompt(tmp_path / "none.yaml")


def test_a_reply_may_end_with_a_verdict_alone(tmp_path: Path) -> None:
    prompt = load_prompt(_own(tmp_path, ("reference: false", "reference: false\nverdict: true")))
    schema = prompt.schema()
    assert schema is not None
    assert list(schema["properties"]) == [*CRITERIA, "verdict"]
    reply = "{" + ", ".join(f'"{name}": "NA"' for name in CRITERIA) + ', "verdict": "AB"}'
    assert prompt.regex is not None
    assert re.fullmatch(prompt.regex, reply)
    assert not re.fullmatch(prompt.regex, reply.replace('"AB"', '"NA"'))


@pytest.mark.parametrize("flag", ["reasons", "verdict", "critique"])
def test_what_speaks_of_all_criteria_is_not_asked_one_by_one(tmp_path: Path, flag: str) -> None:
    change = ("reference: false", f"reference: false\n{flag}: true")
    with pytest.raises(InputError, match=f"{flag} belongs to a reply on all criteria"):
        load_prompt(_own(tmp_path, change, base="criterion"))
    with pytest.raises(InputError, match=f"{flag} is neither true nor false"):
        load_prompt(_own(tmp_path, ("reference: false", f"reference: false\n{flag}: 1")))


def test_replies_are_typically_no_longer_than_they_may_be(tmp_path: Path) -> None:
    more = ("max_tokens: 128", "max_tokens: 128\ntypical_tokens: 500")
    assert load_prompt(_own(tmp_path, more)).typical_tokens == 128
    assert load_prompt("discriminator").typical_tokens is None
    with pytest.raises(InputError, match="typical_tokens is no number from 1"):
        load_prompt(_own(tmp_path, ("max_tokens: 128", "max_tokens: 128\ntypical_tokens: none")))
