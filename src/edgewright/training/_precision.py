"""The precision in which a training runs fastest on this machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgewright.training._compute import ComputePrecision, has_bfloat16_instructions
from edgewright.training._memory_format import to_memory_format, use_fastest_format
from edgewright.training._passes import restore_after, time_passes
from edgewright.training._run import Run

_CONTEXTS: Final = (nullcontext, partial(torch.autocast, "cpu", torch.bfloat16))
_ROUNDS: Final = 2   # in turn, as another program may be running during one of them
_GAIN: Final = 0.9  # bfloat16 must take less than this share of the time to be worth its rounding


def find_fastest_precision(run: Run) -> tuple[ComputePrecision, tuple[str, ...]]:
    """The precision of a training on one device, and a note if it was measured.

    A pass of a batch is timed in float32 and with bfloat16 if ``fastest`` is requested on a CPU
    with bfloat16 instructions; otherwise see `Compute.resolve_precision`.
    """
    compute = run.config.compute
    precision = compute.resolve_precision()
    if compute.precision != "fastest" or precision != "32-true" or not _can_compute_bfloat16(run):
        return precision, ()
    example = run.task.train.example(min(run.config.batch_size, len(run.task.train)))
    with use_fastest_format(run.module, example, channels_last=compute.channels_last) as found:
        inputs = to_memory_format(example, found)
        try:
            times = [[_time(run.module, inputs, context()) for context in _CONTEXTS]
                     for _ in range(_ROUNDS)]
        except RuntimeError as error:  # an operator without bfloat16
            return precision, (f"bfloat16 not used: {str(error).splitlines()[0]}",)
    plain, mixed = map(min, zip(*times, strict=True))
    ratio = mixed / plain
    note = f"a pass with bfloat16 takes {ratio:.2f} times as long as one in float32"
    return ("bf16-mixed", (f"{note}: used",)) if ratio < _GAIN else (
        "32-true", (f"{note}: not used",))


def _time(module: nn.Module, inputs: tuple[Tensor, ...],
          context: AbstractContextManager[Any]) -> float:
    with restore_after(module), context:
        return time_passes(module, module, inputs)[1]


def _can_compute_bfloat16(run: Run) -> bool:
    """Whether the training runs on a CPU with bfloat16 instructions."""
    accelerator = run.config.compute.accelerator
    has_other = torch.cuda.is_available() or torch.backends.mps.is_available()
    return (accelerator == "cpu" or (accelerator == "auto" and not has_other)) and (
        has_bfloat16_instructions())
