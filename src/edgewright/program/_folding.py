"""Fold batch norm into the convolution or linear layer before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgewright.graph import (
    argument,
    choose_bias_name,
    finalize_graph,
    ops,
    set_argument,
    shape_of,
    stored_tensors,
)

if TYPE_CHECKING:
    from edgewright.program._program import Program

_TENSORS: Final = ("weight", "bias", "running_mean", "running_var")  # of a norm


def fold_batch_norm(program: Program) -> Program:
    """Fold every batch norm into the layer before it, in a copy of the program.

    The result computes the same function in evaluation mode. A batch norm is not folded if other
    calls read the layer's result, if the layer shares its weight, or if the norm has no running
    statistics. A folded layer is frozen if both the layer and the norm were.
    """
    folded = program.copy()
    tensors = stored_tensors(folded.graph_module)
    for node in list(folded.calls()):
        norm = foldable_norm(node)
        if norm is not None:
            _fold(folded.graph_module, norm, tensors)
    finalize_graph(folded.graph_module)
    return folded


def foldable_norm(layer: Node) -> Node | None:
    """The batch norm that can be folded into ``layer``, or None."""
    users = [user for user in layer.users if user.target is ops.BATCH_NORM]
    return users[0] if users and users[0].args[0] is layer and _can_fold(users[0]) else None


def foldable_output_dim(layer: Node, weight: Tensor) -> int | None:
    """Dimension of a layer's weight that a foldable batch norm scales, one factor per index.

    None if the layer has no foldable batch norm, or if the norm has more channels than the
    dimension, as after a grouped transposed convolution.
    """
    norm = foldable_norm(layer)
    dim = ops.output_dim(layer)
    return None if norm is None or weight.shape[dim] != shape_of(norm)[1] else dim


def norm_as_affine(norm: Node, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Scale and offset per channel that a batch norm is equivalent to in evaluation mode."""
    gamma, beta, mean, variance = (argument(norm, name) for name in _TENSORS)

    def read(node: object, default: float) -> Tensor | float:
        return tensors[str(node.target)].detach() if isinstance(node, Node) else default

    running = torch.as_tensor(read(variance, 1.0))
    gain = read(gamma, 1.0) / torch.sqrt(running + float(argument(norm, "eps")))
    return gain, read(beta, 0.0) - read(mean, 0.0) * gain


def expand_per_output(layer: Node, values: Tensor, weight: Tensor) -> Tensor:
    """Reshape one value per output of a layer so that it broadcasts against the layer's weight.

    Args:
        layer: The layer. Its weight is (outputs, ...), or (inputs, outputs / groups, ...) for a
            transposed convolution.
        values: One value per output, (outputs,).
        weight: The layer's weight.
    """
    if not ops.is_transposed(layer):
        return values.reshape(-1, *[1] * (weight.ndim - 1))
    groups = ops.groups_of(layer)
    rows = values.reshape(groups, 1, -1).expand(-1, len(weight) // groups, -1)
    return rows.reshape(len(weight), -1, *[1] * (weight.ndim - 2))


def _can_fold(norm: Node) -> bool:
    layer = norm.args[0]
    if not isinstance(layer, Node) or layer.target not in ops.LAYERS or len(layer.users) != 1:
        return False
    if layer.target is ops.LINEAR and len(shape_of(layer)) != 2:
        return False  # the norm's channels are not the layer's outputs
    tensors = [argument(layer, name) for name in ("weight", "bias")]
    tensors += [argument(norm, name) for name in _TENSORS]
    stored = [arg for arg in tensors if isinstance(arg, Node)]
    return (argument(norm, "running_mean") is not None
            and all(arg.op == "get_attr" for arg in stored)
            and all(len(arg.users) == 1 for arg in stored))


def _fold(module: GraphModule, norm: Node, tensors: dict[str, Tensor]) -> None:
    layer = norm.args[0]
    assert isinstance(layer, Node)  # noqa: S101  (checked by _can_fold)
    weight_name = str(argument(layer, "weight").target)
    weight = tensors[weight_name].detach()
    scale, bias = norm_as_affine(norm, tensors)
    bias_node = argument(layer, "bias")
    bias_name = choose_bias_name(module, weight_name)
    if isinstance(bias_node, Node):
        bias_name = str(bias_node.target)
        bias = bias + tensors[bias_name].detach() * scale
    is_trained = any(tensors[str(node.target)].requires_grad
                     for node in (*layer.all_input_nodes[1:], *norm.all_input_nodes[1:]))
    _store(module, weight_name, weight * expand_per_output(layer, scale, weight), is_trained)
    _store(module, bias_name, bias, is_trained)
    with module.graph.inserting_before(layer):
        new_bias = module.graph.get_attr(bias_name)
    set_argument(layer, "bias", new_bias)
    norm.replace_all_uses_with(layer)
    module.graph.erase_node(norm)


def _store(module: GraphModule, name: str, value: Tensor, is_trained: bool) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=is_trained))
