"""Stored tensors of a graph, and which of them a layer reads as its weight."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter

from torch import Tensor
from torch.fx import GraphModule, Node

from edgewright.graph import ops


def weight_of(node: Node) -> Node | None:
    """The ``get_attr`` node of a layer's weight, also through a dequantization; None without.

    Of a recurrent layer, the weight that multiplies its input.
    """
    source = ops.weight_operand(node)
    if not isinstance(source, Node):
        return None
    while source.op == "call_function" and source.args and isinstance(source.args[0], Node):
        source = source.args[0]
    return source if source.op == "get_attr" else None


def count_reads(module: GraphModule) -> Counter[int]:
    """Count the reads of each stored tensor, by the tensor's ``id``: tied names count together."""
    tensors = stored_tensors(module)
    return Counter(id(tensors[str(node.target)]) for node in module.graph.nodes
                   if node.op == "get_attr" and str(node.target) in tensors
                   for _ in node.users)


def stored_tensors(module: GraphModule) -> dict[str, Tensor]:
    """Every tensor the graph reads, by name."""
    values = {str(node.target): attrgetter(str(node.target))(module)
              for node in module.graph.nodes if node.op == "get_attr"}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
