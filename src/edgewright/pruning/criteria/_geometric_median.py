"""Filter pruning via the geometric median: how far a filter is from all others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgewright.pruning.criteria._subject import Subject, Vector


def geometric_median(subject: Subject) -> Vector:
    """Distance of a channel's filters to those of all channels of its group, added up.

    ``sum over c' of |F_c - F_c'|_2``: He et al. 2019 (FPGM), eq. 4. F_c are the weights that
    produce the channel: its rows in every matrix and filter bank of the coupled group, end to end,
    where the paper has one layer's. What reads the channel is left out, for of two channels alike
    one can stand for both, whatever becomes of them. A group without rows (an embedding's
    width) is compared by everything it is sliced from.
    """
    scores = np.zeros(subject.count)
    for span in subject.spans:
        places = [place for place, incidence in subject.places.items()
                  if incidence.block(span).size]
        rows = [(name, dim) for name, dim in places
                if dim == 0 and subject.parameters[name].ndim > 1]
        squares = torch.zeros(span.stop - span.start, span.stop - span.start)
        for name, dim in rows or places:
            indices = subject.places[name, dim].block(span)
            squares += _squared_distances(_features(subject.weight(name), dim, indices))
        scores[span] = squares.sqrt().sum(dim=1, dtype=torch.float64).numpy()
    return scores


def _features(tensor: Tensor, dim: int, indices: np.ndarray) -> Tensor:
    """One row a channel: everything in its slice, (channels, features)."""
    return tensor.movedim(dim, 0)[torch.from_numpy(indices)].flatten(1)


def _squared_distances(features: Tensor) -> Tensor:
    """Between all pairs of rows, (N, N); centred first, which loses fewer digits."""
    centred = features - features.mean(dim=0)
    norms = centred.square().sum(dim=1)
    squares = norms[:, None] + norms[None, :] - 2 * centred @ centred.T
    return squares.clamp(min=0).fill_diagonal_(0)
