"""Judges by name or folder: `load_judge` is how every command and script comes by one."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from judge.errors import InputError
from judge.judges.prompted_settings import DEFAULT, PromptedSettings, is_prompted, make_prompted
from judge.provenance import sources

if TYPE_CHECKING:
    from judge.judges.base import Judge

SHIPPED = {"statistical": Path(__file__).parent / "weights" / "statistical"}
KINDS = {
    "aggregated": "judge.judges.recorded:AggregatedJudge",
    "recorded": "judge.judges.recorded:RecordedJudge",
    "statistical": "judge.judges.statistical:StatisticalJudge",
}
_ALLOWED = (
    f"a judge is one of {', '.join(sorted(SHIPPED))}, endpoint:MODEL, vllm:FOLDER, "
    "or a folder with a judge.yaml"
)


# Kinds that may have another judge inside, which may be a prompted one.
_ASKING = {"aggregated"}


class _Loadable(Protocol):
    def load(self, folder: Path) -> Judge: ...


class _Asking(Protocol):
    def load(self, folder: Path, asking: PromptedSettings) -> Judge: ...


def load_judge(
    spec: str | Path | None = "statistical", settings: PromptedSettings = DEFAULT
) -> Judge:
    """The judge that `spec` names.

    Args:
        spec: None or the name of a judge that ships with the package, or a judge folder. A name
            that is both is the shipped judge; write `./name` for the folder. `endpoint:MODEL` and
            `vllm:FOLDER` are prompted judges, which are closed by who loads them.
        settings: how prompted judges ask; others have no use for it.

    Raises:
        InputError: no such judge, or a folder whose judge.yaml cannot be used.
    """
    name = "statistical" if spec is None else str(spec)
    if is_prompted(name):
        return make_prompted(name, settings)
    folder = SHIPPED.get(name, Path(name))
    if not folder.is_dir():
        raise InputError(f"no such judge: {name!r}", mend=_mend(name, list(SHIPPED), _ALLOWED))
    said = _settings(folder / "judge.yaml")
    kind = str(said["kind"])
    module, _, attribute = KINDS[kind].partition(":")
    made = getattr(import_module(module), attribute)
    if kind in _ASKING:
        judge = cast(_Asking, made).load(folder, settings)
    else:
        judge = cast(_Loadable, made).load(folder)
    judge.sources = sources(said)
    return judge


def _mend(name: str, known: list[str], allowed: str) -> str:
    close = get_close_matches(name.lower(), known, n=1)
    return f"did you mean {close[0]}? {allowed}" if close else allowed


def _settings(file: Path) -> dict[str, object]:
    """What a judge.yaml says; its kind is known to be one of `KINDS`."""
    import yaml

    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "not found, so this is no judge folder", file=file, mend=_ALLOWED
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
    if kind not in KINDS:
        mend = _mend(kind, list(KINDS), f"the kinds are {', '.join(sorted(KINDS))}")
        raise InputError(f"unknown kind of judge: {kind!r}", file=file, mend=mend)
    return settings
