"""How a model is asked to write: YAML files, as `prompts/writing/response.yaml`.

    load_writing("response")             # one of the package's own
    load_writing("mine/terse.yaml")      # any other by its path

A file has `format`, `name`, `version`, `max_tokens`, `typical_tokens`, `temperature` and, where the
model is told anything beside the conversation, `system`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any

from judge.engines.base import Parameters
from judge.errors import InputError

FORMAT = 1
RESPONSE, REFERENCE = "response", "reference"
"""The package's own."""

_OWN = (RESPONSE, REFERENCE)
_HOTTEST = 5.0
_KEYS = {"format", "name", "version", "max_tokens", "typical_tokens", "temperature"}


@dataclass(frozen=True)
class WritingPrompt:
    """How a model is asked to write.

    Attributes:
        name: what it is called in records.
        version: of its words.
        digest: of the file's content.
        system: what goes before the conversation; empty for nothing.
        max_tokens: where an answer is cut.
        typical_tokens: how long answers mostly are, for estimates.
        temperature: 0 for the likeliest answer.
    """

    name: str
    version: str
    digest: str
    system: str
    max_tokens: int
    typical_tokens: int
    temperature: float

    def parameters(
        self,
        model: str,
        *,
        seed: int | None = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Parameters:
        """How a model is to answer; what is not given is as the prompt has it."""
        warmth = self.temperature if temperature is None else temperature
        return Parameters(
            model=model,
            temperature=warmth,
            max_tokens=max_tokens or self.max_tokens,
            seed=seed if warmth > 0 else None,
        )


def load_writing(name_or_path: str | Path) -> WritingPrompt:
    """Reads a prompt: one of the package's own by its name, any other by its path.

    Raises:
        InputError: there is no such prompt, or the file is none that this version reads.
    """
    named = str(name_or_path)
    if not named.lower().endswith((".yaml", ".yml")) and Path(named).name == named:
        if named not in _OWN:
            mend = f"take one of {', '.join(_OWN)}, or the path of a .yaml file"
            raise InputError(f"no writing prompt is called {named}", mend=mend)
        own = resources.files("prompts").joinpath("writing", f"{named}.yaml")
        return _parsed(own.read_bytes(), f"{named}.yaml")
    try:
        raw = Path(named).read_bytes()
    except OSError as error:
        why = error.strerror or "cannot be read"
        raise InputError(why, file=named, mend="name a prompt file") from None
    return _parsed(raw, named)


def _parsed(raw: bytes, file: str) -> WritingPrompt:
    import yaml

    try:
        found = yaml.safe_load(raw.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError("is not YAML", file=file, mend="write it as UTF-8 YAML") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        mend = f"write format: {FORMAT}, and start from prompts/writing/response.yaml"
        raise InputError("is no writing prompt of this version", file=file, mend=mend)
    missing = sorted(_KEYS - found.keys())
    unknown = sorted(str(key)[:40] for key in found.keys() - _KEYS - {"system"})
    if missing or unknown:
        what = f"no {', '.join(missing)}" if missing else f"unknown key {', '.join(unknown)}"
        mend = f"the keys are {', '.join(sorted(_KEYS | {'system'}))}"
        raise InputError(what, file=file, mend=mend)
    longest = _number(found, "max_tokens", file)
    typical = _number(found, "typical_tokens", file)
    if typical > longest:
        what = f"typical_tokens is {typical}, more than max_tokens"
        raise InputError(what, file=file, mend=f"write {longest} or less")
    return WritingPrompt(
        name=_text(found, "name", file),
        version=_text(found, "version", file),
        digest=blake2b(raw, digest_size=8).hexdigest(),
        system=_text(found, "system", file) if "system" in found else "",
        max_tokens=longest,
        typical_tokens=typical,
        temperature=_temperature(found["temperature"], file),
    )


def _number(found: Mapping[str, Any], key: str, file: str) -> int:
    number = found[key]
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InputError(f"{key} is no number from 1", file=file, mend="write a whole number")
    return number


def _temperature(value: object, file: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= _HOTTEST:  # type: ignore[operator]
        what = f"temperature is no number from 0 to {_HOTTEST:g}"
        raise InputError(what, file=file, mend="write temperature: 0.7")
    return float(value)  # type: ignore[arg-type]


def _text(found: Mapping[str, Any], key: str, file: str) -> str:
    text = found[key]
    if key == "version" and isinstance(text, int | float) and not isinstance(text, bool):
        return str(text)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{key} is no text", file=file, mend=f"write {key}: and its text")
    return text.strip()
