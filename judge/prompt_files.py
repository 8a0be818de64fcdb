"""Prompt files: YAML with Jinja text, read and checked to the point that rendering cannot fail.

    load_prompt("discriminator")        # one of the package's own
    load_prompt("mine/strict.yaml")     # any other by its path

`docs/prompts.md` says what such a file holds; `judge.prompting` puts battles into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from judge.ballots import CRITERIA, VOTES
from judge.encoding import BattleText
from judge.errors import InputError
from judge.prompting import Prompt, bad_template, battle_nonce, environment

FORMAT = 1
"""The form of prompt files that this version reads."""

# What each text of a prompt file may speak of.
_VARIABLES = {
    "system": {"criteria", "scale"},
    "battle": {"nonce", "turns"},
    "question": {"criteria", "scale", "criterion", "nonce"},
}
_FLAGS = ("reason", "reference")
_MAY = ("reasons", "verdict", "critique")  # flags that may be left out, for no
_KEYS = {
    *("format", "name", "version", "asks", "reason", "reference", "max_tokens"),
    *("criteria", "scale", "system", "battle", "question"),
}
_OPTIONAL = {"system", "typical_tokens", *_MAY}


def load_prompt(name_or_path: str | Path) -> Prompt:
    """Reads a prompt: one of the package's own by its name, any other by its path.

    Raises:
        InputError: there is no such prompt, or the file is none that this version reads.
    """
    named = str(name_or_path)
    if not named.lower().endswith((".yaml", ".yml")) and Path(named).name == named:
        return _own_prompt(named)
    try:
        raw = Path(named).read_bytes()
    except OSError as error:
        why = error.strerror or "cannot be read"
        raise InputError(why, file=named, mend="name a prompt file") from None
    return _parse(raw, named)


def own_prompts() -> list[str]:
    """The names of the prompts that the package brings."""
    files = resources.files("prompts").iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith(".yaml"))


def _own_prompt(name: str) -> Prompt:
    if name not in own_prompts():
        mend = f"take one of {', '.join(own_prompts())}, or the path of a .yaml file"
        raise InputError(f"no prompt is called {name}", mend=mend)
    raw = resources.files("prompts").joinpath(f"{name}.yaml").read_bytes()
    return _parse(raw, f"{name}.yaml")


def _parse(raw: bytes, file: str) -> Prompt:
    """A prompt from the bytes of its file, checked to the point that rendering cannot fail."""
    found = _mapping(raw, file)
    if found.get("format") != FORMAT:
        said = found.get("format", "missing")
        # A list may hold itself a billion times over, in few lines.
        plain = repr(said)[:40] if isinstance(said, str | int | float) else "no number"
        raise InputError(
            f"format is {plain}, not {FORMAT}",
            file=file,
            mend="write the file in the form of docs/prompts.md",
        )
    missing = sorted(_KEYS - _OPTIONAL - found.keys())
    unknown = sorted(str(key) for key in found.keys() - _KEYS - _OPTIONAL)
    if missing or unknown:
        what = f"no {', '.join(missing)}" if missing else f"unknown key {', '.join(unknown)}"
        raise InputError(
            what, file=file, mend=f"the keys are {', '.join(sorted(_KEYS | _OPTIONAL))}"
        )
    if found["asks"] not in ("all", "one"):
        raise InputError("asks is neither 'all' nor 'one'", file=file, mend="write asks: all")
    flags = {key: _flag(found, key, file) for key in (*_FLAGS, *_MAY)}
    if found["asks"] == "one" and any(flags[key] for key in _MAY):
        asked = next(key for key in _MAY if flags[key])
        mend = "write asks: all"
        raise InputError(f"{asked} belongs to a reply on all criteria", file=file, mend=mend)
    longest = _tokens(found, "max_tokens", file)
    typical = _tokens(found, "typical_tokens", file) if "typical_tokens" in found else None
    prompt = Prompt(
        name=_text(found, "name", file),
        version=_text(found, "version", file),
        digest=blake2b(raw, digest_size=8).hexdigest(),
        file=file,
        one_by_one=found["asks"] == "one",
        max_tokens=longest,
        typical_tokens=None if typical is None else min(typical, longest),
        definitions=_entries(found, "criteria", CRITERIA, file),
        scale=_entries(found, "scale", VOTES, file),
        system=_text(found, "system", file) if "system" in found else "",
        battle=_text(found, "battle", file),
        question=_text(found, "question", file),
        **flags,
    )
    _check_templates(prompt)
    return prompt


def _flag(found: Mapping[str, Any], key: str, file: str) -> bool:
    said = found.get(key, False)
    if not isinstance(said, bool):
        raise InputError(f"{key} is neither true nor false", file=file, mend=f"{key}: false")
    return said


def _tokens(found: Mapping[str, Any], key: str, file: str) -> int:
    said = found[key]
    if not isinstance(said, int) or isinstance(said, bool) or said < 1:
        raise InputError(f"{key} is no number from 1", file=file, mend="write a whole number")
    return said


def _mapping(raw: bytes, file: str) -> dict[Any, Any]:
    try:
        found = yaml.safe_load(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError("not UTF-8", file=file, mend="save it as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or "no YAML").split())
        row = None if mark is None else mark.line + 1
        what = f"bad YAML ({problem})"
        raise InputError(what, file=file, row=row, mend="mend it there") from None
    if not isinstance(found, dict):
        raise InputError("not a mapping of keys", file=file, mend="start from one of the prompts")
    return found


def _text(found: Mapping[str, Any], key: str, file: str) -> str:
    text = found[key]
    if key == "version" and isinstance(text, int | float) and not isinstance(text, bool):
        return str(text)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{key} is no text", file=file, mend=f"write {key}: and its text")
    return text.rstrip("\n") if key != "battle" else text


def _entries(
    found: Mapping[str, Any], key: str, names: tuple[str, ...], file: str
) -> tuple[str, ...]:
    """The texts under `key`, one for each of `names`; the names are not the file's to choose."""
    entries = found[key]
    if not isinstance(entries, dict):
        raise InputError(f"{key} is no mapping", file=file, mend=f"give {', '.join(names)} a text")
    strange = [str(name)[:40] for name in entries if name not in names]
    if strange:
        word = "criterion" if key == "criteria" else "vote"
        mend = f"{key} are {', '.join(names)}" if key == "criteria" else f"use {', '.join(names)}"
        raise InputError(f"unknown {word} {', '.join(strange)}", file=file, mend=mend)
    for name in names:
        if not isinstance(entries.get(name), str) or not entries[name].strip():
            raise InputError(f"{key} has no text for {name}", file=file, mend="write one")
    return tuple(entries[name].strip() for name in names)


def _check_templates(prompt: Prompt) -> None:
    """Finds what would fail at the first battle, or show a model half of it."""
    from jinja2 import TemplateError
    from jinja2.meta import find_undeclared_variables

    for key, allowed in _VARIABLES.items():
        source = getattr(prompt, key)
        try:
            used = find_undeclared_variables(environment().parse(source))
        except TemplateError as error:
            raise bad_template(prompt.file, key, error) from None
        if key == "question" and not prompt.one_by_one:
            allowed = allowed - {"criterion"}
        if used - allowed:
            raise InputError(
                f"{key} speaks of {', '.join(sorted(used - allowed))}, which is undefined there",
                file=prompt.file,
                mend=f"{key} knows {', '.join(sorted(allowed))}",
            )
    shown = BattleText(("first q", "last q"), ("first a", "last a"), ("first b", "last b"))
    reference = "known answer" if prompt.reference else None
    for criterion in prompt.questions:
        text = prompt.render(shown, "AB", criterion, reference)[-1].content
    nonce = battle_nonce(shown, (reference,) if reference else ())
    wanted = [*shown.prompt, *shown.response_a, *shown.response_b, nonce, reference or nonce]
    lost = [part for part in wanted if part not in text]
    if lost:
        what = "the nonce" if lost[0] == nonce else "a turn of the prompt, of A or of B"
        raise InputError(
            f"battle never shows {'the reference' if lost[0] == reference else what}",
            file=prompt.file,
            mend="loop over turns with {{ nonce }} on the lines between, as in discriminator.yaml",
        )
