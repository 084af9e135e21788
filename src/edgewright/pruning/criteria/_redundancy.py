"""Redundancy: how well the other channels of its group can reproduce a channel."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.graph import argument, ops, read_recurrent_layer
from edgewright.pruning.criteria._layer_inputs import LayerInput, find_layer_inputs, run_with_hook
from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector
from edgewright.pruning.criteria._slice_sums import sum_other_dims

_BATCH: Final = 64
_RIDGE: Final = 1e-3  # added to the diagonal, as a fraction of its mean
_TIE_TOLERANCE: Final = 1e-9


def redundancy(context: ScoringContext) -> Vector:
    """Error of reproducing a channel from the remaining ones, weighted by the layers that read it.

    ``1 / (C^-1)_cc``, the mean squared error of the linear regression of channel c on the others. C
    holds the products of the activations of two channels, averaged over samples and positions; each
    channel is multiplied by the norm of the weights that read it, the products are summed over the
    layer inputs of the coupled group, and 1e-3 of the mean diagonal is added to the diagonal. The
    channel with the lowest error is eliminated first and the errors of the others are computed
    again without it: backward elimination, the recursion of Optimal Brain Surgeon (Hassibi and
    Stork 1993) on channels. Of two equal channels one scores almost nothing and the other as if it
    were alone. Related: Sui et al. 2021 (CHIP) score the independence of channels by nuclear norms
    of single samples; He et al. 2017 choose the channels that readers can be reconstructed from
    with a lasso.
    """
    inputs = find_layer_inputs(context)
    pairs = [(group, layer_input, span) for group, span in enumerate(context.spans)
             for layer_input in inputs if layer_input.incidence.block(span).size]
    sums = {(group, layer_input): torch.zeros((), dtype=torch.float64)
            for group, layer_input, _ in pairs}
    rows = dict.fromkeys(sums, 0)

    def accumulate(layer_input: LayerInput, operand: Tensor) -> Tensor:
        for group, _, span in (pair for pair in pairs if pair[1] is layer_input):
            observations = _flatten_observations(layer_input, operand, span)
            sums[group, layer_input] = sums[group, layer_input] + observations.T @ observations
            rows[group, layer_input] += len(observations)
        return operand

    with torch.no_grad():
        for _ in run_with_hook(context, inputs, accumulate, _BATCH):
            pass
    products = [np.zeros((span.stop - span.start,) * 2) for span in context.spans]
    for group, layer_input, span in pairs:
        norms = _reader_norms(context, layer_input, span)
        mean = sums[group, layer_input].numpy() / rows[group, layer_input]
        products[group] += mean * np.outer(norms, norms)
    return np.concatenate([eliminate_backward(matrix) for matrix in products])


def eliminate_backward(products: NDArray[np.float64]) -> Vector:
    """Each variable's unexplained mean square when it is eliminated in a backward elimination.

    Args:
        products: Positive semi-definite (N, N); zero on the diagonal for variables that are always
            zero.

    Returns:
        (N,), ascending in the order of elimination. Of tied variables, the one that was more
        redundant at the start is eliminated first.
    """
    if not np.isfinite(products).all():
        return np.full(len(products), np.nan)
    scores = np.zeros(len(products))
    nonzero = np.flatnonzero(products.diagonal() > 0)
    ridge = _RIDGE * products.diagonal()[nonzero].mean() if len(nonzero) else 0.0
    precision = np.linalg.inv(products[np.ix_(nonzero, nonzero)] + ridge * np.eye(len(nonzero)))
    initial_diagonal = precision.diagonal().copy()
    remaining = np.ones(len(nonzero), dtype=bool)
    for _ in nonzero:
        diagonal = np.where(remaining, precision.diagonal(), 0)
        ties = diagonal >= diagonal.max() * (1 - _TIE_TOLERANCE)
        removed = int(np.argmax(np.where(ties, initial_diagonal, 0)))
        scores[nonzero[removed]] = 1 / diagonal[removed]
        remaining[removed] = False
        precision -= np.outer(precision[:, removed], precision[removed]) / diagonal[removed]
    return scores


def _flatten_observations(layer_input: LayerInput, operand: Tensor, span: slice) -> Tensor:
    """One row per observation: (samples x positions, channels), float64."""
    indices = torch.from_numpy(layer_input.incidence.block(span))
    picked = operand.movedim(layer_input.dim, -1)[..., indices]
    return picked.transpose(-1, -2).flatten(0, -2).double()


def _reader_norms(context: ScoringContext, layer_input: LayerInput, span: slice) -> Vector:
    """L2 norm of the weights that read each channel; ones if activations read it."""
    squares = np.zeros(span.stop - span.start)
    for name in _reader_names(layer_input):
        for dim in (1, 0):  # dimension 1 of a layer's weight holds the input channels
            incidence = context.incidences.get((name, dim))
            if incidence is not None and incidence.block(span).size:
                sums = incidence.gather(sum_other_dims(context.weight(name).square(), dim))
                squares += sums[span].numpy()
                break
        else:
            return np.ones_like(squares)
    norms: Vector = np.sqrt(squares)
    return norms


def _reader_names(layer_input: LayerInput) -> list[str]:
    """Names of the weights that multiply a layer input; of both directions of a recurrent layer."""
    node = layer_input.node
    if node.target in ops.RECURRENT_LAYERS:
        return [str((direction.hidden_weight if layer_input.is_state
                     else direction.input_weight).target)
                for direction in read_recurrent_layer(node).directions]
    factor = ops.weight_argument(node)
    weight = None if factor is None else argument(node, factor)
    return [str(getattr(weight, "target", None))]
