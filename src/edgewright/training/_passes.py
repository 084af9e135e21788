"""Forward and backward passes on one batch, run and timed without side effects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from edgewright.training._outputs import output_tensors

_PASSES: Final = 3  # timed passes


@contextmanager
def restore_after(module: nn.Module) -> Iterator[None]:
    """Set training mode; on exit restore mode and buffers, and clear the gradients."""
    was_training = module.training
    kept = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    module.train()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        module.zero_grad()
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
        module.train(was_training)


def time_passes(module: nn.Module, call: nn.Module,
                 inputs: tuple[Tensor, ...]) -> tuple[list[Tensor], float]:
    """The gradients, and the seconds of a forward and backward pass after warm-up.

    It is the least of a few, since other programs only ever add time.
    """
    gradients, seconds = compute_gradients(module, call, inputs), []
    for _ in range(_PASSES):
        since = time.perf_counter()
        gradients = compute_gradients(module, call, inputs)
        seconds.append(time.perf_counter() - since)
    return gradients, min(seconds)


def compute_gradients(module: nn.Module, call: nn.Module,
                       inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The gradients of the outputs' mean square with respect to each parameter that has one."""
    torch.manual_seed(0)
    module.zero_grad()
    outputs = output_tensors(call(*inputs))
    energy = torch.stack([output.float().square().mean() for output in outputs]).sum()
    energy.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.detach().clone() for p in module.parameters() if p.grad is not None]
    if inputs[0].is_cuda:
        torch.cuda.synchronize(inputs[0].device)
    return gradients
