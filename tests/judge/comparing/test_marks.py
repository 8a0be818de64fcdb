"""Marks: what changes them and what does not, and how well sketches tell how alike texts are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.battles import swap
from judge.comparing.marks import OF_PROMPT, OF_RESPONSE, Marks, battle_marks, joined

Turns = tuple[str, ...]


def table(*rows: tuple[str | Turns, str | Turns, str | Turns]) -> pd.DataFrame:
    cells = [[(t,) if isinstance(t, str) else t for t in row] for row in rows]
    return pd.DataFrame(cells, columns=["prompt", "response_a", "response_b"], dtype=object)


def words(seed: int, count: int) -> str:
    drawn = np.random.default_rng(seed).integers(5000, size=count)
    return " ".join(map(word, drawn.tolist()))


def word(number: int) -> str:
    """One of its own; letters alone, since letters and digits are two tokens."""
    return "w" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


PLAIN = ("Why is the sky blue?", "Because of Rayleigh scattering, he said.", "I don't know.")

GOLDEN = ["0x53f8116942ae4468", "0x9c1a95f4d493fb84"]
GOLDEN_SKETCH = [54192, 50038, 39678]
GOLDEN_TURNED = -1


def test_marks_stay_what_they_are() -> None:
    """Files of marks lie in judge folders: another rule needs another `VERSION`."""
    marks = battle_marks(table(PLAIN))
    assert [hex(marks.prompts[0]), hex(marks.battles[0])] == GOLDEN
    assert marks.sketches[0, [0, 8, 20]].tolist() == GOLDEN_SKETCH
    assert marks.turned.tolist() == [GOLDEN_TURNED]


@pytest.mark.parametrize(
    "other",
    [
        ("  why is the\n\nsky BLUE?\t", "because of rayleigh scattering,\r\nhe said. ", PLAIN[2]),
        (PLAIN[0], PLAIN[2], PLAIN[1]),
        (("Why is the", "sky blue?"), ("Because of Rayleigh", "scattering, he said."), PLAIN[2]),
    ],
)
def test_white_space_case_and_the_way_round_change_nothing(other: tuple[str, str, str]) -> None:
    one, two = battle_marks(table(PLAIN)), battle_marks(table(other))
    assert one.prompts == two.prompts
    assert one.battles == two.battles


@pytest.mark.parametrize(
    "other",
    [
        ("Why is the sea blue?", *PLAIN[1:]),
        (PLAIN[0], PLAIN[1], "I do know."),
        (PLAIN[0], PLAIN[1], PLAIN[1]),
        (PLAIN[0] + PLAIN[1], "", PLAIN[2]),
        ("is Why the sky blue?", *PLAIN[1:]),
        ("", "", ""),
    ],
)
def test_other_words_or_another_order_of_words_do(other: tuple[str, str, str]) -> None:
    assert battle_marks(table(PLAIN)).battles != battle_marks(table(other)).battles


def test_swapping_turns_the_battle() -> None:
    battles = table(PLAIN, ("q", "same", "same"))
    marks, swapped = battle_marks(battles), battle_marks(swap(battles))
    np.testing.assert_array_equal(marks.battles, swapped.battles)
    np.testing.assert_array_equal(marks.turned, -swapped.turned)
    assert marks.turned.tolist()[1] == 0
    a, b = (slice(OF_PROMPT, OF_PROMPT + OF_RESPONSE), slice(OF_PROMPT + OF_RESPONSE, None))
    np.testing.assert_array_equal(marks.sketches[:, a], swapped.sketches[:, b])


ROW = st.tuples(*[st.lists(st.text(max_size=12), min_size=1, max_size=2).map(tuple)] * 3)


@given(st.lists(ROW, max_size=12), st.integers(0, 12))
def test_a_battle_s_marks_do_not_depend_on_its_neighbours(rows: list[object], cut: int) -> None:
    battles = table(*rows)  # type: ignore[arg-type]
    whole = battle_marks(battles)
    parts = joined([battle_marks(battles.iloc[:cut]), battle_marks(battles.iloc[cut:])])
    assert len(whole) == len(rows)
    for one, two in zip(vars(whole).values(), vars(parts).values(), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(Marks.from_frame(whole.to_frame()).sketches, whole.sketches)


def test_many_battles_and_long_ones_go_in_pieces() -> None:
    rows = [(words(n, 5), words(n + 1000, 40), words(n + 2000, 40)) for n in range(300)]
    rows[7] = (words(1, 3), words(2, 300_000), "short")
    whole = battle_marks(table(*rows))
    apart = joined([battle_marks(table(row)) for row in rows])
    np.testing.assert_array_equal(whole.sketches, apart.sketches)
    np.testing.assert_array_equal(whole.battles, apart.battles)
    assert len(np.unique(whole.battles)) == 300


def test_sketches_estimate_the_jaccard_similarity() -> None:
    """Against the definition, over pairs of texts that share from none to all of their runs."""
    rng = np.random.default_rng(0)
    estimates, truths = [], []
    for n in range(200):
        text = words(n, 200).split()
        kept = rng.random()
        other = [w if rng.random() < kept**0.2 else f"x{word(k)}" for k, w in enumerate(text)]
        rows = [("q", " ".join(text), "-"), ("q", " ".join(other), "-")]
        ours, theirs = battle_marks(table(*rows)).sketches[:, OF_PROMPT : OF_PROMPT + OF_RESPONSE]
        estimates.append(float((ours == theirs).mean()))
        runs = [set(zip(t, t[1:], t[2:], strict=False)) for t in (text, other)]
        truths.append(len(runs[0] & runs[1]) / len(runs[0] | runs[1]))
    gap = np.array(estimates) - np.array(truths)
    assert abs(gap.mean()) < 3 * 0.14 / np.sqrt(200)  # unbiased; a draw of 12 has at most 0.144
    assert gap.std() < 0.16


def test_sketches_agree_with_datasketch() -> None:
    """As a library estimates it, to within what both may be off."""
    datasketch = pytest.importorskip("datasketch")
    text = words(1, 400).split()
    for share in (0.02, 0.1, 0.3):
        other = [f"x{word(k)}" if k % round(1 / share) == 0 else w for k, w in enumerate(text)]
        hashed = []
        for tokens in (text, other):
            minhash = datasketch.MinHash(num_perm=256)
            for run in zip(tokens, tokens[1:], tokens[2:], strict=False):
                minhash.update(" ".join(run).encode())
            hashed.append(minhash)
        theirs = hashed[0].jaccard(hashed[1])
        rows = [("q", " ".join(text), "-"), ("q", " ".join(other), "-")]
        sketches = battle_marks(table(*rows)).sketches[:, OF_PROMPT : OF_PROMPT + OF_RESPONSE]
        assert float((sketches[0] == sketches[1]).mean()) == pytest.approx(theirs, abs=0.4)
