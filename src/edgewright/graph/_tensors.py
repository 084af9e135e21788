"""Stored tensors of a graph: which ones there are, and which one a layer reads as its weight."""

from __future__ import annotations

from operator import attrgetter

from torch import Tensor
from torch.fx import GraphModule, Node


def weight_of(node: Node) -> Node | None:
    """The ``get_attr`` node a layer's weight comes from, through dequantisation, or None."""
    if len(node.args) < 2 or not isinstance(node.args[1], Node):
        return None
    source = node.args[1]
    while source.op == "call_function" and source.args and isinstance(source.args[0], Node):
        source = source.args[0]
    return source if source.op == "get_attr" else None


def stored_tensors(module: GraphModule) -> dict[str, Tensor]:
    """Every tensor the graph reads, by name."""
    values = {str(node.target): attrgetter(str(node.target))(module)
              for node in module.graph.nodes if node.op == "get_attr"}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
