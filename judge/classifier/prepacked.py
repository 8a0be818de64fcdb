"""Linear layers of a network on a processor, laid out once as oneDNN multiplies fastest.

PyTorch multiplies float32 by MKL, which does not use all that some processors can do, and lays
weights of bfloat16 out anew in every call. oneDNN, which comes with PyTorch, does neither, and has
the GELU after a layer done on the way. Results differ in the last digits only. Networks changed so
cannot be trained or saved: this is for judging.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from judge.classifier.families import PACKED

if TYPE_CHECKING:
    from judge.classifier.network import Network

# How many rows a multiplication is laid out for; others work too.
_ROWS = 2048
# Families that ask nothing of a linear layer but to be called.
_KNOWN = PACKED | {"deberta-v2"}
# A layer and the function after it, by what families call them.
_FOLLOWED = (("dense", "intermediate_act_fn"), ("lin1", "activation"))


class PrepackedLinear(nn.Module):
    """What `nn.Linear` computes, `gelu` of it if wanted.

    Args:
        layer: the layer; it is not changed.
        gelu: whether GELU follows.
    """

    def __init__(self, layer: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._then = "gelu" if gelu else "none"
        with torch.no_grad():
            weight = layer.weight.detach().contiguous()
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
            self._bias = None if layer.bias is None else layer.bias.detach().contiguous()

    def forward(self, rows: Tensor) -> Tensor:
        """(..., out) of (..., in)."""
        function: Any = torch.ops.mkldnn._linear_pointwise
        return cast(Tensor, function(rows, self._weight, self._bias, self._then, [], "none"))


def prepack(network: Network) -> int:
    """Changes the linear layers of a network, its head aside, where that can be done; how many.
    Their own weights are given up."""
    first = next(network.backbone.parameters())
    known = network.shape.family in _KNOWN and first.is_floating_point()
    if not known or first.device.type != "cpu" or not available(first.dtype):
        return 0
    if hasattr(network.backbone, "peft_config"):  # PEFT looks at the weights of its adapters
        return 0
    done = 0
    for part in list(network.backbone.modules()):
        gelu = _gelu_within(part)
        for name, layer in list(part.named_children()):
            if type(layer) is nn.Linear and layer.weight.dtype == first.dtype:
                setattr(part, name, PrepackedLinear(layer, gelu=name == gelu))
                done += 1
        if gelu is not None:
            setattr(part, dict(_FOLLOWED)[gelu], nn.Identity())
    return done


@cache
def available(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there, knows such numbers, and gives what PyTorch gives."""
    backend: Any = torch.backends.mkldnn
    if dtype not in (torch.float32, torch.bfloat16) or not backend.is_available():
        return False
    layer = nn.Linear(16, 8)
    rows = torch.linspace(-1.0, 1.0, 48).reshape(1, 3, 16)
    try:
        with torch.inference_mode():
            layer, rows = layer.to(dtype), rows.to(dtype)
            found = PrepackedLinear(layer, gelu=True)(rows).float()
            wanted = nn.functional.gelu(layer(rows)).float()
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return bool((found - wanted).abs().max() < (1e-5 if dtype == torch.float32 else 0.02))


def _gelu_within(part: nn.Module) -> str | None:
    """The layer of a part that GELU follows, if that is how it is built."""
    for name, then in _FOLLOWED:
        function = getattr(part, then, None)
        exact = isinstance(function, nn.GELU) and function.approximate == "none"
        exact = exact or type(function).__name__ == "GELUActivation"
        if exact and type(getattr(part, name, None)) is nn.Linear:
            return name
    return None
