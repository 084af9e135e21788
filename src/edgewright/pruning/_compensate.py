"""Compensation for removed channels: fits the remaining weights, without training."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.channels import ChannelGroups, SideBySide
from edgewright.graph import argument, count_reads, ops, stored_tensors
from edgewright.program import Program
from edgewright.pruning._least_squares import (
    FITTED_CONVOLUTIONS,
    MOST_REGRESSORS,
    Moments,
    count_positions,
    flatten_observations,
)
from edgewright.task import Split

_STATISTICS: Final = ("running_mean", "running_var")
_MAX_ROWS: Final = 2**17  # maximum number of observations per layer
_CHUNK_ROWS: Final = 2**13  # observations that are processed at once
_MAX_BYTES: Final = 2**31  # activations of both programs together


def compensate(program: Program, sliced: Program, groups: ChannelGroups,
               removed: Collection[int], samples: Split, *,
               ridge: float = 0.01) -> Program:
    """Fit the layers that read removed channels to reproduce their outputs from the kept channels.

    Both programs run side by side on the samples. For every layer whose input differs in the sliced
    program, in order of computation::

        min over W of |Y - X W|^2 + ridge |W - W_sliced|^2      (convolution, linear)

    where X is the layer's input in the sliced, already repaired program, one row per position, and
    Y is the layer's output in the original program: He, Zhang & Sun 2017, "Channel pruning for
    accelerating very deep neural networks", eq. 5, where later layers see the errors of earlier
    ones (section 3.2). Means are corrected by the bias, or by the batch norm after the layer, whose
    running statistics are measured again. Weights before a batch norm are rescaled to their
    original norm, which the batch norm cancels: least squares increases it, and a larger norm makes
    the steps of later training relatively smaller (van Laarhoven 2017, "L2 regularization versus
    batch and weight normalization"). Differences from the paper: this rescaling, the ridge, and
    that the last layer is fitted too. Grouped, transposed, 3-d and shared layers, and layers with
    more than 8,192 inputs (channels times kernel size), are not fitted.

    Args:
        program: The original program, in floating point.
        sliced: The result of `remove_channels`; it is not changed.
        groups: The channel groups of ``program``.
        removed: The removed channels.
        samples: Inputs to fit to; fewer are used if their activations exceed 2 GiB.
        ridge: Ridge strength, as a multiple of the mean variance of X.

    Example:
        >>> from edgewright.channels import find_groups, remove_channels
        >>> from edgewright.task import TensorSplit
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        >>> for weight in model.parameters():  # equal channels: one can replace the other
        ...     _ = torch.nn.init.ones_(weight)
        >>> program = Program.capture(model, torch.zeros(1, 2))
        >>> groups = find_groups(program)
        >>> removed = groups.groups[0].channels[:1]
        >>> sliced = remove_channels(program, groups, removed)
        >>> split = TensorSplit((torch.randn(64, 2),), torch.zeros(64, dtype=torch.long))
        >>> repaired = compensate(program, sliced, groups, removed, split)
        >>> [round(float(p.state_dict()["1.weight"].sum()), 1) for p in (sliced, repaired)]
        [1.0, 2.0]
    """
    repaired = sliced.copy()
    peak = max(1, 2 * program.costs().peak_activation_bytes)
    count = max(2, min(len(samples), _MAX_BYTES // peak))
    inputs = samples.select(torch.linspace(0, len(samples) - 1, count).long()).batches(count)
    with torch.no_grad():
        _Repair(program, repaired, groups, removed, ridge).run(
            *pytree.tree_leaves(next(inputs).inputs), enable_io_processing=False)
    return repaired


@final
class _Repair(SideBySide):
    """Runs the original and the sliced program side by side, repairing the sliced one."""

    def __init__(self, program: Program, repaired: Program, groups: ChannelGroups,
                 removed: Collection[int], ridge: float) -> None:
        super().__init__(program, repaired)
        self._ridge = ridge
        self._groups = groups
        self._removed_flags = groups.removed_flags(removed)
        self._changed: set[Node] = set()  # nodes whose values differ in the sliced program
        self._tensors = stored_tensors(repaired.graph_module)
        self._read_counts = count_reads(repaired.graph_module)

    def before_sliced(self, node: Node, value: Any) -> None:
        """Repair a layer whose input changed, and record that its output changed."""
        if self._is_changed(node):
            self._changed.add(node)
            self._repair(node, self.twins[node], value)

    def _is_changed(self, node: Node) -> bool:
        """Whether a call's input changed, or the call sums over fewer channels."""
        if any(source in self._changed for source in node.all_input_nodes):
            return True
        if node in self._groups.whole_reads:
            return any(self._is_smaller(source) for source in node.all_input_nodes)
        return any(self._is_smaller(found.source, found.dim)
                   for found in self._groups.contractions if found.node is node)

    def _is_smaller(self, source: Node, dim: int | None = None) -> bool:
        before, after = self.env[source], self.sliced.env[self.twins[source]]
        if not isinstance(before, Tensor):
            return False
        return bool(before.shape != after.shape if dim is None
                    else before.shape[dim] != after.shape[dim])

    def _repair(self, node: Node, twin: Node, result: Any) -> None:
        if node.target is ops.BATCH_NORM:
            self._update_statistics(twin)
        elif node.target is ops.LINEAR or (
                node.target in FITTED_CONVOLUTIONS and ops.groups_of(node) == 1):
            weight = self._find_unshared(twin, "weight")
            if weight is not None and weight[0].numel() <= MOST_REGRESSORS:
                self._fit(node, twin, weight, result)

    def _find_unshared(self, twin: Node, name: str) -> Tensor | None:
        """The stored tensor of an argument; None if something else reads it too."""
        source = argument(twin, name)
        tensor = self._tensors.get(str(source.target)) if isinstance(source, Node) else None
        return tensor if tensor is not None and self._read_counts[id(tensor)] == 1 else None

    def _input_of(self, twin: Node) -> Tensor:
        """The input activation of a layer of the sliced program."""
        value: Tensor = self.sliced.env[twin.all_input_nodes[0]]
        return value

    def _update_statistics(self, twin: Node) -> None:
        """Measure a norm's running statistics on its current input."""
        mean, variance = (self._find_unshared(twin, name) for name in _STATISTICS)
        if mean is not None and variance is not None:
            value = self._input_of(twin).transpose(0, 1).flatten(1)
            mean.copy_(value.mean(dim=1))
            variance.copy_(value.var(dim=1))

    def _is_followed_by_updated_norms(self, twin: Node) -> bool:
        """Whether only batch norms whose statistics can be measured again read a layer."""
        return _is_normalized(twin) and all(
            self._find_unshared(user, name) is not None
            for user in twin.users for name in _STATISTICS)

    def _fit(self, node: Node, twin: Node, weight: Tensor, result: Tensor) -> None:
        bias = self._find_unshared(twin, "bias")
        if bias is None and argument(twin, "bias") is not None:
            return  # its bias is shared with other layers
        value, targets = _subsample(node, self._input_of(twin), result)
        labels = self._groups.tensor(str(argument(node, "weight").target))[0]
        if labels is not None:
            kept = torch.from_numpy(~self._removed_flags[labels]).nonzero().reshape(-1)
            targets = targets.index_select(-1 if node.target is ops.LINEAR else 1, kept)
        moments = Moments(weight[0].numel(), len(weight))
        chunks = (torch.split(t, _samples_per_chunk(node)) for t in (value, targets))
        for chunk in zip(*chunks, strict=True):
            x, y = flatten_observations(twin, weight, *chunk)
            moments.add(x.double(), y.double())
        sliced = weight.flatten(1).T.double()
        fitted, offset = moments.solve(sliced, self._ridge,
                                       centered=bias is not None or _is_normalized(node))
        if self._is_followed_by_updated_norms(twin):
            fitted = _rescale_to_prior_norm(sliced, fitted)
        weight.copy_(fitted.T.reshape(weight.shape))
        if bias is not None:
            bias.copy_(offset)


def _rescale_to_prior_norm(prior: Tensor, weights: Tensor) -> Tensor:
    """Rescale the columns of (regressors, targets) weights to their prior norms, except zeros."""
    before, after = prior.norm(dim=0), weights.norm(dim=0)
    return weights * torch.where((before > 0) & (after > 0), before / after, 1.0)


def _is_normalized(node: Node) -> bool:
    """Whether only batch norms, which remove the mean, read a node."""
    return all(user.target is ops.BATCH_NORM for user in node.users)


def _samples_per_chunk(node: Node) -> int:
    return max(1, _CHUNK_ROWS // count_positions(node))


def _subsample(node: Node, value: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Evenly spaced samples, as many as needed for enough observations."""
    step = max(1, len(value) * count_positions(node) // _MAX_ROWS)
    return value[::step], targets[::step]
