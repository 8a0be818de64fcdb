"""What a judge.yaml says, and how one is written: the part that all kinds of judges share.

A judge that is made of others names them in its recipe, a folder or another recipe by its path from
there. So a folder of judges can be moved as a whole, and a `.yaml` that composes judges is a recipe
without weights beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judge.errors import InputError
from judge.judges.classifier_settings import DEFAULT as RUNNING
from judge.judges.classifier_settings import ClassifierSettings, as_run
from judge.judges.prompted_settings import DEFAULT, PromptedSettings, as_kept

if TYPE_CHECKING:
    from judge.judges.base import Judge

FILE = "judge.yaml"
_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class Recipe:
    """What a judge is made of.

    Attributes:
        file: where it is written; paths in it are from its folder.
        settings: what it says; its kind is known.
        asking: how prompted judges inside ask.
        within: the files of the judges that this one is part of.
        running: how fine-tuned judges inside are run.
    """

    file: Path
    settings: Mapping[str, Any]
    asking: PromptedSettings = DEFAULT
    within: tuple[Path, ...] = ()
    running: ClassifierSettings = RUNNING

    @property
    def folder(self) -> Path:
        return self.file.parent

    def name(self, default: str) -> str:
        """What the judge is called in tables."""
        return str(self.settings.get("name") or default)

    def told(self) -> Recipe:
        """The same, with what it says of how its judges are asked (`asking`) and run (`running`) in
        place of defaults.

        Raises:
            InputError: it says something that is no such setting.
        """
        asking = as_kept(self.asking, self.settings.get("asking"), self.file)
        running = as_run(self.running, self.settings.get("running"), self.file)
        return replace(self, asking=asking, running=running)

    def member(self, key: str = "judge") -> Judge:
        """The judge that is named under `key`.

        Raises:
            InputError: none is named, it is not there, or it is this one.
        """
        spec = self.settings.get(key)
        if not isinstance(spec, str) or not spec.strip():
            raise InputError("names no judge", file=self.file, mend=f"add a line `{key}: JUDGE`")
        return self._load(spec)

    def members(self, key: str = "judges") -> list[Judge]:
        """The judges that are listed under `key`; if one of them cannot be had, those before it are
        closed.

        Raises:
            InputError: none are listed, one is not there, or it is this one.
        """
        specs = self.settings.get(key)
        if not isinstance(specs, list) or not specs or not all(isinstance(s, str) for s in specs):
            raise InputError(
                "lists no judges", file=self.file, mend=f"add a list `{key}: [JUDGE, JUDGE]`"
            )
        with ExitStack() as stack:
            made = []
            for spec in specs:
                judge = self._load(spec)
                stack.callback(judge.close)
                made.append(judge)
            stack.pop_all()
        return made

    def _load(self, spec: str) -> Judge:
        from judge.judges import load

        beside = self.folder / spec
        where = str(beside) if beside.exists() else spec
        return load(where, self.asking, (*self.within, self.file.resolve()), self.running)


def is_recipe(spec: str) -> bool:
    """Whether a judge's name is that of a `.yaml` that composes judges."""
    return spec.lower().endswith(_ENDINGS)


def as_member(spec: str, folder: Path) -> str:
    """How a judge that the user named `spec` is named in the recipe in `folder`."""
    return os.path.relpath(spec, folder) if os.path.exists(spec) else spec


def recipes_of(spec: str | Path) -> Iterator[Path]:
    """The files that say what a judge is made of that could be loaded: its own, and those of the
    judges in it."""
    from judge.judges import SHIPPED

    path = Path(spec)
    file = path / FILE if path.is_dir() else path
    if str(spec) in SHIPPED or not (file.is_file() and is_recipe(file.name)):
        return
    yield file.resolve()
    settings = read_recipe(file).settings
    named = settings.get("judges", settings.get("adapters", [settings.get("judge")]))
    for member in named if isinstance(named, list) else []:
        if isinstance(member, str):
            beside = file.parent / member
            yield from recipes_of(beside if beside.exists() else member)


def places_of(spec: str | Path) -> list[Path]:
    """Where a judge that could be loaded and those that it is made of lie: their folders, or the
    files that compose them."""
    files = recipes_of(spec)
    return list(dict.fromkeys(file.parent if file.name == FILE else file for file in files))


def known_by(spec: str | Path) -> list[str]:
    """By what a judge and those that it is made of are known again: hashes of what lies in their
    folders (see `weights_fingerprint`), or its name where there is nothing of that name."""
    from judge.provenance import weights_fingerprint

    if not os.path.exists(spec):
        return [str(spec)]
    return [weights_fingerprint(one) for one in places_of(spec) or [Path(spec)]]


def is_made_of(spec: str | Path, folder: Path) -> bool:
    """Whether a judge that could be loaded, or one in it, lies in a folder."""
    target = folder.resolve()
    return any(file.is_relative_to(target) for file in recipes_of(spec))


def read_recipe(
    file: Path,
    asking: PromptedSettings = DEFAULT,
    within: tuple[Path, ...] = (),
    running: ClassifierSettings = RUNNING,
) -> Recipe:
    """What a file says.

    Raises:
        InputError: it is not there, no YAML, says no kind, or is part of itself.
    """
    import yaml

    if file.resolve() in within:
        raise InputError("names itself as a judge to ask", file=file)
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "not found, so this is no judge folder", file=file, mend="name another folder"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", file=file) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or type(error).__name__
        row = None if mark is None else mark.line + 1
        raise InputError(f"is not YAML ({what})", file=file, row=row) from None
    kind = settings.get("kind") if isinstance(settings, dict) else None
    if not isinstance(settings, dict) or not isinstance(kind, str):
        raise InputError("does not say its kind", file=file, mend="add a line `kind: statistical`")
    return Recipe(file, settings, asking, within, running)


def made_from(files: Iterable[Path], judges: Iterable[Judge] = ()) -> dict[str, dict[str, object]]:
    """What a judge learned from, for its recipe: files, and what its members learned from."""
    from judge.provenance import fingerprint

    found = [fingerprint(file) for file in files]
    found += [source for judge in judges for source in judge.sources]
    stated: dict[str, dict[str, object]] = {}
    for source in found:
        stated.setdefault(source.name, {"bytes": source.size, "sha256": source.sha256})
    return stated


def made_by(command: str, **options: object) -> dict[str, object]:
    """Which command made a judge, how, and with which versions, for its recipe."""
    from importlib.metadata import version

    from judge import __version__

    versions = {"arena-judge": __version__, "numpy": version("numpy")}
    return {"command": f"arena-judge {command}", "versions": versions} | options


@contextmanager
def written_judge(target: Path, settings: Mapping[str, object]) -> Iterator[Path]:
    """A judge folder with its recipe, to put what else belongs to it in; it takes the place of
    `target` when the block ends well, and goes when it does not."""
    import yaml

    from judge.files.folders import written_folder

    with written_folder(target) as folder:
        text = yaml.safe_dump(plain(dict(settings)), sort_keys=False, allow_unicode=True, width=100)
        (folder / FILE).write_text(text, encoding="utf-8")
        yield folder


def plain(value: Any) -> Any:
    """The same with Python's own numbers and lists, as YAML and JSON want them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value
