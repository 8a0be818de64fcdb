"""From a name and settings to a prompted judge: `endpoint:MODEL` and `vllm:FOLDER`.

    judge = make_prompted("endpoint:my-model", PromptedSettings(base_urls=(url,)))

Whoever makes one closes it: it may hold connections, processes and the ledger's file.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from judge.encoding import TokenCounter
    from judge.engines.base import Engine
    from judge.engines.ledger import Ledger
    from judge.engines.settings import EndpointSettings
    from judge.judges.base import Judge
    from judge.judges.prompted import PromptedJudge
    from judge.judges.recipes import Recipe

ENDPOINT, VLLM = "endpoint:", "vllm:"
LEDGER = "ARENA_JUDGE_LEDGER"
"""The environment variable that names the ledger's file."""

_TOP_LOGPROBS = 10
# Settings that only one of the engines knows, and what they are called on the command line.
_OF_ENDPOINT = {
    "base_urls": "--base-url",
    "api_key_env": "--api-key-env",
    "concurrency": "--concurrency",
    "rpm": "--rpm",
    "tpm": "--tpm",
    "timeout": "--timeout",
    "max_cost": "--max-cost",
    "prices": "--prices",
    "client": "--client",
    "batch": "--batch",
}
_OF_VLLM = {"gpus": "--gpus", "adapter": "--adapter"}


@dataclass(frozen=True)
class PromptedSettings:
    """Everything that may be said about how a prompted judge is to ask.

    Attributes:
        prompt: one of the package's prompts, or a prompt file.
        orders: of AB and BA.
        samples, temperature, retries, seed: see `judge.judges.asking.Asking`.
        logprobs: ask for log-probabilities, so that votes are distributions.
        fit_context: what to keep of a battle too long for the context.
        context: tokens that prompt and reply may have together; None for what the model says
            (vllm), or no limit (endpoint).
        tokenizer: a tokenizer.json or model folder to count tokens with; by default the model's
            own if it is at hand, else an estimate.
        ledger: its file; None for the default one.
        keep: whether there is a ledger at all.
        base_urls, api_key_env, concurrency, rpm, tpm, timeout, max_cost, prices, client: see
            `judge.engines.settings.EndpointSettings`; endpoint only.
        batch: a folder; calls go through batch files in it and not one by one; endpoint only.
        gpus, adapter: see `judge.engines.vllm.VllmEngine`; vllm only.
        dry: nothing is going to be asked.
        said: what goes before a judge folder's own settings even where it is the default.
    """

    prompt: str = "discriminator"
    orders: tuple[str, ...] = ("AB", "BA")
    samples: int = 1
    temperature: float | None = None
    retries: int = 2
    seed: int = 0
    logprobs: bool = True
    fit_context: str = "head-tail"
    context: int | None = None
    tokenizer: str | None = None
    ledger: str | None = None
    keep: bool = True
    base_urls: tuple[str, ...] = ()
    api_key_env: str | tuple[str, ...] = ()
    concurrency: int = 256
    rpm: float | None = None
    tpm: float | None = None
    timeout: float = 120.0
    max_cost: float | None = None
    prices: str | None = None
    client: Literal["aiohttp", "openai"] = "aiohttp"
    batch: str | None = None
    gpus: tuple[int, ...] = ()
    adapter: str | None = None
    dry: bool = False
    said: frozenset[str] = frozenset()


DEFAULT = PromptedSettings()

# What a judge folder keeps of how its ballots were asked for: all that the votes depend on.
_KEPT = ("prompt", "orders", "samples", "temperature", "logprobs", "fit_context", "context")


def to_keep(settings: PromptedSettings, folder: Path) -> dict[str, object]:
    """How ballots were asked for, for the judge.yaml in `folder`; what is at its default is left
    out, and a prompt file and an adapter are named from there."""
    kept: dict[str, object] = {}
    for name in _KEPT:
        value = getattr(settings, name)
        if value != getattr(DEFAULT, name):
            kept[name] = list(value) if isinstance(value, tuple) else value
    if Path(settings.prompt).suffix in (".yaml", ".yml"):
        kept["prompt"] = os.path.relpath(settings.prompt, folder)
    if settings.adapter is not None:
        kept["adapter"] = os.path.relpath(Path(settings.adapter).expanduser(), folder)
    return kept


def as_kept(settings: PromptedSettings, kept: object, file: Path) -> PromptedSettings:
    """Settings with what a recipe says under `asking` in place of defaults; what the user said goes
    before.

    Raises:
        InputError: it says something that is no such setting.
    """
    if kept is None:
        return settings
    if not isinstance(kept, dict) or set(kept) - set(_TYPES):
        raise InputError("asking cannot be read", file=file, mend=f"it has {', '.join(_TYPES)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in kept.items()
        if getattr(settings, name) == getattr(DEFAULT, name) and name not in settings.said
    }
    prompt = values.get("prompt")
    if isinstance(prompt, str) and Path(prompt).suffix in (".yaml", ".yml"):
        values["prompt"] = str(file.parent / prompt)
    adapter = values.get("adapter")
    if isinstance(adapter, str):
        beside = file.parent / Path(adapter).expanduser()
        if not beside.is_dir():
            raise InputError(
                f"names the adapter {adapter}, which is not there",
                file=file,
                mend="put it there, or write where it is under asking",
            )
        values["adapter"] = str(beside)
    for name, value in values.items():
        if not isinstance(value, _TYPES[name]) or isinstance(value, bool) != (name == "logprobs"):
            raise InputError(f"asking has a {name} that cannot be", file=file)
        if isinstance(value, tuple) and not all(isinstance(one, str) for one in value):
            raise InputError(f"asking has a {name} that cannot be", file=file)
    keys = values.get("api_key_env")
    if isinstance(keys, tuple) and len(keys) > 1 and "base_urls" in kept.keys() - values.keys():
        # One server's key is not shown to another.
        raise InputError(
            "asking names keys for its own servers, and other servers are to be asked",
            file=file,
            mend="name their keys too",
        )
    return replace(settings, **values)


_TYPES: dict[str, type | tuple[type, ...]] = {
    "prompt": str,
    "orders": tuple,
    "samples": int,
    "temperature": (int, float),
    "logprobs": bool,
    "fit_context": str,
    "context": int,
    # No vote depends on these, but judges that work together may each want their own.
    "retries": int,
    "tokenizer": str,
    "base_urls": tuple,
    "api_key_env": (str, tuple),
    "concurrency": int,
    "rpm": (int, float),
    "tpm": (int, float),
    "timeout": (int, float),
    "adapter": str,
}


def is_prompted(spec: str) -> bool:
    """Whether a judge's name asks for a prompted one."""
    return spec.startswith((ENDPOINT, VLLM))


def make_prompted(spec: str, settings: PromptedSettings = DEFAULT) -> PromptedJudge:
    """The prompted judge that `spec` names.

    Raises:
        ArenaJudgeError: the model, a setting, the prompt or the ledger cannot be used, or a package
            is missing.
    """
    from judge.judges.asking import Asking
    from judge.judges.prompted import PromptedJudge
    from judge.prompt_files import load_prompt

    kind, _, model = spec.partition(":")
    if not model.strip():
        raise InputError(f"{spec} names no model", mend=f"write {kind}:MODEL")
    _check(kind, settings)
    prompt = load_prompt(settings.prompt)
    counter = _counter(kind, model, settings)
    ledger = _ledger(settings)
    try:
        engine, context = _engine(kind, model, settings, ledger, counter)
        asking = Asking(
            model=model,
            orders=settings.orders,
            samples=settings.samples,
            temperature=settings.temperature,
            seed=settings.seed,
            top_logprobs=_TOP_LOGPROBS if settings.logprobs else 0,
            retries=settings.retries,
            policy=settings.fit_context,
            context=context,
        )
    except BaseException:
        if ledger is not None:
            ledger.close()
        raise
    closing = () if ledger is None else (ledger.close,)
    return PromptedJudge(engine, prompt, asking, name=spec, counter=counter, also_close=closing)


def default_ledger() -> Path:
    """$ARENA_JUDGE_LEDGER, or a file in the user's cache."""
    named = os.environ.get(LEDGER)
    if named:
        return Path(named).expanduser()
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "arena-judge" / "ledger.sqlite"


def _check(kind: str, settings: PromptedSettings) -> None:
    """No setting is passed over in silence."""
    foreign = _OF_VLLM if kind == "endpoint" else _OF_ENDPOINT
    for name, option in foreign.items():
        if getattr(settings, name) != getattr(DEFAULT, name):
            raise InputError(f"{option} says nothing to a judge {kind}:...", mend="leave it out")
    unbounded = kind == "endpoint" and settings.context is None
    if unbounded and settings.fit_context != DEFAULT.fit_context:
        raise InputError("--fit-context wants to know how long", mend="add --context N")


def _counter(kind: str, model: str, settings: PromptedSettings) -> TokenCounter | None:
    """Counts the model's tokens, where somebody is going to ask."""
    needed = settings.context is not None or kind == "vllm" or settings.dry
    if not (needed or settings.max_cost is not None or settings.tpm is not None):
        return None
    from judge.encoding import load_counter

    if settings.tokenizer is not None:
        return load_counter(Path(settings.tokenizer))
    # A folder beside us that happens to be called like a hosted model is not that model's.
    return load_counter(model if kind == "vllm" or not Path(model).exists() else None)


def _ledger(settings: PromptedSettings) -> Ledger | None:
    from judge.engines.ledger import Ledger

    path = default_ledger() if settings.ledger is None else Path(settings.ledger)
    if not settings.keep or (settings.dry and not path.exists()):
        return None  # whoever only wants to know makes no file
    return Ledger(path)


def _engine(
    kind: str,
    model: str,
    settings: PromptedSettings,
    ledger: Ledger | None,
    counter: TokenCounter | None,
) -> tuple[Engine, int | Callable[[], int] | None]:
    """The engine, and how many tokens prompt and reply may have together."""
    if kind == "vllm":
        from judge.engines.vllm import VllmEngine

        more: dict[str, Any] = {"max_model_len": settings.context} if settings.context else {}
        engine = VllmEngine(
            model, ledger=ledger, gpus=settings.gpus, adapter=settings.adapter, **more
        )
        if settings.context is not None or settings.dry:
            return engine, settings.context
        return engine, lambda: engine.max_model_len
    try:
        from judge.engines.endpoint import EndpointEngine
        from judge.engines.settings import EndpointSettings
    except ImportError as error:
        raise ArenaJudgeError(
            f"asking an endpoint needs {error.name}, which is not installed; "
            "pip install 'arena-judge[prompted]'"
        ) from None
    asked = EndpointSettings(
        base_urls=settings.base_urls,
        client=settings.client,
        key_variable=settings.api_key_env,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        requests_per_minute=settings.rpm,
        tokens_per_minute=settings.tpm,
        max_cost=settings.max_cost,
        prices=settings.prices,
        seed=settings.seed,
    )
    if settings.dry:
        asked = replace(asked, key_variable=())  # nobody is shown a key
    count = None if counter is None else counter.count
    if settings.batch is not None:
        return _batch_engine(settings.batch, asked, ledger, count), settings.context
    return EndpointEngine(asked, ledger=ledger, count_tokens=count), settings.context


def _batch_engine(
    folder: str, asked: EndpointSettings, ledger: Ledger | None, count: Callable[[str], int] | None
) -> Engine:
    from judge.engines.batch import BatchEngine

    if ledger is None:
        raise InputError("batches are collected into a ledger", mend="leave out --no-cache")
    return BatchEngine(folder, ledger=ledger, settings=asked, count_tokens=count)


class PromptedRecipe:
    """A prompted judge that a recipe describes: `judge` names it, `asking` says how it asks."""

    @staticmethod
    def compose(recipe: Recipe) -> Judge:
        """That judge.

        Raises:
            InputError: it names no prompted judge, or says something that is no setting.
        """
        spec = recipe.settings.get("judge")
        if not isinstance(spec, str) or not is_prompted(spec):
            mend = "write judge: endpoint:MODEL or judge: vllm:FOLDER"
            raise InputError("names no judge that asks a model", file=recipe.file, mend=mend)
        asking = as_kept(recipe.asking, recipe.settings.get("asking"), recipe.file)
        kind, _, model = spec.partition(":")
        beside = recipe.folder / model
        if spec.startswith(VLLM) and model.strip():
            if beside.is_dir():
                spec = f"{kind}:{beside}"  # a fine-tuned model lies in its judge's folder
            elif not Path(model).is_dir() and not _may_be_hosted(model):
                raise InputError(
                    f"asks the model {model}, which is not there",
                    file=recipe.file,
                    mend="put it there, or write where it is under judge",
                )
        judge = make_prompted(spec, asking)
        # Of a folder its own name: many adapters have one base.
        folder = recipe.folder.resolve().name if recipe.file.name == "judge.yaml" else ""
        judge.name = recipe.name(folder or judge.name)
        return judge


def _may_be_hosted(model: str) -> bool:
    """Whether a model can be one on the hub: `owner/name`, and no path."""
    return model.count("/") == 1 and not model.startswith((".", "/", "~"))
