"""Operators that runtimes fuse: a layer or an elementwise operation with its norm and ReLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, final

import torch
from torch.fx import Graph, Node

from edgewright.graph import argument, ops, weight_of
from edgewright.program import foldable_norm
from edgewright.quantization.placement._masks import is_mask_or_score

Kind = Literal["convolution", "linear", "elementwise"]

LAYERS: Final[dict[Any, Kind]] = {
    **dict.fromkeys(ops.INTEGER_CONVOLUTIONS, "convolution"), ops.LINEAR: "linear"}
_ARITHMETIC: Final = ops.ADDITIONS | ops.MULTIPLICATIONS


@final
@dataclass(frozen=True)
class FusedOp:
    """A layer or an operation on two tensors, and the operators fused with it.

    Attributes:
        node: The layer or the operation.
        kind: The kind of the layer or operation.
        norm: The batch norm that folds into the layer, or None.
        tail: The last fused call: the node itself, its norm, or the ReLU after it.
    """

    node: Node
    kind: Kind
    norm: Node | None
    tail: Node

    @property
    def weight(self) -> Node | None:
        """The node of the layer's stored weight; None for elementwise operations."""
        return None if self.kind == "elementwise" else weight_of(self.node)

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The input values, without weights and biases."""
        if self.kind == "elementwise":
            return tuple(dict.fromkeys(self.node.all_input_nodes))
        return (self.node.args[0],)  # type: ignore[return-value]


def find_fused_ops(graph: Graph) -> tuple[FusedOp, ...]:
    """All fused operators of a graph in floating point, in order."""
    return tuple(_unit(node, kind) for node in graph.nodes if (kind := _kind(node)) is not None)


def stored_bias(layer: Node) -> str | None:
    """Name of a layer's stored bias; None if it has no bias, or a computed one."""
    bias = argument(layer, "bias")
    return str(bias.target) if isinstance(bias, Node) and bias.op == "get_attr" else None


def lacks_bias(layer: Node) -> bool:
    """Whether a layer has no bias, neither stored nor computed."""
    return argument(layer, "bias") is None


def _kind(node: Node) -> Kind | None:
    kind = LAYERS.get(node.target)
    if kind is not None:
        weight = argument(node, "weight")
        return kind if isinstance(weight, Node) and weight.op == "get_attr" else None
    is_unit = node.target in _ARITHMETIC and _has_two_tensors(node) and not is_mask_or_score(node)
    return "elementwise" if is_unit else None


def _unit(node: Node, kind: Kind) -> FusedOp:
    norm = foldable_norm(node)
    tail = norm or node
    users = list(tail.users)
    if len(users) == 1 and users[0].target in ops.RECTIFIERS:
        tail = users[0]
    return FusedOp(node, kind, norm, tail)


def _has_two_tensors(node: Node) -> bool:
    return all(isinstance(arg, Node) and arg.op != "get_attr"
               and isinstance(arg.meta["val"], torch.Tensor)
               and arg.meta["val"].is_floating_point() for arg in node.args[:2])
