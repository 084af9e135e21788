"""Training steps through ``torch.compile``, where that computes the same and wins."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from statistics import median
from typing import Any, Final, Literal, NamedTuple, final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgewright.errors import UsageError
from edgewright.training._memory_format import to_memory_format
from edgewright.training._outputs import as_outputs
from edgewright.training._run import Run

Wanted = bool | Literal["auto"]

_PASSES: Final = 3  # timed, of either kind
_TOLERANCE: Final = 0.05  # relative; bfloat16 and fake quantisers differ by some hundredths
# Seen with ResNet-20 and ResNet-56 on two cores: a compiled pass took 0.6 to 0.9 of the eager
# one, and compiling a third of a second per parameter tensor.
_LARGEST_GAIN: Final = 0.4
_SECONDS_PER_TENSOR: Final = 0.3
_NAMES: Final = itertools.count()


class Compilation(NamedTuple):
    """How a module is run in training.

    Attributes:
        module: What to call: the module itself, or one around it that shares its tensors.
        notes: What was decided and why, where it was not plain from the start.
    """

    module: nn.Module
    notes: tuple[str, ...] = ()


def compile_passes(run: Run, fabric: Fabric, memory_format: torch.memory_format) -> Compilation:
    """Compile a run's training passes where that pays; see `try_compile`.

    It is tried on the first samples of the run's task.
    """
    config, compute = run.config, run.config.compute
    if compute.compile is False:
        return Compilation(run.module)
    size = max(1, config.batch_size // (compute.devices * config.accumulate))
    example = tuple(tensor.to(fabric.device) for tensor in run.task.train.example(size))
    steps = config.epochs * math.ceil(len(run.task.train) / config.batch_size)
    return try_compile(run.module, to_memory_format(example, memory_format), compute.compile,
                       steps * config.accumulate, fabric.autocast)


def try_compile(module: nn.Module, inputs: tuple[Tensor, ...], wanted: Wanted, steps: int,
                context: Callable[[], AbstractContextManager[Any]]) -> Compilation:
    """Compile a module's training passes, where that is wanted, computes the same, and pays.

    The compiled passes are tried on ``inputs`` beside the eager ones, without a trace in the
    module; batches of another size run eagerly. Random numbers are those of the eager module. A
    module is compiled in one piece or not at all (not with fake quantisers: they read values).

    Args:
        module: On its device, in its memory format; state dict and mode stay its own.
        inputs: One batch, of the size that most have.
        wanted: False leaves it alone; "auto" compiles where the passes to come are thought to
            take longer than compiling, and keeps what is faster.
        steps: Passes to come.
        context: The precision that passes run in.

    Raises:
        UsageError: ``wanted`` is True, and it cannot be compiled (no C++ compiler, say) or
            computes something else.

    Example:
        >>> from contextlib import nullcontext
        >>> module, x = torch.nn.Linear(2, 2), torch.zeros(4, 2)
        >>> try_compile(module, (x,), "auto", 10, nullcontext).notes[0].partition(":")[0]
        'not compiled'
    """
    if wanted is False:
        return Compilation(module)
    with _restore_after(module), context():
        expected, eager_s = _time_passes(module, module, inputs)
        if wanted == "auto" and not _may_pay(module, steps * eager_s):
            return Compilation(module, (
                f"not compiled: {steps} passes of about {eager_s:.2g} s are fewer than would make "
                "up for compiling",))
        candidate = _CompiledPasses(module, inputs)
        since = time.perf_counter()
        try:
            _compute_gradients(module, candidate, inputs)
            compile_s = time.perf_counter() - since
            found, compiled_s = _time_passes(module, candidate, inputs)
        except RuntimeError as error:  # of dynamo, of the compiler, of memory
            return _decline(module, wanted, f"torch.compile failed: {_first_line(error)}")
    if (distance := _relative_distance(found, expected)) > _TOLERANCE:
        return _decline(module, wanted, f"compiled gradients differ by {distance:.2g} of theirs")
    ratio = compiled_s / eager_s
    if wanted == "auto" and ratio >= 1:
        return Compilation(module, (
            f"not compiled: a compiled pass takes {ratio:.2f} of an eager one",))
    return Compilation(candidate, (
        f"compiled in {compile_s:.0f} s: a pass takes {ratio:.2f} of an eager one",))


@final
class _CompiledPasses(nn.Module):
    """Runs a module compiled where it trains on the usual shapes, and as it is elsewhere.

    The function that is compiled has a code object of its own, for torch compiles each only so
    many times; it calls the module, so that a captured graph, whose own code is written anew with
    every change of mode, is compiled once.
    """

    def __init__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.module = module
        self._shapes = [tensor.shape for tensor in inputs]

        def run(*inputs: Tensor) -> Any:
            return module(*inputs)

        run.__code__ = run.__code__.replace(co_name=f"compiled_passes_{next(_NAMES)}")
        self._run: Callable[..., Any] = torch.compile(
            run, dynamic=False, fullgraph=True, options={"fallback_random": True})

    def forward(self, *inputs: Tensor) -> Any:
        is_usual = [tensor.shape for tensor in inputs] == self._shapes
        return (self._run if is_usual and self.module.training else self.module)(*inputs)


@contextmanager
def _restore_after(module: nn.Module) -> Iterator[None]:
    """A module in training mode; then its mode and buffers as before, and no gradients."""
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


def _time_passes(module: nn.Module, call: nn.Module,
                 inputs: tuple[Tensor, ...]) -> tuple[list[Tensor], float]:
    """The gradients, and the median seconds of a pass forth and back, once it is warm."""
    gradients, seconds = _compute_gradients(module, call, inputs), []
    for _ in range(_PASSES):
        since = time.perf_counter()
        gradients = _compute_gradients(module, call, inputs)
        seconds.append(time.perf_counter() - since)
    return gradients, median(seconds)


def _compute_gradients(module: nn.Module, call: nn.Module,
                       inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Of the outputs' mean square, by each parameter that has one."""
    torch.manual_seed(0)
    module.zero_grad()
    outputs = as_outputs(call(*inputs))
    energy = torch.stack([output.float().square().mean() for output in outputs]).sum()
    energy.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.detach().clone() for p in module.parameters() if p.grad is not None]
    if inputs[0].is_cuda:
        torch.cuda.synchronize(inputs[0].device)
    return gradients


def _may_pay(module: nn.Module, seconds: float) -> bool:
    tensors = sum(1 for _ in module.parameters())
    return seconds * _LARGEST_GAIN > tensors * _SECONDS_PER_TENSOR


def _relative_distance(found: list[Tensor], expected: list[Tensor]) -> float:
    """Of all gradients together, as a share of their length; infinite where some are missing."""
    if len(found) != len(expected):
        return float("inf")
    apart = sum(float((a.double() - b.double()).square().sum())
                for a, b in zip(found, expected, strict=True))
    length = sum(float(b.double().square().sum()) for b in expected)
    return (apart / length) ** 0.5 if length else float(apart > 0)


def _decline(module: nn.Module, wanted: Wanted, reason: str) -> Compilation:
    if wanted is True:
        raise UsageError(f"compile=True, but {type(module).__name__} cannot be trained compiled: "
                         f"{reason}; set compile to 'auto' or False")
    return Compilation(module, (f"not compiled: {reason}",))


def _first_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
