"""Return intermediate features of a program in addition to its outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgewright.capture import CapturedModule, make_trainable
from edgewright.graph import alias_root, mutates_in_place, ops, shape_of
from edgewright.program import Program

aten = torch.ops.aten


def tap_features(program: Program, names: Sequence[str]) -> CapturedModule:
    """Make a trainable module that returns features first, then what each exit returns.

    A program without early exits returns one tuple of the features and its result, whatever that
    is: a tensor, a dict, a tuple.

    Features have the layout of `feature_shape`, whatever their layout in the program, and keep
    their values even if the program overwrites the tensor later.

    Args:
        program: The program; it is not modified.
        names: Names of nodes of its graph that compute features.

    Returns:
        A module in evaluation mode, with its own parameters under the program's names.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 3))
        >>> module = tap_features(Program.capture(model, torch.zeros(1, 4)), ["relu"])
        >>> [tuple(tensor.shape) for tensor in module(torch.zeros(5, 4))]
        [(5, 8), (5, 3)]
    """
    if not names:
        return program.module()
    module = program.copy(share_tensors=True).graph_module
    nodes = {node.name: node for node in module.graph.nodes}
    features = tuple(_tap(module, nodes[name]) for name in names)
    _put_first(module, features, program.exits)
    module.recompile()
    return make_trainable(module, program.exits)


def is_feature(node: Node) -> bool:
    """Whether a node computes a floating-point tensor of two to four dimensions."""
    value = node.meta.get("val")
    return (node.op == "call_function" and isinstance(value, torch.Tensor)
            and value.is_floating_point() and 2 <= value.ndim <= 4)


def feature_shape(node: Node) -> tuple[int, ...]:
    """Shape of a feature for one sample: (1, C), (1, tokens, C) or (1, C, H, W).

    Inputs and outputs of convolutions, batch norms and poolings are (N, C, ...) in the graph, those
    of linear layers and layer norms (N, ..., C).
    """
    shape = shape_of(node)
    order = _feature_permutation(node)
    return shape if order is None else tuple(shape[place] for place in order)


def _put_first(module: GraphModule, features: tuple[Node, ...], exits: int) -> None:
    """Let a graph return a tuple of the features and what each exit returns, in place."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    codegen = copy.copy(module.graph._codegen)
    result: Any = output.args[0]
    if not isinstance(codegen, torch.fx.graph._PyTreeCodeGen):
        output.args = (_join(features, result, exits),)
        return
    if codegen.pytree_info.out_spec is not None:  # the graph itself returns a flat tuple
        result = pytree.tree_unflatten(pytree.tree_leaves(result), codegen.pytree_info.out_spec)
    leaves, structure = pytree.tree_flatten(_join(features, result, exits))
    codegen.pytree_info = codegen.pytree_info._replace(out_spec=structure)
    module.graph._codegen = codegen
    output.args = (tuple(leaves),)


def _join(features: tuple[Node, ...], result: Any, exits: int) -> tuple[Any, ...]:
    return (*features, *(result if exits else (result,)))


def _tap(module: GraphModule, node: Node) -> Node:
    """A node's tensor as a feature: cloned if overwritten later, in the layout of features."""
    graph, memory, source = module.graph, alias_root(node), node
    if any(mutates_in_place(other) and other > node and alias_root(other) is memory
           for other in graph.nodes):
        with graph.inserting_after(node):
            source = graph.call_function(aten.clone.default, (node,))
    order = _feature_permutation(node)
    if order is None:
        return source
    with graph.inserting_after(source):
        return graph.call_function(aten.permute.default, (source, list(order)))


def _feature_permutation(node: Node) -> tuple[int, ...] | None:
    """The permutation to the layout of features; None if the tensor has it already."""
    rank = len(shape_of(node))
    if rank == 3 and _channels_last(node) is False:
        return (0, 2, 1)
    if rank == 4 and _channels_last(node) is True:
        return (0, 3, 1, 2)
    return None


def _channels_last(node: Node) -> bool | None:
    """Whether the nearest layer after a node, or else before it, is channels-last."""
    after = _find_nearest_layout(node, forward=True)
    return _find_nearest_layout(node, forward=False) if after is None else after


def _find_nearest_layout(start: Node, *, forward: bool) -> bool | None:
    shape, seen, pending = shape_of(start), {start}, [start]
    while pending:
        node = pending.pop(0)
        kind = None if forward and node is start else _layer_layout(node)
        if kind is not None:
            return kind
        for other in node.users if forward else node.all_input_nodes:
            same = isinstance(other.meta.get("val"), torch.Tensor) and shape_of(node) == shape
            if same and other not in seen:
                seen.add(other)
                pending.append(other)
    return None


def _layer_layout(node: Node) -> bool | None:
    """Whether a layer is channels-last; None for other nodes."""
    if node.target in ops.CHANNELS_FIRST:
        return False
    return True if node.target in ops.CHANNELS_LAST else None
