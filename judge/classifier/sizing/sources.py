"""Where a model's description comes from: a folder, a judge's folder, the hub's local cache, or the
table of well-known models. Weights are never loaded and nothing is downloaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from judge.classifier.sizing.anatomy import FAMILIES, Anatomy, anatomy_of, family_of
from judge.classifier.sizing.headers import Header, anatomy_from, read_headers
from judge.errors import InputError

_FILE = "models.yaml"
_RECIPE = "judge.yaml"
_MOST_BYTES = 1 << 24
_MOST_TOKENIZER = 1 << 28
_MOST_BASES = 4


@dataclass(frozen=True)
class Tokenizer:
    """What there is to know of a tokenizer without using it.

    Attributes:
        fast: whether it is one of the `tokenizers` package; None where that is not known.
        chat: whether it has a chat template; None where that is not known.
        tokens: the special tokens by role, such as `pad`; a role that is not there has none.
        file: its tokenizer.json.
    """

    fast: bool | None
    chat: bool | None
    tokens: dict[str, str]
    file: Path | None = None


@dataclass(frozen=True)
class Found:
    """A model, as far as it can be known without its weights.

    Attributes:
        name: as it was asked for.
        origin: `folder`, `judge`, `cache` or `table`.
        folder: where its files are; None for the table.
        anatomy: what it is made of.
        tokenizer: what is known of its tokenizer.
        quantized: how its weights are held already, where they are; else None.
        weights: parameters by the headers of its weights, and their number of bits by type.
        judge: what a judge.yaml says, where it is a judge.
    """

    name: str
    origin: str
    folder: Path | None
    anatomy: Anatomy
    tokenizer: Tokenizer
    quantized: str | None = None
    weights: Header | None = None
    judge: dict[str, Any] | None = None


def look_up(name: str, within: int = 0) -> Found:
    """The model of a name.

    Args:
        name: a folder with a config.json or a judge.yaml, a name in the hub's local cache, or one
            of the table's.
        within: how many judges and adapters have it for their base.

    Raises:
        InputError: there is none, or its files cannot be used.
    """
    if within > _MOST_BASES:
        raise InputError("is its own base, or bases go on without end", file=name)
    if os.path.isdir(name):
        return _of_folder(name, Path(name), within)
    if os.path.isfile(name):
        raise InputError("is a file", file=name, mend="name the folder that it is in")
    cached = _cached(name)
    if cached is not None:
        return replace(_of_folder(name, cached, within), origin="cache")
    return _of_table(name)


def _of_folder(name: str, folder: Path, within: int) -> Found:
    recipe = folder / _RECIPE
    if recipe.is_file():
        return _of_judge(name, folder, recipe, within)
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            return _of_adapter(name, folder, within)
        raise InputError(
            "has no config.json", file=folder, mend="name a model's folder or a judge's"
        )
    config = _json(folder / "config.json")
    headers = read_headers(folder)
    try:
        anatomy = _anatomy(config, headers)
    except InputError as error:
        raise InputError(str(error), file=folder / "config.json") from None
    return Found(
        name, "folder", folder, anatomy, _tokenizer(folder, config), _quantized(config), headers
    )


def _anatomy(config: Mapping[str, Any], headers: Header | None) -> Anatomy:
    """By the configuration; for families not known here by the weights' headers."""
    if family_of(config) in FAMILIES or headers is None:
        return anatomy_of(config)
    return anatomy_from(headers, config)


def _of_judge(name: str, folder: Path, recipe: Path, within: int) -> Found:
    settings = _yaml(recipe)
    kind = settings.get("kind")
    if kind != "classifier":
        raise InputError(
            f"is a judge of the kind {kind!r}, which has no transformer of its own",
            file=folder,
            mend="name a classifier or a model",
        )
    base = settings.get("base")
    if settings.get("weights") == "lora":
        if not isinstance(base, str) or not base:
            raise InputError("does not say its base", file=recipe)
        found = look_up(str(folder / base) if (folder / base).is_dir() else base, within + 1)
    else:
        if not (folder / "config.json").is_file():
            raise InputError("has no config.json", file=folder, mend="copy it anew, whole")
        config = _json(folder / "config.json")
        found = Found(
            name,
            "judge",
            folder,
            _anatomy(config, read_headers(folder)),
            _tokenizer(folder, config),
        )
    return replace(found, name=name, origin="judge", judge=settings)


def _of_adapter(name: str, folder: Path, within: int) -> Found:
    said = _json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(said, str) or not said:
        raise InputError("names no base model", file=folder / "adapter_config.json")
    found = look_up(str(folder / said) if (folder / said).is_dir() else said, within + 1)
    return replace(found, name=name)


def _cached(name: str) -> Path | None:
    """The folder of the newest copy of a model in the hub's local cache."""
    if name.count("/") > 1 or name.startswith((".", "/")):
        return None
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    cache_folder = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
    copies = cache_folder / f"models--{name.replace('/', '--')}" / "snapshots"
    try:
        found = [one for one in copies.iterdir() if (one / "config.json").is_file()]
    except OSError:
        return None
    return max(found, key=lambda one: one.stat().st_mtime, default=None)


def _of_table(name: str) -> Found:
    table = _table()
    wanted = name.lower().strip("/")
    for model in table:
        for known in model["names"]:
            if wanted in (known.lower(), known.split("/")[-1].lower()):
                tokens = {"pad": "there"} if model["pad"] else {}
                tokenizer = Tokenizer(True, bool(model["chat"]), tokens)
                return Found(name, "table", None, anatomy_of(model["config"]), tokenizer)
    names = {known.lower(): known for model in table for known in model["names"]}
    names |= {known.split("/")[-1].lower(): known for known in names.values()}
    near = get_close_matches(wanted, list(names), n=1, cutoff=0.75)
    mend = "name a folder with a config.json, or a model in the hub's local cache"
    if near:
        mend = f"did you mean {names[near[0]]}? Else {mend}"
    raise InputError(f"no model {name!r} here, nor in the table of known ones", mend=mend)


@cache
def _table() -> tuple[dict[str, Any], ...]:
    import yaml

    text = (resources.files(__package__) / _FILE).read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)["models"])


def known_models() -> list[str]:
    """The names in the table."""
    return [str(name) for model in _table() for name in model["names"]]


def _quantized(config: Mapping[str, Any]) -> str | None:
    said = config.get("quantization_config")
    if not isinstance(said, Mapping):
        return None
    if said.get("load_in_4bit"):
        return "4bit"
    return "8bit" if said.get("load_in_8bit") else str(said.get("quant_method", "quantised"))


# --- tokenizers -----------------------------------------------------------------------------------

_ROLES = ("bos", "eos", "pad", "cls", "sep", "mask", "unk")


def _tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """What the files of a tokenizer say."""
    file = folder / "tokenizer.json"
    said: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            said |= {k: v for k, v in _json(folder / name).items() if v is not None}
    tokens = {role: _spelled(said.get(f"{role}_token")) for role in _ROLES}
    template = folder / "chat_template.jinja"
    chat = bool(said.get("chat_template")) or template.is_file()
    chat = chat or (folder / "chat_template.json").is_file()
    slow = any((folder / one).is_file() for one in ("tokenizer.model", "spm.model", "vocab.txt"))
    fast = file.is_file() if file.is_file() or slow or said else None
    return Tokenizer(
        fast,
        chat if fast is not None else None,
        {role: text for role, text in tokens.items() if text},
        file if file.is_file() and file.stat().st_size <= _MOST_TOKENIZER else None,
    )


def _spelled(token: object) -> str:
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else ""


# --- files ----------------------------------------------------------------------------------------


def _json(file: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        InputError: the file holds none.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError("is too large to be what it is called", file=file)
        said = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=file) from None
    except (ValueError, RecursionError):
        raise InputError("is not JSON", file=file, mend="copy it anew") from None
    if not isinstance(said, dict):
        raise InputError("holds no names and values", file=file, mend="copy it anew")
    return said


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=file) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError("is not YAML", file=file, mend="copy it anew") from None
    if not isinstance(said, dict):
        raise InputError("holds no names and values", file=file, mend="copy it anew")
    return said
