"""How what a network puts out for each sample answers to a gate on each channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.pruning.criteria._reads import Read, find_reads, observe
from edgewright.pruning.criteria._subject import Subject

_BATCH: Final = 64
Signal: TypeAlias = Callable[[tuple[Tensor, ...], Tensor], Tensor]


def summed_loss(outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    """Cross-entropy, averaged over the outputs and summed over the samples."""
    return torch.stack([F.cross_entropy(logits, targets, reduction="sum")
                        for logits in outputs]).mean()


def gate_slopes(subject: Subject, signal: Signal = summed_loss) -> Iterator[Tensor]:
    """For each batch the derivatives of its samples' signals by the channels' gates.

    A channel's gate is a factor of one on all its reads at once: a gate of zero removes the
    channel, so minus the slope is to first order what its removal adds to the signal. By the chain
    rule it is the sum over the reads of activation times gradient. Samples do not meet in
    evaluation form, so that one backward pass of the sum gives each sample its own slope.

    Args:
        subject: What is judged.
        signal: From outputs and targets to the sum over the samples of what is differentiated.

    Yields:
        (samples, channels), float64.
    """
    reads = find_reads(subject)
    gates: dict[Read, Tensor] = {}

    def gated(read: Read, operand: Tensor) -> Tensor:
        sizes = [size if dim in (read.batch, read.dim) else 1
                 for dim, size in enumerate(operand.shape)]
        gates[read] = torch.ones(sizes, dtype=operand.dtype, requires_grad=True)
        return operand * gates[read]

    for outputs, targets in observe(subject, reads, gated, _BATCH):
        slopes = torch.autograd.grad(signal(outputs, targets), list(gates.values()))
        yield torch.stack([_by_channel(read, slope, len(targets))
                           for read, slope in zip(gates, slopes, strict=True)]).sum(dim=0)


def _by_channel(read: Read, slope: Tensor, samples: int) -> Tensor:
    """From a gate's gradient to (samples, channels); a sample may fill many rows (windows)."""
    rows = slope.movedim((read.batch, read.dim), (0, 1)).flatten(1)
    return read.incidence.gather(rows.reshape(samples, -1, rows.shape[1]).sum(dim=1))
