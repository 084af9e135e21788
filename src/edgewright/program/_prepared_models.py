"""Models that another tool has prepared for quantization are refused by name."""

from __future__ import annotations

import sys
from typing import Any, Final

import torch.ao.quantization
from torch import nn

from edgewright.errors import ModelError

_TORCHAO: Final = "torchao.quantization.pt2e"


def check_unprepared(model: nn.Module) -> None:
    """See that no module of a model observes ranges or rounds to a grid of its own.

    Their state moves with every call, and what they round is no stored weight any more.

    Raises:
        ModelError: Names the first fake quantizer or observer of torch or torchao.
    """
    kinds = _kinds()
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            raise ModelError(f"{name or 'the model'} is a {type(module).__name__}, which another "
                             "tool put in to quantize the model; give the model from before it was "
                             "prepared, with its trained weights, and let `quantize` do it")


def _kinds() -> tuple[type[Any], ...]:
    """Classes of fake quantizers and observers; a model has none of a package nobody loaded."""
    packages: list[Any] = [torch.ao.quantization, sys.modules.get(_TORCHAO)]
    return tuple(getattr(package, name) for package in packages if package is not None
                 for name in ("FakeQuantizeBase", "ObserverBase"))
