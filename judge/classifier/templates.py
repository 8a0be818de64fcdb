"""How a battle is put before a fine-tuned classifier: the words around its texts.

    template = load_template("interleaved")      # the newest of that name
    template = load_template("interleaved@1")    # the one that a judge was trained with

The words stand in `templates.yaml`. A template says nothing of tokens; `judge.classifier.tokens`
makes sequences of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from judge.errors import InputError

FORMS = ("pair", "single")
"""One sequence for prompt, A and B; or one for prompt and A and another for prompt and B."""
TURNS = ("interleaved", "a-then-b")

_FILE = "templates.yaml"
_FORMAT = 1


@dataclass(frozen=True)
class Template:
    """The words around a battle's texts.

    Attributes:
        name: what it is called.
        version: of its words.
        form: one of `FORMS`.
        turns: one of `TURNS`, how turns follow one another.
        between: what parts sections where a tokenizer has no separator token.
        prompt: stands before each turn of the prompt.
        responses: what stands before a turn of the first response shown and of the second; the same
            for both in single form.
        cut: stands where part of a text is missing.
        closing: the last words of a sequence.
    """

    name: str
    version: int
    form: str
    turns: str
    between: str
    prompt: str
    responses: tuple[str, str]
    cut: str
    closing: str

    @property
    def spec(self) -> str:
        """What a judge that was trained with it says, `interleaved@1`."""
        return f"{self.name}@{self.version}"


def load_template(name: str) -> Template:
    """A template by its name, the newest, or by its name and version.

    Raises:
        InputError: there is none.
    """
    known = _templates()
    if name in known:
        return known[name]
    plain, _, version = name.partition("@")
    if version and plain in known:
        there = ", ".join(spec for spec in known if spec.startswith(f"{plain}@"))
        raise InputError(f"template {plain} has no version {version}", mend=f"there is {there}")
    names = template_names()
    close = get_close_matches(plain.lower(), names, n=1)
    mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    raise InputError(f"no template is called {name}", mend=mend)


def template_names(form: str | None = None) -> list[str]:
    """What templates there are, of one form or of all."""
    found = (template for template in _templates().values() if form in (None, template.form))
    return list(dict.fromkeys(template.name for template in found))


@cache
def _templates() -> dict[str, Template]:
    """By name and by name and version; by the name alone the newest."""
    import yaml

    raw = resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    stored = yaml.safe_load(raw)
    if stored["format"] != _FORMAT:
        raise InputError(f"format is {stored['format']}, not {_FORMAT}", file=_FILE)
    templates = sorted(map(_template, stored["templates"]), key=lambda found: found.version)
    return {template.spec: template for template in templates} | {
        template.name: template for template in templates
    }


def _template(entry: dict[str, Any]) -> Template:
    pair = entry["form"] == "pair"
    responses = ("response_a", "response_b") if pair else ("response", "response")
    template = Template(
        name=entry["name"],
        version=entry["version"],
        form=entry["form"],
        turns=entry["turns"],
        between=entry["between"],
        prompt=entry["prompt"],
        responses=(entry[responses[0]], entry[responses[1]]),
        cut=entry["cut"],
        closing=entry["closing"],
    )
    if template.form not in FORMS or template.turns not in TURNS:
        raise InputError(f"{template.spec} has no form or turns that are known", file=_FILE)
    return template
