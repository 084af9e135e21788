"""Channels-last: the memory format in which convolutions train fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgewright.training._outputs import as_outputs


def to_memory_format(inputs: tuple[Tensor, ...],
                     memory_format: torch.memory_format) -> tuple[Tensor, ...]:
    """The inputs with those of four dimensions (N, C, H, W) laid out in a memory format."""
    return tuple(tensor.contiguous(memory_format=memory_format) if tensor.ndim == 4 else tensor
                 for tensor in inputs)


@contextmanager
def use_fastest_format(module: nn.Module, example: tuple[Tensor, ...], *,
                       channels_last: bool) -> Iterator[torch.memory_format]:
    """Lay the weights out channels-last, where asked for and possible; contiguous again after.

    It is not possible where the model takes a ``view`` of an activation, which needs one layout.

    Args:
        module: Changed in place; its mode is kept.
        example: Inputs to try the layout with, on the module's device.
        channels_last: Whether it is asked for.

    Yields:
        The memory format that the inputs should have.
    """
    wanted = channels_last and any(tensor.ndim == 4 for tensor in example)
    try:
        if wanted:
            _lay_out(module, torch.channels_last)
        if wanted and _runs(module, to_memory_format(example, torch.channels_last)):
            yield torch.channels_last
        else:
            _lay_out(module, torch.contiguous_format)
            yield torch.contiguous_format
    finally:
        _lay_out(module, torch.contiguous_format)


def _lay_out(module: nn.Module, memory_format: torch.memory_format) -> None:
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def _runs(module: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            as_outputs(module(*inputs))
    except RuntimeError:  # of the layout; what fails in any other fails in the first step too
        return False
    finally:
        module.train(was_training)
    return True
