"""Redundancy: how well the other channels of its group can stand for a channel."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.graph import argument, ops
from edgewright.pruning.criteria._reads import Read, find_reads, observe
from edgewright.pruning.criteria._slices import over_others
from edgewright.pruning.criteria._subject import Subject, Vector

_BATCH: Final = 64
_RIDGE: Final = 1e-3  # of the mean square: so much of every channel is taken for its own
_TIE: Final = 1e-9


def redundancy(subject: Subject) -> Vector:
    """What of a channel the channels kept cannot reproduce, as its readers feel it.

    ``1 / (C^-1)_cc``, the mean squared error of the linear regression of channel c on the others;
    C holds the products of two channels' activations, averaged over samples and positions, each
    channel times the norm of the weights that read it, added up over the reads of the coupled
    group, plus 1e-3 of its mean diagonal. The least goes first, and the others' are taken anew
    without it: backward elimination, the recursion of Optimal Brain Surgeon (Hassibi and Stork
    1993) on channels. Of two channels alike one scores next to nothing and the other as if alone.
    Independence of channels is what Sui et al. 2021 (CHIP) score, by nuclear norms of single
    samples, and what readers can reconstruct is He et al. 2017, who solve a lasso.
    """
    reads = find_reads(subject)
    products = [(number, read, span) for number, span in enumerate(subject.spans)
                for read in reads if read.incidence.block(span).size]
    sums = {(number, read): torch.zeros((), dtype=torch.float64) for number, read, _ in products}
    rows = dict.fromkeys(sums, 0)

    def watch(read: Read, operand: Tensor) -> Tensor:
        for number, _, span in (found for found in products if found[1] is read):
            seen = _observations(read, operand, span)
            sums[number, read] = sums[number, read] + seen.T @ seen
            rows[number, read] += len(seen)
        return operand

    with torch.no_grad():
        for _ in observe(subject, reads, watch, _BATCH):
            pass
    felt = [np.zeros((span.stop - span.start,) * 2) for span in subject.spans]
    for number, read, span in products:
        norms = _norms_of_readers(subject, read, span)
        mean = sums[number, read].numpy() / rows[number, read]
        felt[number] += mean * np.outer(norms, norms)
    return np.concatenate([eliminate(products) for products in felt])


def eliminate(products: NDArray[np.float64]) -> Vector:
    """Each variable's unexplained mean square at its turn in a backward elimination.

    Args:
        products: Positive semi-definite (N, N); zero on the diagonal for what is always zero.

    Returns:
        (N,), ascending in the order of elimination. Of variables that tie, the one goes first
        that was the more redundant at the start.
    """
    if not np.isfinite(products).all():
        return np.full(len(products), np.nan)
    scores = np.zeros(len(products))
    alive = np.flatnonzero(products.diagonal() > 0)
    ridge = _RIDGE * products.diagonal()[alive].mean() if len(alive) else 0.0
    precision = np.linalg.inv(products[np.ix_(alive, alive)] + ridge * np.eye(len(alive)))
    at_first = precision.diagonal().copy()
    remaining = np.ones(len(alive), dtype=bool)
    for _ in alive:
        diagonal = np.where(remaining, precision.diagonal(), 0)
        ties = diagonal >= diagonal.max() * (1 - _TIE)
        gone = int(np.argmax(np.where(ties, at_first, 0)))
        scores[alive[gone]] = 1 / diagonal[gone]
        remaining[gone] = False
        precision -= np.outer(precision[:, gone], precision[gone]) / diagonal[gone]
    return scores


def _observations(read: Read, operand: Tensor, span: slice) -> Tensor:
    """One row an observation: (samples x positions, channels), float64."""
    indices = torch.from_numpy(read.incidence.block(span))
    picked = operand.movedim(read.dim, -1)[..., indices]
    return picked.transpose(-1, -2).flatten(0, -2).double()


def _norms_of_readers(subject: Subject, read: Read, span: slice) -> Vector:
    """L2 norm of the weights that read each channel; ones where activations read it."""
    factor = ops.weight_argument(read.node)
    weight = None if factor is None else argument(read.node, factor)
    name = str(getattr(weight, "target", None))
    for dim in (1, 0):  # of a layer's weight the inputs are the second
        incidence = subject.places.get((name, dim))
        if incidence is not None and incidence.block(span).size:
            squares = incidence.gather(over_others(subject.weight(name).square(), dim))
            norms: Vector = squares[span].sqrt().numpy()
            return norms
    return np.ones(span.stop - span.start)
