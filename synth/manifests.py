"""What a folder says of itself, in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from judge.errors import InputError
from judge.files.atomic import explained


def read_manifest(folder: Path, name: str, form: int, kind: str, mend: str) -> dict[str, Any]:
    """What `name` in a folder says.

    Args:
        folder: as the user named it.
        name: of the file.
        form: of the file that this version reads; earlier ones too.
        kind: what the folder is called.
        mend: what to do where it is none.

    Raises:
        InputError: the folder has no such file, or not one of that form.
    """
    file = folder / name
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = f"is no {kind}" if folder.exists() else "is not there"
        raise InputError(what, file=folder, mend=mend) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=file) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
        raise InputError("is not YAML", file=file, mend=mend) from None
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise InputError(f"describes no {kind}", file=file, mend=mend)
    found = content.get("format")
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= form:
        what = "was written by a later version of arena-judge"
        raise InputError(what, file=file, mend="update arena-judge")
    return content


def write_manifest(file: Path, content: Mapping[str, Any]) -> None:
    """Writes what a folder says of itself, in the order given."""
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)
    with explained(file):
        file.write_text(text, encoding="utf-8")
