"""Channels-last memory format, in which convolutions train fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def to_memory_format(inputs: tuple[Tensor, ...],
                     memory_format: torch.memory_format) -> tuple[Tensor, ...]:
    """Convert the 4-D inputs (N, C, H, W) to a memory format."""
    return tuple(tensor.contiguous(memory_format=memory_format) if tensor.ndim == 4 else tensor
                 for tensor in inputs)


@contextmanager
def use_fastest_format(module: nn.Module, example: tuple[Tensor, ...], *,
                       channels_last: bool) -> Iterator[torch.memory_format]:
    """Convert the weights to channels-last if requested and possible; contiguous on exit.

    It is impossible if the model calls ``view`` on an activation in a way that needs the contiguous
    layout.

    Args:
        module: Changed in place; its mode is kept.
        example: Inputs to try the layout with, on the module's device.
        channels_last: Whether channels-last is requested.

    Yields:
        The memory format for the inputs.
    """
    wanted = channels_last and any(tensor.ndim == 4 for tensor in example)
    try:
        if wanted:
            set_memory_format(module, torch.channels_last)
        if wanted and _can_run(module, to_memory_format(example, torch.channels_last)):
            yield torch.channels_last
        else:
            set_memory_format(module, torch.contiguous_format)
            yield torch.contiguous_format
    finally:
        set_memory_format(module, torch.contiguous_format)


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Convert all 4-D parameters of a module, in place."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def _can_run(module: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            module(*inputs)
    except RuntimeError:  # caused by the layout; any other error shows up again in the first step
        return False
    finally:
        module.train(was_training)
    return True
