"""Run training passes through ``torch.compile`` if the result is the same and it is faster."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from edgewright.errors import UsageError
from edgewright.training._memory_format import to_memory_format
from edgewright.training._passes import compute_gradients, restore_after, time_passes
from edgewright.training._run import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CompileMode = bool | Literal["auto"]

_TOLERANCE: Final = 0.05  # relative; fake quantizers differ by a few hundredths
_TOLERANCE_ROUNDED: Final = 0.15  # in mixed precision: compiled code rounds fewer intermediates
# Measured with ResNets on two cores: a compiled pass took 0.6 to 1.0 of the time of an eager one,
# and compilation 0.3 to 0.5 seconds per parameter tensor. A scalar parameter belongs to a fake
# quantizer: with 60 of them ResNet-20 took 128 s, but a pass then 0.4 of the time.
_EXPECTED_GAIN: Final = 0.2
_SECONDS_PER_TENSOR: Final = 0.4
_MIN_PASS_SECONDS: Final = 1e-6
_NAMES: Final = itertools.count()


class Compilation(NamedTuple):
    """How a module is run in training.

    Attributes:
        module: The module to call: the original, or a wrapper that shares its tensors.
        notes: What was decided and why, if there was a decision to make.
    """

    module: nn.Module
    notes: tuple[str, ...] = ()


def compile_passes(run: Run, fabric: Fabric, memory_format: torch.memory_format) -> Compilation:
    """Compile a run's training passes if worthwhile, tried on its first samples.

    See `try_compile`.
    """
    config, compute = run.config, run.config.compute
    if compute.compile is False:
        return Compilation(run.module)
    size = max(1, config.batch_size // (compute.devices * config.accumulate))
    example = tuple(tensor.to(fabric.device) for tensor in run.task.train.example(size))
    steps = math.ceil(len(run.task.train) / config.batch_size) * (
        math.inf if config.epochs is None else config.epochs)
    return try_compile(run.module, to_memory_format(example, memory_format), compute.compile,
                       steps * config.accumulate, fabric.autocast,
                       seconds=math.inf if run.limit is None else run.limit.left)


def try_compile(module: nn.Module, inputs: tuple[Tensor, ...], wanted: CompileMode, steps: float,
                context: Callable[[], AbstractContextManager[Any]], *,
                seconds: float = math.inf) -> Compilation:
    """Compile a module's training passes if requested, numerically equivalent, and worthwhile.

    The compiled passes are compared with eager ones on ``inputs`` without side effects on the
    module; batches of another size run eagerly. Random numbers are those of the eager module. The
    module is compiled as one full graph or not at all: control flow that depends on tensor values
    prevents it.

    Args:
        module: On its device, in its memory format; its state dict and mode do not change.
        inputs: One batch of the usual size.
        wanted: False does not compile; "auto" compiles if the remaining passes are estimated to
            take longer than compilation, and keeps the faster version.
        steps: Number of remaining passes; infinite if only their time is limited.
        context: The precision context to run in.
        seconds: Limit on the time of the remaining passes.

    Raises:
        UsageError: ``wanted`` is True, but the module cannot be compiled (for example without a
            C++ compiler) or the compiled gradients differ.

    Example:
        >>> from contextlib import nullcontext
        >>> module, x = torch.nn.Linear(2, 2), torch.zeros(4, 2)
        >>> try_compile(module, (x,), "auto", 10, nullcontext).notes[0].partition(":")[0]
        'not compiled'
    """
    if wanted is False:
        return Compilation(module)
    with restore_after(module), context():
        is_mixed = torch.is_autocast_enabled(inputs[0].device.type)
        expected, eager_s = time_passes(module, module, inputs)
        passes = math.ceil(min(steps, seconds / max(eager_s, _MIN_PASS_SECONDS)))
        if wanted == "auto" and not _is_worthwhile(module, passes * eager_s):
            return Compilation(module, (
                f"not compiled: {passes} passes of about {eager_s:.2g} s are too few to make up "
                "for the compilation time",))
        candidate = _CompiledPasses(module, inputs)
        since = time.perf_counter()
        try:
            compute_gradients(module, candidate, inputs)
            compile_s = time.perf_counter() - since
            found, compiled_s = time_passes(module, candidate, inputs)
        except RuntimeError as error:  # of dynamo, of the compiler, of memory
            return _decline(module, wanted, f"torch.compile failed: {_first_line(error)}")
    tolerance = _TOLERANCE_ROUNDED if is_mixed else _TOLERANCE
    if (distance := _relative_distance(found, expected)) > tolerance:
        return _decline(module, wanted, f"compiled gradients differ by {distance:.2g} (relative)")
    ratio = compiled_s / eager_s
    if wanted == "auto" and ratio >= 1:
        return Compilation(module, (
            f"not compiled: a compiled pass takes {ratio:.2f} times as long as an eager one",))
    return Compilation(candidate, (
        f"compiled in {compile_s:.0f} s: a pass takes {ratio:.2f} times as long as an eager one",))


@final
class _CompiledPasses(nn.Module):
    """Runs a module compiled in training on the usual shapes, and eagerly otherwise.

    The compiled function has its own code object, because torch limits recompilations per code
    object. It calls the module, so that a captured graph is compiled once although its code is
    regenerated with every change of mode.
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


def _is_worthwhile(module: nn.Module, seconds: float) -> bool:
    tensors = sum(1 for _ in module.parameters())
    return seconds * _EXPECTED_GAIN > tensors * _SECONDS_PER_TENSOR


def _relative_distance(found: list[Tensor], expected: list[Tensor]) -> float:
    """The relative L2 distance of all gradients together; infinite if some are missing."""
    if len(found) != len(expected):
        return float("inf")
    apart = sum(float((a.double() - b.double()).square().sum())
                for a, b in zip(found, expected, strict=True))
    length = sum(float(b.double().square().sum()) for b in expected)
    return (apart / length) ** 0.5 if length else float(apart > 0)


def _decline(module: nn.Module, wanted: CompileMode, reason: str) -> Compilation:
    if wanted is True:
        raise UsageError(f"compile=True, but {type(module).__name__} cannot be trained compiled: "
                         f"{reason}; set compile to 'auto' or False")
    return Compilation(module, (f"not compiled: {reason}",))


def _first_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
