"""Judges by name or folder: `load_judge` is how every command and script comes by one."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from judge.errors import InputError
from judge.judges.classifier_settings import DEFAULT as RUNNING
from judge.judges.classifier_settings import ClassifierSettings, is_classifier, make_classifier
from judge.judges.prompted_settings import DEFAULT, PromptedSettings, is_prompted, make_prompted
from judge.judges.recipes import FILE, Recipe, is_recipe, read_recipe
from judge.provenance import sources

if TYPE_CHECKING:
    from judge.judges.base import Judge

SHIPPED = {"statistical": Path(__file__).parent / "weights" / "statistical"}
KINDS = {
    "adapters": "judge.judges.adapters:AdaptersJudge",
    "aggregated": "judge.judges.recorded:AggregatedJudge",
    "blended": "judge.judges.blended:BlendedJudge",
    "calibrated": "judge.judges.calibrated:CalibratedJudge",
    "cascade": "judge.judges.cascade:CascadeJudge",
    "classifier": "judge.judges.classifier:ClassifierJudge",
    "jury": "judge.judges.jury:Jury",
    "prompted": "judge.judges.prompted_settings:PromptedRecipe",
    "recorded": "judge.judges.recorded:RecordedJudge",
    "statistical": "judge.judges.statistical:StatisticalJudge",
}
# Kinds that say how models are asked or run, themselves or in judges that they are made of: a
# folder, or a `.yaml` on its own.
COMPOSED = {
    *("adapters", "aggregated", "blended", "calibrated", "cascade", "classifier", "jury"),
    "prompted",
}
_ALLOWED = (
    f"a judge is one of {', '.join(sorted(SHIPPED))}, endpoint:MODEL, vllm:FOLDER, "
    "hf:MODEL_OR_FOLDER, "
    f"a folder with a {FILE}, or a .yaml that composes others"
)


class _Loadable(Protocol):
    def load(self, folder: Path) -> Judge: ...


class _Composed(Protocol):
    def compose(self, recipe: Recipe) -> Judge: ...


def load_judge(
    spec: str | Path | None = "statistical",
    settings: PromptedSettings = DEFAULT,
    running: ClassifierSettings = RUNNING,
) -> Judge:
    """The judge that `spec` names. Whoever loads it closes it: it may hold connections, processes
    and files.

    Args:
        spec: None or the name of a judge that ships with the package, or a judge folder. A name
            that is both is the shipped judge; write `./name` for the folder. `endpoint:MODEL` and
            `vllm:FOLDER` are prompted judges. `hf:MODEL_OR_FOLDER` is a checkpoint that classifies
            sequences. A `.yaml` file composes other judges.
        settings: how prompted judges ask; others have no use for it.
        running: how fine-tuned judges are run; others have no use for it.

    Raises:
        InputError: no such judge, or a folder whose judge.yaml cannot be used.
    """
    return load("statistical" if spec is None else str(spec), settings, (), running)


def load(
    spec: str,
    settings: PromptedSettings,
    within: tuple[Path, ...] = (),
    running: ClassifierSettings = RUNNING,
) -> Judge:
    """`load_judge` for a judge that is part of those whose files are `within`."""
    if is_prompted(spec):
        return make_prompted(spec, settings)
    if is_classifier(spec):
        return make_classifier(spec, running)
    path = SHIPPED.get(spec, Path(spec))
    alone = path.is_file() and is_recipe(spec)
    if not path.is_dir() and not alone:
        raise InputError(f"no such judge: {spec!r}", mend=_mend(spec, list(SHIPPED), _ALLOWED))
    recipe = read_recipe(path if alone else path / FILE, settings, within, running)
    kind = str(recipe.settings["kind"])
    if kind not in KINDS:
        mend = _mend(kind, list(KINDS), f"the kinds are {', '.join(sorted(KINDS))}")
        raise InputError(f"unknown kind of judge: {kind!r}", file=recipe.file, mend=mend)
    module, _, attribute = KINDS[kind].partition(":")
    made = getattr(import_module(module), attribute)
    if kind in COMPOSED:
        judge = cast(_Composed, made).compose(recipe)
    elif alone:
        raise InputError(
            f"a judge of the kind {kind} has weights, which lie in its folder",
            file=recipe.file,
            mend="name the folder",
        )
    else:
        judge = cast(_Loadable, made).load(path)
    stated = (source for part in judge.members for source in part.sources)
    if not alone:
        from judge.conformal import load_conformity

        judge.conformity = load_conformity(path)
    judge.folder = None if alone else path
    judge.sources = tuple(dict.fromkeys((*sources(recipe.settings), *stated)))
    return judge


def _mend(name: str, known: list[str], allowed: str) -> str:
    close = get_close_matches(name.lower(), known, n=1)
    return f"did you mean {close[0]}? {allowed}" if close else allowed
