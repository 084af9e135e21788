"""Filter pruning via the geometric median: how far a filter is from all others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector


def geometric_median(context: ScoringContext) -> Vector:
    """Summed distance of a channel's filters to those of all channels of its group.

    ``sum over c' of |F_c - F_c'|_2``: He et al. 2019 (FPGM), eq. 4. F_c are the weights that
    produce the channel: its rows in every weight matrix and convolution kernel of the coupled
    group, concatenated, where the paper uses one layer. Weights that read the channel are not
    included: of two equal channels one can replace the other, however they are read. A group
    without rows (the width of an embedding) is compared by all its slices.
    """
    scores = np.zeros(context.channel_count)
    for span in context.spans:
        slices = [tensor_dim for tensor_dim, incidence in context.incidences.items()
                  if incidence.block(span).size]
        rows = [(name, dim) for name, dim in slices
                if dim == 0 and context.parameters[name].ndim > 1]
        squares = torch.zeros(span.stop - span.start, span.stop - span.start)
        for name, dim in rows or slices:
            indices = context.incidences[name, dim].block(span)
            squares += _squared_distances(_flatten_slices(context.weight(name), dim, indices))
        scores[span] = squares.sqrt().sum(dim=1, dtype=torch.float64).numpy()
    return scores


def _flatten_slices(tensor: Tensor, dim: int, indices: np.ndarray) -> Tensor:
    """One row per channel with all weights of its slice, (channels, features)."""
    return tensor.movedim(dim, 0)[torch.from_numpy(indices)].flatten(1)


def _squared_distances(features: Tensor) -> Tensor:
    """Squared distances between all pairs of rows, (N, N).

    Rows are centered first, which reduces rounding errors.
    """
    centered = features - features.mean(dim=0)
    norms = centered.square().sum(dim=1)
    squares = norms[:, None] + norms[None, :] - 2 * centered @ centered.T
    return squares.clamp(min=0).fill_diagonal_(0)
