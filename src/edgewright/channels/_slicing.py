"""Remove channels from a program, and prove that nothing else changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule

from edgewright.channels._channels import ChannelGroups
from edgewright.channels._proof import masked_error
from edgewright.channels._removal import RemovedChannels, resize_values
from edgewright.channels.operators import resize
from edgewright.errors import ParityError, UsageError
from edgewright.graph import stored_tensors, tolerance_of
from edgewright.program import Program


def remove_channels(program: Program, groups: ChannelGroups, channels: Collection[int]) -> Program:
    """The program without ``channels``, sliced for real and checked.

    Masked (the channels taking no part wherever they are read) and sliced must compute the same
    function on `probe_inputs`, to a relative error of 1e-4 (in float32).

    Args:
        program: The program ``groups`` was found in.
        groups: What has to be sliced together.
        channels: Labels from ``groups.groups``.

    Raises:
        UsageError: A label of no group, or nothing would be left of a tensor.
        ParityError: The two differ; the program is not returned.
    """
    return remove_and_measure(program, groups, channels)[0]


def remove_and_measure(program: Program, groups: ChannelGroups,
                       channels: Collection[int]) -> tuple[Program, float]:
    """As `remove_channels`, with the relative error between masked and sliced."""
    if foreign := set(channels) - set(groups.channels.tolist()):
        raise UsageError(f"{min(foreign)} is no channel that can be removed; take channels from "
                         "the groups that were found in this program")
    removal = RemovedChannels(groups, channels)
    _refuse_empty(program, groups, removal.gone)
    sliced = program.copy(share_tensors=True)
    twins = dict(zip(program.graph.nodes, sliced.graph.nodes, strict=True))
    for node, twin in twins.items():
        if node.op == "call_function":
            resize(node, twin, removal)
    _slice_tensors(program, sliced.graph_module, groups, removal.gone)
    sliced.graph_module.recompile()
    resize_values(twins, removal)
    error, where = masked_error(program, sliced, groups, removal)
    limit = tolerance_of(program.graph_module)
    if not error <= limit:
        raise ParityError(f"slicing changed the function: masked and sliced differ by {error:.2e} "
                          f"(relative) at {where}, at most {limit:g} is allowed; the "
                          "program was left as it was; please report the model")
    return sliced, error


def _refuse_empty(program: Program, groups: ChannelGroups, gone: NDArray[np.bool_]) -> None:
    for name in stored_tensors(program.graph_module):
        for dim, labels in enumerate(groups.tensor(name)):
            if labels is not None and gone[labels].all():
                raise UsageError(f"all {len(labels)} indices of {name}, dimension {dim}, would be "
                                 "removed; keep at least one channel of every group")
    for name, axis in groups.axes():
        if gone[axis].all():
            raise UsageError(f"all {len(axis)} channels that {name} computes would be removed; "
                             "keep at least one channel of every group")


def _slice_tensors(program: Program, module: GraphModule, groups: ChannelGroups,
                   gone: NDArray[np.bool_]) -> None:
    done: dict[int, Tensor] = {}
    for name, tensor in stored_tensors(program.graph_module).items():
        if id(tensor) not in done:
            done[id(tensor)] = _sliced(tensor, groups.tensor(name), gone)
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, done[id(tensor)])


def _sliced(tensor: Tensor, dims: Any, gone: NDArray[np.bool_]) -> Tensor:
    result = tensor.detach()
    for dim, labels in enumerate(dims):
        if labels is not None and gone[labels].any():
            indices = torch.from_numpy(np.flatnonzero(~gone[labels]))
            result = result.index_select(dim, indices)
    result = result.clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(result, requires_grad=tensor.requires_grad)
    return result
