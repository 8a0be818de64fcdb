"""The layers of a model, one after the other, to few bits.

    codes = round_layers(model, forward, batches, way)

Layers are rounded from the first to the last, each by what it is given when all before it are
rounded already; so what is lost in one can be made good in the next. Embeddings, norms and heads
stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from finetune.quantizing.gptq import Moments, quantized
from judge.classifier.quantized import Codes, Scheme
from judge.errors import InputError
from judge.files.atomic import written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING = ".quantizing"
# Numbers of a matrix that are looked at together.
_LOOKED_AT = 2**24
_LAYER = re.compile(r"^(?:.*?\.)?(?:layers?|h|blocks?)\.\d+(?=\.)")


@dataclass(frozen=True)
class Way:
    """How weights become whole numbers.

    Attributes:
        scheme: how they are kept.
        group: columns that share a scale; None for all of a row.
        calibrated: whether errors are made good by what layers are given, or each weight is
            rounded to the nearest.
    """

    scheme: Scheme
    group: int | None
    calibrated: bool = True


class Finished:
    """Layers that an unfinished run has done, in a folder beside what it is going to write.

    Args:
        folder: the folder.
        run: what makes it this run; what another one left is removed.

    Raises:
        InputError: something else lies there.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self.folder = folder
        said = json.dumps(run, sort_keys=True)
        mark = folder / "run.json"
        if folder.exists() and not mark.is_file() and any(folder.iterdir()):
            raise InputError(
                "is where layers would be kept meanwhile, and holds something else",
                file=folder,
                mend="name another output, or move it away",
            )
        if not mark.is_file() or mark.read_text(encoding="utf-8") != said:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with written_whole(mark) as file:
                file.write(said.encode())

    def read(self, place: int) -> dict[str, Tensor] | None:
        """The tensors of a layer; None where it is not done."""
        from judge.classifier.storing import read_tensors

        file = self._file(place)
        return read_tensors(file) if file.is_file() else None

    def write(self, place: int, tensors: dict[str, Tensor]) -> None:
        """Keeps a layer."""
        from safetensors.torch import save

        with written_whole(self._file(place)) as file:
            file.write(save(tensors))

    def remove(self) -> None:
        """Nothing of it is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, place: int) -> Path:
        return self.folder / f"layer-{place:04d}.safetensors"


def layers_of(model: nn.Module) -> dict[str, list[str]]:
    """The linear modules within each layer of a model, by their names.

    Raises:
        InputError: it has none.
    """
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        match = _LAYER.match(name)
        if match and isinstance(module, nn.Linear):
            found.setdefault(match[0], []).append(name)
    if not found:
        raise InputError(
            "the model has no linear layers that can be rounded", mend="try --how bitsandbytes"
        )
    return found


def linear_names(model: nn.Module) -> list[str]:
    """The names of all linear modules."""
    return [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]


def round_layers(
    model: nn.Module,
    forward: Callable[[Any], object],
    batches: Sequence[Any],
    way: Way,
    *,
    finished: Finished | None = None,
    tick: Callable[[int], None] = lambda layers: None,
) -> dict[str, Codes]:
    """Rounds the layers of a model, in place.

    Args:
        model: what is rounded; afterwards its weights are what is left of them.
        forward: runs a batch through the model, or through what it is in.
        batches: what it is calibrated on.
        way: how.
        finished: what an earlier run has done.
        tick: is told of every layer that is done.

    Returns:
        The matrices in few bits, by the names of their modules.

    Raises:
        ArenaJudgeError: the model, or a number in it, is not fit for that.
    """
    modules = dict(model.named_modules())
    codes: dict[str, Codes] = {}
    for place, (layer, names) in enumerate(layers_of(model).items()):
        linears = {name: cast(nn.Linear, modules[name]) for name in names}
        kept = None if finished is None else finished.read(place)
        done = {} if kept is None else _restored(kept, linears, way)
        if not done:
            moments = _moments(modules[layer], linears, forward, batches) if way.calibrated else {}
            done = _rounded(linears, moments, way)
            if finished is not None:
                finished.write(place, _as_tensors(done))
        for name, one in done.items():
            weight = linears[name].weight
            weight.data.copy_(one.dense(weight.dtype))
        codes |= done
        tick(1)
    return codes


def run_of(model: nn.Module, batches: Sequence[Any], way: Way) -> dict[str, Any]:
    """What makes a run this one: the weights, the texts and the way."""
    digest = hashlib.sha256()
    for _, weight in sorted(model.state_dict().items()):
        # Sums tell weights apart well enough, and cost one look at each, a part at a time.
        parts = weight.flatten().split(_LOOKED_AT)
        digest.update(repr(sum(float(part.double().abs().sum()) for part in parts)).encode())
    for batch in batches:
        for ids in batch:
            digest.update(ids.tobytes())
    scheme = way.scheme
    said = {"bits": scheme.bits, "activations": scheme.activations, "group": way.group}
    return said | {"calibrated": way.calibrated, "of": digest.hexdigest()}


class _Enough(Exception):
    """What comes after the layer is not needed."""


def _moments(
    layer: nn.Module,
    linears: Mapping[str, nn.Linear],
    forward: Callable[[Any], object],
    batches: Sequence[Any],
) -> dict[str, Tensor]:
    """What each linear module of a layer is given; those that are given the same share it."""
    held: dict[str, Moments] = {}
    alike: dict[str, str] = {}
    given: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            rows = inputs[0]
            if name not in alike:
                alike[name] = next((other for other, seen in given if seen is rows), name)
                given.append((name, rows))
            if alike[name] == name:
                found = held.setdefault(name, Moments(rows.shape[-1], rows.device))
                found.add(rows)

        return hook

    def stop(*_: object) -> None:
        raise _Enough

    with ExitStack() as stack, torch.inference_mode():
        for name, module in linears.items():
            stack.callback(module.register_forward_pre_hook(note(name)).remove)
        stack.callback(layer.register_forward_hook(stop).remove)
        for batch in batches:
            try:
                forward(batch)
            except _Enough:
                given.clear()
    means = {name: one.mean() for name, one in held.items()}
    # A module that no text comes to, an expert say, is rounded to the nearest.
    return {name: means[owner] for name, owner in alike.items() if owner in means}


def _rounded(
    linears: Mapping[str, nn.Linear], moments: Mapping[str, Tensor], way: Way
) -> dict[str, Codes]:
    found = {}
    for name, module in linears.items():
        if not bool(torch.isfinite(module.weight).all()):
            raise InputError(f"the model has weights that are not finite ({name})")
        group = None if way.scheme.activations else way.group
        one = quantized(module.weight, moments.get(name), bits=way.scheme.bits, group=group)
        found[name] = Codes(one.values.cpu(), one.scales.cpu(), one.bits)
    return found


def _as_tensors(codes: Mapping[str, Codes]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, one in codes.items():
        found |= {f"{name}.values": one.values.contiguous(), f"{name}.scales": one.scales}
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _restored(
    kept: Mapping[str, Tensor], linears: Mapping[str, nn.Linear], way: Way
) -> dict[str, Codes]:
    """What was kept of a layer; nothing where it does not fit."""
    found = {}
    for name, module in linears.items():
        values, scales = kept.get(f"{name}.values"), kept.get(f"{name}.scales")
        if values is None or scales is None or values.shape != module.weight.shape:
            return {}
        found[name] = Codes(values, scales, way.scheme.bits)
    return found


def batches_of(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Numbers of texts in batches of at most `most` tokens, one at least."""
    batch: list[int] = []
    tokens = 0
    for place, length in enumerate(lengths):
        if batch and tokens + length > most:
            yield batch
            batch, tokens = [], 0
        batch.append(place)
        tokens += length
    if batch:
        yield batch
