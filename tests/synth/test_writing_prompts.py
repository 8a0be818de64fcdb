"""The files that say how models are asked to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from judge.errors import InputError
from synth.writing_prompts import load_writing

GOOD = {
    "format": "1",
    "name": "terse",
    "version": "2",
    "max_tokens": "100",
    "typical_tokens": "40",
    "temperature": "0.5",
    "system": "Be short.",
}


def written(path: Path, **changes: str | None) -> Path:
    found = {**GOOD, **changes}
    lines = [f"{key}: {value}" for key, value in found.items() if value is not None]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_own_prompts() -> None:
    response, reference = load_writing("response"), load_writing("reference")
    assert not response.system
    assert response.temperature > 0
    assert "language" in reference.system
    assert reference.temperature == 0
    for prompt in (response, reference):
        assert prompt.typical_tokens <= prompt.max_tokens
    assert response.digest != reference.digest


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    prompt = load_writing(written(tmp_path / "mine.yaml"))
    assert (prompt.name, prompt.version, prompt.system) == ("terse", "2", "Be short.")
    assert load_writing(written(tmp_path / "mine.yaml", system=None)).system == ""


def test_parameters_are_the_prompts_unless_told_otherwise() -> None:
    prompt = load_writing("response")
    own = prompt.parameters("m", seed=3)
    assert (own.model, own.temperature, own.max_tokens, own.seed) == ("m", 0.7, 2048, 3)
    cold = prompt.parameters("m", seed=3, temperature=0.0, max_tokens=9)
    assert (cold.temperature, cold.max_tokens, cold.seed) == (0.0, 9, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "2"}, "of this version"),
        ({"max_tokens": None}, "no max_tokens"),
        ({"max_tokens": "0"}, "max_tokens is no number"),
        ({"max_tokens": "true"}, "max_tokens is no number"),
        ({"typical_tokens": "101"}, "more than max_tokens"),
        ({"temperature": "6"}, "temperature"),
        ({"temperature": ".nan"}, "temperature"),
        ({"system": "''"}, "system is no text"),
        ({"name": "[a]"}, "name is no text"),
        ({"words": "x"}, "unknown key words"),
        ({"name": "{a: b"}, "is not YAML"),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict[str, str | None], words: str) -> None:
    path = written(tmp_path / "mine.yaml", **changes)
    with pytest.raises(InputError, match=words) as fault:
        load_writing(path)
    assert str(path) in str(fault.value)


def test_prompts_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="take one of response, reference"):
        load_writing("discriminator")
    with pytest.raises(InputError, match="No such file"):
        load_writing(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_bytes(b"- 1\n")
    with pytest.raises(InputError, match="of this version"):
        load_writing(tmp_path / "list.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not YAML"):
        load_writing(tmp_path / "bytes.yaml")
