"""Everything a channel is sliced from, as tensors that are being trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from edgewright.channels import ChannelGroups


class _Place(NamedTuple):
    """One dimension of one weight: which of its indices belong to which channel."""

    weight: nn.Parameter
    dim: int
    indices: Tensor
    channels: Tensor

    def along(self, vector: Tensor) -> Tensor:
        """A vector over the dimension, shaped to multiply the weight."""
        return vector.reshape([-1 if d == self.dim else 1 for d in range(self.weight.ndim)])


@final
class CoupledSlices:
    """The slices of every removable channel of a network: norms, decay, shrinkage of them at once.

    Weights, biases and affine parameters of norms count, running statistics do not.

    Args:
        groups: What has to be sliced together.
        module: The network that is trained; its tensors have the names the groups know.

    Attributes:
        channels: Every removable channel, in the order of the vectors below.
        sizes: Number of weights of each channel, (channels,) float32.
        members: Index of each channel's group, (channels,) int64.
    """

    def __init__(self, groups: ChannelGroups, module: nn.Module) -> None:
        parameters = dict(module.named_parameters(remove_duplicate=False))
        device = next(iter(parameters.values())).device
        self.channels: tuple[int, ...] = tuple(groups.channels.tolist())
        self.members = torch.tensor([i for i, group in enumerate(groups.groups)
                                     for _ in group.channels], device=device)
        self._places = _places(groups, parameters)
        self.sizes = self._gather(torch.ones_like)

    def norms(self) -> Tensor:
        """L2 norm of each channel over all its slices, (channels,) float32."""
        return self._gather(torch.square).sqrt()

    def add_decay(self, strengths: Tensor) -> None:
        """Add the gradient of ``strength / 2 * norm^2`` of every channel, (channels,)."""
        for place in self._places:
            if place.weight.grad is not None:
                per_index = place.weight.new_zeros(place.weight.shape[place.dim])
                per_index.index_add_(0, place.indices, strengths[place.channels])
                place.weight.grad.add_(place.along(per_index) * place.weight)

    def shrink(self, factors: Tensor) -> None:
        """Multiply every slice of each channel by its factor, (channels,); frozen ones stay."""
        for place in self._places:
            if not place.weight.requires_grad:
                continue
            per_index = place.weight.new_ones(place.weight.shape[place.dim])
            per_index.scatter_reduce_(0, place.indices, factors[place.channels], "prod")
            place.weight.mul_(place.along(per_index))

    def _gather(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        total = torch.zeros(len(self.channels), device=self.members.device)
        for place in self._places:
            values = of(place.weight.detach())
            over_others = values.movedim(place.dim, 0).flatten(1).sum(dim=1) \
                if values.ndim > 1 else values
            total.index_add_(0, place.channels, over_others[place.indices])
        return total


def _places(groups: ChannelGroups, parameters: dict[str, nn.Parameter]) -> list[_Place]:
    found: list[_Place] = []
    owner: dict[tuple[int, int], str] = {}  # a tied weight counts once, under its first name
    for name, dim in dict.fromkeys(place for group in groups.groups for place in group.slices):
        weight, labels = parameters.get(name), groups.tensor(name)[dim]
        if weight is None or labels is None or owner.setdefault((id(weight), dim), name) != name:
            continue
        pairs = groups.incidence(labels)
        found.append(_Place(weight, dim, torch.from_numpy(pairs.indices).to(weight.device),
                            torch.from_numpy(pairs.columns).to(weight.device)))
    return found
