"""Refusing models with parts that are quantized or prepared for quantization."""

from __future__ import annotations

import sys
from typing import Any, Final

import torch.ao.quantization
from torch import nn
from torch.fx import GraphModule

from edgewright.errors import ModelError
from edgewright.graph import count_facts

_TORCHAO: Final = "torchao.quantization.pt2e"


def check_not_prepared(model: nn.Module) -> None:
    """Check that no module of a model is an observer, a fake quantizer or a quantized program.

    Observers change state at every call, and fake quantizers replace stored weights by computed
    ones. The facts of a quantized program's graph are lost if it is a part of another model.

    Raises:
        ModelError: There is a fake quantizer or observer of torch or torchao, or a part that is a
            quantized program; the message names the first.
    """
    kinds = _observer_classes()
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            raise ModelError(f"{name or 'the model'} is a {type(module).__name__}, inserted by "
                             "another quantization tool; pass the model from before it was "
                             "prepared, with its trained weights, and use `quantize`")
        if name and isinstance(module, GraphModule) and count_facts(module.graph):
            raise ModelError(f"{name} is a quantized program within another model; capture the "
                             "model with that part in floating point, then quantize all of it")


def _observer_classes() -> tuple[type[Any], ...]:
    """Classes of fake quantizers and observers, of the packages that are loaded."""
    packages: list[Any] = [torch.ao.quantization, sys.modules.get(_TORCHAO)]
    return tuple(getattr(package, name) for package in packages if package is not None
                 for name in ("FakeQuantizeBase", "ObserverBase"))
