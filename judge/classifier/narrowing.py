"""The last layer of a packed network, worked through only where the head looks.

A head that sees the last or first token of each sequence asks nothing of the others; they matter to
the last layer's attention, and to nothing after it. So the feed-forward part of the last layer is
given the rows of those tokens alone. What it would say of others is left at nought, which nobody
reads. Of a small encoder that is a tenth of all work; this is for judging, not for training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

if TYPE_CHECKING:
    from judge.classifier.network import Network

# Where families keep their layers.
_LAYERS = ("layers", "encoder.layer", "transformer.layer")


class Rows:
    """Which rows are wanted by a call that is under way; None for all."""

    def __init__(self) -> None:
        self.wanted: Tensor | None = None

    @contextmanager
    def only(self, rows: Tensor | None) -> Iterator[None]:
        """Has these rows worked through, or all, until the block ends."""
        self.wanted = rows
        try:
            yield
        finally:
            self.wanted = None


class _Narrow(nn.Module):
    """A part that takes rows one by one, given those that are wanted.

    Args:
        part: the part.
        rows: says which are wanted.
        given: whether the part's first argument has them alone already.
        whole: whether to give back as many rows as came.
    """

    def __init__(
        self, part: nn.Module, rows: Rows, *, given: bool = False, whole: bool = True
    ) -> None:
        super().__init__()
        self.part, self._rows, self._given, self._whole = part, rows, given, whole

    def forward(self, *inputs: Tensor) -> Tensor:
        rows = self._rows.wanted
        if rows is None:
            return cast(Tensor, self.part(*inputs))
        first = inputs[:1] if self._given else ()
        found: Tensor = self.part(*first, *(one[:, rows] for one in inputs[len(first) :]))
        if not self._whole:
            return found
        everything = found.new_zeros(found.shape[0], inputs[-1].shape[1], found.shape[2])
        everything[:, rows] = found
        return everything


def narrow(network: Network) -> bool:
    """Has the last layer of a network worked through only where its head looks, where its family is
    built so that it can be; whether it is."""
    if not network.packed or network.shape.pooling == "mean" or network.rows is not None:
        return False
    layer = _last_layer(network.bare)
    if layer is None:
        return False
    rows = Rows()
    if isinstance(getattr(layer, "intermediate", None), nn.Module):
        if getattr(layer, "chunk_size_feed_forward", 0):
            return False
        layer.intermediate = _Narrow(layer.intermediate, rows, whole=False)
        layer.output = _Narrow(layer.output, rows, given=True)
    else:
        name = next((name for name in ("mlp", "ffn") if hasattr(layer, name)), None)
        if name is None:
            return False
        setattr(layer, name, _Narrow(getattr(layer, name), rows))
    network.rows = rows
    return True


def _last_layer(backbone: nn.Module) -> Any:
    for path in _LAYERS:
        part: Any = backbone
        for name in path.split("."):
            part = getattr(part, name, None)
        if isinstance(part, nn.ModuleList) and len(part):
            return part[-1]
    return None
