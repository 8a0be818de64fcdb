"""A judge in 8 or 4 bits, from its folder and battles to calibrate by to a folder of its own.

    made = quantize("judges/merged", pool, Path("judges/small"), Settings(bits=8))

The head stays as it is. A judge with an adapter is merged with its base first. What a judge that
says who won was worth before and after is measured on labelled battles; one that writes ballots
needs vLLM for that, so compare the two with `arena-judge compare`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.judge_folders import JudgeFolder, read_judge_folder
from judge.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finetune.preparing import Measured
    from finetune.rounding import Finished, Way
    from finetune.sources import Pool
    from finetune.worth import Worth
    from judge.classifier.quantized import Codes

HOWS = ("auto", "gptq", "nearest", "w8a8", "bitsandbytes")
MODEL = "model"
_TOKENS = 4096
_SEEN, _CONFIG = "seen.npz", "train.yaml"


@dataclass(frozen=True)
class Settings:
    """What the user may say.

    Attributes:
        bits: 8 or 4 of a weight.
        how: one of `HOWS`; `auto` is GPTQ, or bitsandbytes for models that it cannot take.
        texts: to calibrate by.
        group: columns of a weight that share a scale.
        seed: of what is drawn.
        device: where; by default the first GPU, or the processor.
        dtype: that the model is computed in meanwhile; `auto` is float32 on processors.
    """

    bits: int = 8
    how: str = "auto"
    texts: int = 128
    group: int = 128
    seed: int = 0
    device: str | None = None
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """
        Raises:
            InputError: a value that cannot be.
        """
        if self.how not in HOWS:
            raise InputError(f"{self.how!r} is no way to quantise", mend=f"take {', '.join(HOWS)}")
        if self.bits not in (4, 8):
            raise InputError(f"{self.bits} bits are not known", mend="take 8 or 4")
        if self.how == "w8a8" and self.bits != 8:
            raise InputError("w8a8 is 8 bits", mend="take --bits 8, or another way")
        if self.texts < 1 or self.group < 8 or self.group % 8:
            raise InputError("texts are from 1, and groups of columns from 8, by the eight")


@dataclass(frozen=True)
class Quantized:
    """A judge that was quantised.

    Attributes:
        folder: where it is.
        how: what was done, `gptq` say.
        scheme: in short, `W8A16` say.
        layers: matrices in few bits; `kept` linear ones that are as they were.
        texts: that it was calibrated by, and the tokens of them.
        before, after: bytes of weights on the disk; `half` what 16 bits a weight would take.
        worth: what it was worth before and after; None where that was not measured.
    """

    folder: Path
    how: str
    scheme: str
    layers: int
    kept: int
    texts: int
    tokens: int
    before: int
    after: int
    half: int
    worth: Worth | None = None


@dataclass(frozen=True)
class _Loaded:
    """A judge's model: what is rounded, how it is run, and how its folder is written."""

    model: nn.Module
    tokenizer: Any
    forward: Callable[[Any], object]
    texts: list[Any]
    batch_tokens: int
    half: torch.dtype
    network: Any = None


def quantize(
    judge: str | Path,
    pool: Pool,
    target: Path,
    settings: Settings,
    *,
    dev: Measured | None = None,
    sources: Mapping[str, Any] | None = None,
    tick: Callable[[int, int], None] = lambda done, all: None,
) -> Quantized:
    """Writes a judge in few bits.

    Args:
        judge: its folder.
        pool: battles to calibrate by; their labels are not looked at.
        target: the folder to write.
        settings: what is wanted.
        dev: battles to measure on, before and after.
        sources: what judge.yaml says of the battles' files.
        tick: is told how many layers of how many are done.

    Raises:
        ArenaJudgeError: it cannot be had, or what is asked for cannot be done.
    """
    folder = read_judge_folder(judge)
    if dev is not None and not folder.classifies:
        raise InputError(
            "writes ballots, which are not measured here",
            file=judge,
            mend="leave out --dev, and use arena-judge compare",
        )
    loaded = _loaded(folder, pool, settings)
    way = _way(settings, loaded.model)
    done = _by_library(loaded, settings) if way is None else _rounded(loaded, way, target, tick)
    made = _written(folder, loaded, done, target, settings, dev, dict(sources or {}))
    if done.finished is not None:
        done.finished.remove()
    return made


@dataclass(frozen=True)
class _Done:
    """A model in few bits that is yet to be written.

    Attributes:
        how, scheme: see `Quantized`.
        layers, kept: how many linear modules are in few bits, and as they were.
        save: writes the model and its tokenizer into a folder.
        calibrated: whether texts were looked at.
        finished: what lies beside the target meanwhile.
    """

    how: str
    scheme: str
    layers: int
    kept: int
    save: Callable[[Path], None]
    calibrated: bool
    finished: Finished | None = None


def _rounded(loaded: _Loaded, way: Way, target: Path, tick: Callable[[int, int], None]) -> _Done:
    """The layers of a model, rounded by our own arithmetic."""
    from finetune.rounding import (
        ENDING,
        Finished,
        layers_of,
        linear_names,
        round_layers,
        run_of,
    )

    batches = _batched(loaded)
    place = target.resolve()
    run = run_of(loaded.model, batches, way)
    finished = Finished(place.with_name(place.name + ENDING), run)
    layers, done = len(layers_of(loaded.model)), 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        tick(done, layers)

    codes = round_layers(loaded.model, loaded.forward, batches, way, finished=finished, tick=told)
    kept = [name for name in linear_names(loaded.model) if name not in codes]
    how = "w8a8" if way.scheme.activations else "gptq" if way.calibrated else "nearest"

    def save(folder: Path) -> None:
        save_model(loaded.model, loaded.tokenizer, codes, way, kept, loaded.half, folder)

    return _Done(how, way.scheme.words, len(codes), len(kept), save, way.calibrated, finished)


def _by_library(loaded: _Loaded, settings: Settings) -> _Done:
    """A model as bitsandbytes keeps it: LLM.int8, or NF4. It is written before it is run, since
    running it lays out 4-bit weights anew on some processors."""
    from finetune.rounding import linear_names
    from judge.classifier.loading import explained, library_settings, quiet

    bits = f"{settings.bits}bit"
    said = library_settings(bits, loaded.half)
    linears = len(linear_names(loaded.model))

    def save(folder: Path) -> None:
        import torch
        from transformers import AutoModel, AutoModelForCausalLM

        writes = hasattr(loaded.model, "lm_head")
        kind: Any = AutoModelForCausalLM if writes else AutoModel
        plain: Any = loaded.model
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".whole-") as whole, quiet():
            plain.to(loaded.half).save_pretrained(whole)
            # Poolers, which judges have no use for, are drawn: their bytes cannot be, on loading.
            with explained(whole, "the model"), torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                small = kind.from_pretrained(
                    whole, dtype=loaded.half, quantization_config=said, device_map={"": "cpu"}
                )
            small.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)

    scheme = "LLM.int8" if settings.bits == 8 else "NF4"
    return _Done("bitsandbytes", scheme, linears, 0, save, calibrated=False)


def _way(settings: Settings, model: nn.Module) -> Way | None:
    """How the weights are rounded; None where bitsandbytes is to do it."""
    from finetune.rounding import Way, layers_of
    from judge.classifier.quantized import Scheme

    how = settings.how
    if how == "auto":
        try:
            layers_of(model)
            how = "gptq"
        except InputError:
            how = "bitsandbytes"
    if how == "bitsandbytes":
        return None
    scheme = Scheme(settings.bits, activations=how == "w8a8")
    group = None if scheme.activations else settings.group
    return Way(scheme, group, calibrated=how != "nearest")


def _batched(loaded: _Loaded) -> list[list[Any]]:
    from finetune.rounding import batches_of

    lengths = [len(one) for one in loaded.texts]
    places = batches_of(lengths, loaded.batch_tokens)
    return [[loaded.texts[place] for place in batch] for batch in places]


# --- loading --------------------------------------------------------------------------------------


def _loaded(folder: JudgeFolder, pool: Pool, settings: Settings) -> _Loaded:
    import torch

    from judge.classifier.hardware import devices_of, dtype_of

    device = devices_of([] if settings.device is None else [settings.device])[0]
    dtype = dtype_of(settings.dtype, device, training=True)
    load = _classifier if folder.classifies else _writer
    loaded = load(folder, pool, settings, device, dtype)
    for one in loaded.model.parameters():
        one.requires_grad_(False)
    assert loaded.half in (torch.float16, torch.bfloat16)
    return loaded


def _classifier(
    folder: JudgeFolder, pool: Pool, settings: Settings, device: torch.device, dtype: torch.dtype
) -> _Loaded:
    from finetune.calibrating import judged_texts
    from judge.classifier.storing import load_network
    from judge.classifier.templates import load_template
    from judge.classifier.tokens import BattleEncoder

    network, tokenizer = load_network(folder.path, folder.settings, device=device, dtype=dtype)
    shape = network.shape
    encoder = BattleEncoder(
        tokenizer, load_template(shape.template), shape.max_length, shape.policy
    )
    texts = judged_texts(encoder, pool, settings.texts, seed=settings.seed)
    # Where rows are padded, each text is by itself, so that no padding is calibrated by.
    most = _TOKENS if network.packed else 1
    half = _half(folder)
    return _Loaded(network.backbone, tokenizer, network.states, texts, most, half, network)


def _writer(
    folder: JudgeFolder, pool: Pool, settings: Settings, device: torch.device, dtype: torch.dtype
) -> _Loaded:
    import torch
    from transformers import AutoModelForCausalLM

    from finetune.calibrating import asked_texts
    from judge.classifier.loading import explained, load_tokenizer, loading_options, quiet
    from judge.classifier.storing import load_adapter, merged
    from judge.judges.prompted_settings import DEFAULT

    asking = folder.settings.get("asking")
    prompt = asking.get("prompt") if isinstance(asking, Mapping) else None
    options = loading_options(dtype, device, packed=False, quantize=None)
    with explained(folder.base, "the model"), quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(folder.base, **options)
    if folder.adapted:
        model = merged(load_adapter(model, folder.weights), folder.weights)
    model = model.to(device).eval()
    tokenizer = load_tokenizer(folder.base)
    name = str(prompt or DEFAULT.prompt)
    beside = folder.path / name
    words = str(beside) if name.endswith((".yaml", ".yml")) and beside.is_file() else name
    texts = asked_texts(words, tokenizer, pool, settings.texts, seed=settings.seed)

    def forward(batch: list[Any]) -> object:
        ids = torch.from_numpy(batch[0].astype("int64"))[None].to(device)
        return model(input_ids=ids, use_cache=False)

    return _Loaded(model, tokenizer, forward, texts, 1, _half(folder))


def _half(folder: JudgeFolder) -> torch.dtype:
    """The 16 bits that what is not rounded is kept in: the base's, or those that lose least."""
    import torch

    from judge.classifier.loading import load_config

    where = folder.base if folder.adapted or not folder.classifies else str(folder.path)
    said = getattr(load_config(where), "dtype", None)
    return torch.bfloat16 if said in (torch.bfloat16, "bfloat16") else torch.float16


# --- writing --------------------------------------------------------------------------------------


def _written(
    folder: JudgeFolder,
    loaded: _Loaded,
    done: _Done,
    target: Path,
    settings: Settings,
    dev: Measured | None,
    sources: dict[str, Any],
) -> Quantized:
    """The judge folder, measured before it appears."""
    from finetune.worth import worth
    from judge.files.folders import written_folder

    weights = sum(one.numel() for one in loaded.model.parameters())
    with written_folder(target) as draft:
        model = draft if folder.classifies else draft / MODEL
        model.mkdir(exist_ok=True)
        done.save(model)
        if folder.classifies:
            _save_head(loaded, draft)
        for name in (_SEEN, _CONFIG):
            if (folder.path / name).is_file():
                shutil.copy(folder.path / name, draft / name)
        made = Quantized(
            folder=target,
            how=done.how,
            scheme=done.scheme,
            layers=done.layers,
            kept=done.kept,
            texts=len(loaded.texts) if done.calibrated else 0,
            tokens=sum(map(len, loaded.texts)) if done.calibrated else 0,
            before=_bytes(folder),
            after=sum(file.stat().st_size for file in draft.rglob("*.safetensors")),
            half=2 * weights,
        )
        _write_recipe(folder, made, settings, sources, draft)
        if dev is not None:
            found = worth(folder.path, draft, dev, device=settings.device, seed=settings.seed)
            made = replace(made, worth=found)
            _write_recipe(folder, made, settings, sources, draft)
    return made


def save_model(
    model: nn.Module,
    tokenizer: Any,
    codes: Mapping[str, Codes],
    way: Way,
    kept: list[str],
    half: torch.dtype,
    folder: Path,
) -> None:
    """A model in few bits as transformers and vLLM read it, with its tokenizer.

    Args:
        model: with the weights that are not in few bits.
        tokenizer: its tokenizer.
        codes: matrices in few bits.
        way: how they were made.
        kept: linear modules that are as they were.
        half: 16 bits that all other weights are kept in.
        folder: where to.

    Raises:
        InputError: a weight is too large for these 16 bits.
    """
    import torch

    from judge.classifier.loading import quiet
    from judge.classifier.quantized import settings_of

    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        layer = name.removesuffix(".weight")
        if name.endswith(".weight") and layer in codes:
            state |= codes[layer].to_tensors(layer, way.scheme)
        elif tensor.is_floating_point():
            state[name] = tensor.detach().to("cpu", half)
            if not bool(torch.isfinite(state[name]).all()):
                raise InputError(f"the model has weights too large for {half} ({name})")
        else:
            state[name] = tensor.detach().cpu()
    saved: Any = model
    with quiet():
        saved.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
    file = folder / "config.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    said["dtype"] = str(half).removeprefix("torch.")
    said["quantization_config"] = settings_of(way.scheme, codes, kept)
    file.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save_head(loaded: _Loaded, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from judge.classifier.storing import HEAD

    state = loaded.network.head.state_dict()
    save_file(
        {name: one.detach().to("cpu", torch.float32).contiguous() for name, one in state.items()},
        folder / HEAD,
    )


def _write_recipe(
    folder: JudgeFolder,
    made: Quantized,
    settings: Settings,
    sources: dict[str, Any],
    draft: Path,
) -> None:
    """judge.yaml: what the judge's own says, and how it was quantised."""
    import yaml

    from finetune.judge_folders import named_from
    from judge.judges.recipes import FILE, made_by, plain

    said = dict(folder.settings)
    if folder.classifies:
        said |= {"base": named_from(folder.base, draft), "weights": "full"}
    else:
        said["judge"] = f"vllm:{MODEL}"
        said["asking"] = {
            name: value
            for name, value in dict(said.get("asking") or {}).items()
            if name != "adapter"
        }
    said["quantized"] = {
        "how": made.how,
        "bits": settings.bits,
        "scheme": made.scheme,
        **({"group_size": settings.group} if made.scheme.endswith("A16") else {}),
        **({"texts": made.texts, "tokens": made.tokens} if made.texts else {}),
        "seed": settings.seed,
        "of": folder.name,
        **({"calibrated_on": sources} if made.texts else {}),
        **({} if made.worth is None else {"measured": made.worth.settings()}),
        "made_by": made_by("finetune quantize"),
    }
    text = yaml.safe_dump(plain(said), sort_keys=False, allow_unicode=True, width=100)
    (draft / FILE).write_text(text, encoding="utf-8")


def _bytes(folder: JudgeFolder) -> int:
    """Bytes of a judge's weights on the disk, its base's among them where that is a folder."""
    files = {file.resolve() for file in folder.path.rglob("*.safetensors")}
    if folder.adapted and Path(folder.base).is_dir():
        files |= {file.resolve() for file in Path(folder.base).glob("*.safetensors")}
    return sum(file.stat().st_size for file in files)
