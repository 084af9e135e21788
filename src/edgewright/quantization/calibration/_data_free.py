"""Synthetic inputs for calibration without data, from the statistics of batch norms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.capture import CapturedModule
from edgewright.errors import ModelError, UsageError
from edgewright.graph import argument, ops
from edgewright.program import Program

_BATCH: Final = 64
_STEPS: Final = 100
_RATE: Final = 0.5


def synthesize_inputs(program: Program, samples: int,
                      seed: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """Generate inputs whose statistics at each batch norm match the running statistics.

    This is the "distilled data" of ZeroQ (Cai et al. 2020, eq. 3): starting from Gaussian noise,
    inputs are optimized to minimize the sum over batch norms of the squared differences of mean and
    standard deviation. Differences from the paper: each difference is divided by the running
    standard deviation, so that all norms have the same weight, and the statistics of the inputs
    themselves, which are unknown, are not constrained.

    Args:
        program: A program in floating point with unfolded batch norms.
        samples: Number of samples. One batch of 64 is usually enough; each batch is optimized
            separately, which costs a hundred training steps.
        seed: Seed of the noise; the same seed gives the same inputs.

    Yields:
        The inputs of one batch of up to 64 samples, in the order of the program's inputs.

    Raises:
        UsageError: ``samples`` is below 1.
        ModelError: No batch norm has running statistics, or an input is not floating point.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.BatchNorm1d(1))
        >>> net[1].running_mean.fill_(3.0)
        tensor([3.])
        >>> inputs, = synthesize_inputs(Program.capture(net, torch.zeros(1, 2)), samples=64)
        >>> bool(abs(net[0](*inputs).mean() - 3) < 0.1)
        True
    """
    if samples < 1:
        raise UsageError(f"calibration needs at least 1 sample, got {samples}")
    _check(program)
    module = program.module().requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, samples, _BATCH):
        count = min(_BATCH, samples - start)
        yield _distill_inputs(module, program.example_inputs, count, generator)


def _check(program: Program) -> None:
    if not any(_keeps_statistics(node) for node in program.calls()):
        raise ModelError("no batch norm of the program has running statistics, which are needed to "
                         "synthesize calibration data; pass a task with training data, or use "
                         "activations='dynamic' or None, which need no data")
    for leaf in pytree.tree_leaves(program.example_inputs):
        if not leaf.is_floating_point():
            raise ModelError(f"an input of the program has type {leaf.dtype}, which cannot be "
                             "optimized; pass a task with training data")


def _keeps_statistics(node: Node) -> bool:
    return node.target is ops.BATCH_NORM and argument(node, "running_mean") is not None


@torch.enable_grad()
def _distill_inputs(module: CapturedModule, examples: tuple[Any, ...], count: int,
               generator: torch.Generator) -> tuple[Tensor, ...]:
    inputs = [torch.randn(count, *leaf.shape[1:], generator=generator).requires_grad_()
              for leaf in pytree.tree_leaves(examples)]
    optimizer = torch.optim.Adam(inputs, lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        _mismatch(module, inputs).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return tuple(tensor.detach() for tensor in inputs)


def _mismatch(module: CapturedModule, inputs: list[Tensor]) -> Tensor:
    reader = _NormStatisticsReader(module)
    reader.run(*inputs, enable_io_processing=False)
    return torch.stack(reader.mismatches).sum()


@final
class _NormStatisticsReader(Interpreter):
    """Runs a graph and records how much each batch norm's inputs differ from its statistics."""

    def __init__(self, module: CapturedModule) -> None:
        super().__init__(module)
        self.mismatches: list[Tensor] = []

    def run_node(self, n: Node) -> Any:
        if _keeps_statistics(n):
            value, mean, variance = (self.env[argument(n, name)] for name in (
                "input", "running_mean", "running_var"))
            eps = argument(n, "eps")
            deviation = (variance + eps).sqrt()
            others = [dimension for dimension in range(value.ndim) if dimension != 1]
            spread, center = torch.var_mean(value, others, correction=0)
            self.mismatches.append(
                ((center - mean) / deviation).square().mean()
                + ((spread + eps).sqrt() / deviation - 1).square().mean())
        return super().run_node(n)
