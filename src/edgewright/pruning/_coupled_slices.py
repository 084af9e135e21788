"""The slices of all channels, as views on tensors that are being trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from edgewright.channels import ChannelGroups


class _SlicedDim(NamedTuple):
    """One dimension of one weight, with pairs of its indices and the channels they belong to."""

    weight: nn.Parameter
    dim: int
    indices: Tensor
    channels: Tensor

    def broadcast(self, vector: Tensor) -> Tensor:
        """Reshape a vector over the dimension so that it can be multiplied with the weight."""
        return vector.reshape([-1 if d == self.dim else 1 for d in range(self.weight.ndim)])


@final
class CoupledSlices:
    """Norms, weight decay and shrinkage of all removable channels of a network at once.

    Weights, biases and affine parameters of norms are included, running statistics are not.

    Args:
        groups: The coupled channels.
        module: The network being trained; its parameters have the same names as in ``groups``.

    Attributes:
        channels: All removable channels, in the order of the vectors below.
        sizes: Number of weights of each channel, (channels,) float32.
        group_indices: Index of each channel's group, (channels,) int64.
    """

    def __init__(self, groups: ChannelGroups, module: nn.Module) -> None:
        parameters = dict(module.named_parameters(remove_duplicate=False))
        device = next(iter(parameters.values())).device
        self.channels: tuple[int, ...] = tuple(groups.channels.tolist())
        self.group_indices = torch.tensor([i for i, group in enumerate(groups.groups)
                                           for _ in group.channels], device=device)
        self._sliced_dims = _find_sliced_dims(groups, parameters)
        self.sizes = self._sum_per_channel(torch.ones_like)

    def norms(self) -> Tensor:
        """L2 norm of each channel over all its slices, (channels,) float32."""
        return self._sum_per_channel(torch.square).sqrt()

    def add_decay(self, strengths: Tensor) -> None:
        """Add the gradient of ``strength / 2 * norm^2`` of every channel, (channels,)."""
        for sliced in self._sliced_dims:
            if sliced.weight.grad is not None:
                per_index = sliced.weight.new_zeros(sliced.weight.shape[sliced.dim])
                per_index.index_add_(0, sliced.indices, strengths[sliced.channels])
                sliced.weight.grad.add_(sliced.broadcast(per_index) * sliced.weight)

    def shrink(self, factors: Tensor) -> None:
        """Multiply the slices of each channel by its factor, (channels,), except frozen weights."""
        for sliced in self._sliced_dims:
            if not sliced.weight.requires_grad:
                continue
            per_index = sliced.weight.new_ones(sliced.weight.shape[sliced.dim])
            per_index.scatter_reduce_(0, sliced.indices, factors[sliced.channels], "prod")
            sliced.weight.mul_(sliced.broadcast(per_index))

    def _sum_per_channel(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Sum of ``function`` over all weights of each channel, (channels,)."""
        total = torch.zeros(len(self.channels), device=self.group_indices.device)
        for sliced in self._sliced_dims:
            values = function(sliced.weight.detach())
            per_index = values.movedim(sliced.dim, 0).flatten(1).sum(dim=1) \
                if values.ndim > 1 else values
            total.index_add_(0, sliced.channels, per_index[sliced.indices])
        return total


def _find_sliced_dims(groups: ChannelGroups,
                      parameters: dict[str, nn.Parameter]) -> list[_SlicedDim]:
    found: list[_SlicedDim] = []
    first_name: dict[tuple[int, int], str] = {}  # a tied weight is included once
    for name, dim in dict.fromkeys(key for group in groups.groups for key in group.slices):
        weight, labels = parameters.get(name), groups.tensor(name)[dim]
        if (weight is None or labels is None
                or first_name.setdefault((id(weight), dim), name) != name):
            continue
        incidence = groups.incidence(labels)
        found.append(_SlicedDim(weight, dim, torch.from_numpy(incidence.indices).to(weight.device),
                                torch.from_numpy(incidence.columns).to(weight.device)))
    return found
