"""Removing channels from a program, with a numerical proof that nothing else changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule

from edgewright.channels._channels import ChannelGroups
from edgewright.channels._proof import measure_masked_error
from edgewright.channels._removal import RemovedChannels, resize_values
from edgewright.channels.operators import resize
from edgewright.errors import ParityError, UsageError
from edgewright.graph import stored_tensors, tolerance_of
from edgewright.program import Program


def remove_channels(program: Program, groups: ChannelGroups, channels: Collection[int]) -> Program:
    """Remove channels from a copy of the program by slicing its tensors, and check the result.

    The masked program (in which the channels have no effect wherever they are read) and the sliced
    one must compute the same function on `probe_inputs`, within a relative error of 1e-4 (in
    float32).

    Args:
        program: The program that ``groups`` was found in.
        groups: The program's channel groups.
        channels: Labels from ``groups.groups``.

    Raises:
        UsageError: A label is not in any group, or a tensor would be empty.
        ParityError: The two programs differ; nothing is returned.
    """
    return remove_and_measure(program, groups, channels)[0]


def remove_and_measure(program: Program, groups: ChannelGroups,
                       channels: Collection[int]) -> tuple[Program, float]:
    """Like `remove_channels`, also returning the relative error between masked and sliced."""
    if foreign := set(channels) - set(groups.channels.tolist()):
        raise UsageError(f"{min(foreign)} is not a channel that can be removed; use channels from "
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
    error, where = measure_masked_error(program, sliced, groups, removal)
    limit = tolerance_of(program.graph_module)
    if not error <= limit:
        raise ParityError(f"slicing changed the function: masked and sliced differ by {error:.2e} "
                          f"(relative) at {where}, at most {limit:g} is allowed; the "
                          "program was not changed; please report the model")
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
            done[id(tensor)] = _slice(tensor, groups.tensor(name), gone)
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, done[id(tensor)])


def _slice(tensor: Tensor, dims: Any, gone: NDArray[np.bool_]) -> Tensor:
    result = tensor.detach()
    for dim, labels in enumerate(dims):
        if labels is not None and gone[labels].any():
            indices = torch.from_numpy(np.flatnonzero(~gone[labels]))
            result = result.index_select(dim, indices)
    result = result.clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(result, requires_grad=tensor.requires_grad)
    return result
