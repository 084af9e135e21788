"""Models with parts that are quantized, or prepared for it, are refused by name."""

from __future__ import annotations

import sys
from typing import Any, Final

import torch.ao.quantization
from torch import nn
from torch.fx import GraphModule

from edgewright.errors import ModelError
from edgewright.graph import count_facts

_TORCHAO: Final = "torchao.quantization.pt2e"


def check_unprepared(model: nn.Module) -> None:
    """See that no module of a model observes ranges, rounds to a grid or was quantized here.

    The state of observers moves with every call, and what fake quantizers round is no stored
    weight any more. Facts of a graph are lost where it is a part of another model.

    Raises:
        ModelError: Names the first fake quantizer or observer of torch or torchao, or the first
            part that is a quantized program.
    """
    kinds = _kinds()
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            raise ModelError(f"{name or 'the model'} is a {type(module).__name__}, which another "
                             "tool put in to quantize the model; give the model from before it was "
                             "prepared, with its trained weights, and let `quantize` do it")
        if name and isinstance(module, GraphModule) and count_facts(module.graph):
            raise ModelError(f"{name} is a quantized program within another model; capture the "
                             "model with that part in floating point, and quantize the whole")


def _kinds() -> tuple[type[Any], ...]:
    """Classes of fake quantizers and observers; a model has none of a package nobody loaded."""
    packages: list[Any] = [torch.ao.quantization, sys.modules.get(_TORCHAO)]
    return tuple(getattr(package, name) for package in packages if package is not None
                 for name in ("FakeQuantizeBase", "ObserverBase"))
