"""Criteria by what channels put out on data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from edgewright.pruning.criteria._reads import (
    Read,
    before_averaging,
    distinct_operands,
    find_reads,
    observe,
)
from edgewright.pruning.criteria._slices import over_others
from edgewright.pruning.criteria._subject import Subject, Vector

_BATCH: Final = 64


def activation(subject: Subject) -> Vector:
    """Mean absolute activation of a channel, where it is read.

    ``E |a_c|`` over samples and positions, averaged over the activations of the coupled group that
    a layer reads: the mean activation of Molchanov et al. 2017, section 2.2, with the absolute
    value for what no rectifier has passed.
    """
    reads = distinct_operands(find_reads(subject))
    return _mean_over_reads(subject, reads, torch.abs)


def apoz(subject: Subject) -> Vector:
    """Share of a channel's activations that are above zero, where it is read.

    One minus the average percentage of zeros of Hu et al. 2016, eq. 1, averaged over the
    activations of the coupled group that a layer reads; before the averaging pool, where there is
    one in between, for no average of rectified values is zero. Whatever is not positive counts as
    a zero: after a rectifier that is the paper's definition, and of GELU and SiLU it is the shut
    side. Where nothing rectifies, it says little.
    """
    reads = distinct_operands([before_averaging(subject, read) for read in find_reads(subject)])
    return _mean_over_reads(subject, reads, _is_positive)


def _is_positive(operand: Tensor) -> Tensor:
    """One where an entry is above zero; NaN stays what it is."""
    return torch.where(operand.isnan(), operand, (operand > 0).to(operand.dtype))


def _mean_over_reads(subject: Subject, reads: Sequence[Read],
                     each: Callable[[Tensor], Tensor]) -> Vector:
    """The mean of ``each`` over all entries of a channel in a read, averaged over its reads."""
    sums = {read: torch.zeros(read.size, dtype=torch.float64) for read in reads}
    entries = dict.fromkeys(reads, 0)

    def watch(read: Read, operand: Tensor) -> Tensor:
        sums[read] += over_others(each(operand), read.dim)
        entries[read] += operand.numel() // read.size
        return operand

    with torch.no_grad():
        for _ in observe(subject, reads, watch, _BATCH):
            pass
    total, number = torch.zeros(2, subject.count, dtype=torch.float64)
    for read in reads:
        occupied = read.incidence.gather(torch.ones(read.size))
        total += read.incidence.gather(sums[read] / entries[read]) / occupied.clamp(min=1)
        number += occupied > 0
    means: Vector = (total / number).numpy()
    return means
