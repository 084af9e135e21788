"""Which channels lie where along a dimension, and sums over what each occupies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.channels import ChannelGroups

TensorDim = tuple[str, int]


@final
@dataclass(frozen=True, eq=False)
class Incidence:
    """Pairs of a channel and an index it occupies along one dimension.

    Attributes:
        channels: Positions among all channels of the program, ascending.
        indices: Indices along the dimension. A channel may occupy several, ascending; two
            channels (a head and a width) may share one.
        count: Channels of the program.
    """

    channels: NDArray[np.int64]
    indices: NDArray[np.int64]
    count: int

    def gather(self, values: Tensor) -> Tensor:
        """The sum over each channel's indices: (..., size) becomes (..., count), float64."""
        sums = torch.zeros(*values.shape[:-1], self.count, dtype=torch.float64)
        picked = values[..., torch.from_numpy(self.indices)].double().cpu()
        return sums.index_add_(-1, torch.from_numpy(self.channels), picked)

    def rows(self, span: slice) -> NDArray[np.int64]:
        """Indices of the channels in ``span``, one row a channel; no columns if they have none.

        Should one channel occupy more of the dimension than another, rows are cut to the shortest.
        """
        counts = np.bincount(self.channels, minlength=self.count)
        starts = (np.cumsum(counts) - counts)[span]
        columns = np.arange(counts[span].min(initial=len(self.indices)))
        rows: NDArray[np.int64] = self.indices[starts[:, None] + columns]
        return rows


def stored_incidence(groups: ChannelGroups) -> dict[TensorDim, Incidence]:
    """For every stored tensor's dimension that channels are sliced from."""
    places = dict.fromkeys(place for group in groups.groups for place in group.slices)
    return {(name, dim): label_incidence(groups, groups.tensor(name)[dim])
            for name, dim in places}


def label_incidence(groups: ChannelGroups, labels: NDArray[np.int64] | None) -> Incidence:
    """For one dimension, from its labels; of no channel where it has none."""
    count = len(groups.channels)
    if labels is None:
        return Incidence(np.zeros(0, np.int64), np.zeros(0, np.int64), count)
    pairs = groups.incidence(labels)
    return Incidence(pairs.columns, pairs.indices, count)
