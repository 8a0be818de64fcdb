"""What is known of a battle: lengths, language, code, and what its file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge.battles import read_battles, swap
from judge.comparing.facts import battle_facts
from judge.labelled import read_labelled

Turns = tuple[str, ...]


def _battles(
    *rows: tuple[str | Turns, str | Turns, str | Turns], **columns: object
) -> pd.DataFrame:
    cells = [[(t,) if isinstance(t, str) else t for t in row] for row in rows]
    table = pd.DataFrame(cells, columns=["prompt", "response_a", "response_b"], dtype=object)
    return table.assign(**columns)


def test_lengths_and_their_difference() -> None:
    battles = _battles(("four", "a" * 9, ""), (("a", "bc"), ("x", "y"), ("x", "yz")))
    facts = battle_facts(battles)
    assert facts["turns"].tolist() == [1, 2]
    assert facts["prompt_characters"].tolist() == [4, 3]
    assert facts["a_characters"].tolist() == [9, 2]
    assert facts["b_characters"].tolist() == [0, 3]
    np.testing.assert_allclose(facts["length_difference"], [np.log(10), np.log(3 / 4)])
    swapped = battle_facts(swap(battles))
    np.testing.assert_allclose(swapped["length_difference"], -facts["length_difference"])


@pytest.mark.parametrize(
    ("prompt", "response", "code"),
    [
        ("Write Python to add two numbers", "fine", True),
        ("What does C++ have that C# has not?", "much", True),
        ("Can you explain this code?", "no", True),
        ("What is the dress code at a wedding?", "a suit", False),
        ("Which zip code has Berlin?", "ten of them", False),
        ("Add two numbers", "Sure:\n```\na + b\n```", True),
        (
            "Add",
            "int f() {\n    a = 1;\n    b = 2;\n    c = 3;\n    d();\n    e();\n    g();\n}",
            True,
        ),
        ("Add", "import os\nimport sys\ndef add(a, b):\n  return a + b", True),
        ("A poem", "Roses are red,\n  violets are blue,\n  sugar is sweet.", False),
        ("Decode my feelings", "They are barcodes.", False),
        ("", "", False),
    ],
)
def test_code_or_not(prompt: str, response: str, code: bool) -> None:
    assert battle_facts(_battles((prompt, response, "yes")))["code"].tolist() == [code]
    assert battle_facts(_battles((prompt, "yes", response)))["code"].tolist() == [code]


def test_the_language_is_the_prompt_s_or_the_answers() -> None:
    facts = battle_facts(
        _battles(
            ("Was ist das hier?", "This is what it is.", "It is what you have."),
            ("2+2", "Das ist vier.", "Es sind vier, und nicht fünf."),
            ("2+2", "Das ist nicht fünf.", "That is what it is."),
            ("2+2", "4", "four"),
        )
    )
    assert facts["language"].tolist() == ["de", "de", "unknown", "unknown"]


def test_what_the_file_says_goes_first() -> None:
    row = ("What is this?", "It is what it is", "no")
    battles = _battles(
        row, row, row, language=["Spanish", None, ""], category=["a", float("nan"), 3]
    )
    battles = battles.assign(model_a="m", source=["x", None, "z"])
    facts = battle_facts(battles, ["source", "absent"])
    assert facts["language"].tolist() == ["es", "en", "en"]
    assert facts["category"].tolist() == ["a", None, "3"]
    assert facts["model_a"].tolist() == ["m"] * 3
    assert facts["model_b"].tolist() == [None] * 3
    assert facts["source"].tolist() == ["x", None, "z"]
    assert facts["absent"].tolist() == [None] * 3
    assert facts["votes_a"].isna().all()


def test_batches_come_together_as_one_table(tmp_path: Path) -> None:
    path = tmp_path / "battles.csv"
    lines = [f"q{n},yes,no,{'x' if n > 5 else ''},1,2,0" for n in range(10)]
    header = "prompt,response_a,response_b,category,votes_a,votes_b,votes_tie"
    path.write_text("\n".join([header, *lines]) + "\n")
    found = read_labelled(str(path), facts=battle_facts, chunk_rows=3).facts
    pd.testing.assert_frame_equal(found, battle_facts(read_battles(path)))
    assert found["category"].tolist() == [None] * 6 + ["x"] * 4
    assert found["votes_b"].tolist() == [2.0] * 10


def test_a_battle_of_megabytes_is_not_read_to_its_end() -> None:
    long = ("word " * 200_000) + " " * 100_000 + "(" * 100_000
    facts = battle_facts(_battles((long, long, long)))
    assert facts["a_characters"].tolist() == [len(long)]
