"""Which nodes of a graph are still needed, in-place writes minded."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable
from typing import Any, Final

import torch
from torch.fx import Graph, Node

from edgewright.graph._nodes import op_name
from edgewright.graph._shapes import tensor_of

# Operators that may return their input itself without their schema saying so.
PASS_THROUGH: Final = frozenset("""
    dropout feature_dropout alpha_dropout feature_alpha_dropout contiguous to type_as flatten
    reshape reshape_as expand_as view_as
""".split())

Swap = tuple[Node, Node]


def live_nodes(graph: Graph, swap: Swap | None = None) -> set[Node]:
    """The nodes the outputs depend on, and those that write into memory such a node reads.

    Args:
        graph: Any graph.
        swap: (call, source): as if ``call`` did nothing but hand ``source`` on.
    """
    writers = [node for node in graph.nodes if writes(node) and (swap is None or node != swap[0])]
    found: set[Node] = set()
    pending = [graph.output_node()]
    while pending:
        found |= ancestors(pending, swap=swap)
        pending = [node for node in writers if node not in found and memory_of(node) in found]
    return found


def inputs_reached(start: Node, swap: Swap | None = None) -> set[Node]:
    """The graph's inputs whose values, and not only their sizes, ``start`` depends on."""
    return {node for node in ancestors([start], swap=swap, by_value=True)
            if node.op == "placeholder"}


def writes(node: Node) -> bool:
    """Whether a call changes its first argument in place."""
    return isinstance(node.target, torch._ops.OpOverload) and bool(node.target._schema.is_mutable)


def memory_of(node: Node) -> Node:
    """The node whose memory a node's result may lie in; itself for a result of its own."""
    while _may_alias(node) and node.args and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


def erase(graph: Graph, gone: Collection[Node]) -> None:
    """Erase nodes, and the checks that hang on them, users before what they use."""
    doomed = set(gone)
    for node in graph.nodes:
        if _is_loose(node) and not doomed.isdisjoint(node.all_input_nodes):
            doomed.add(node)
    for node in reversed(list(graph.nodes)):
        if node in doomed:
            graph.erase_node(node)


def _is_loose(node: Node) -> bool:
    """Whether nothing reads a call: an assertion about its input."""
    return node.op == "call_function" and not node.users


def ancestors(nodes: Iterable[Node], *, stop: Collection[Node] = (), swap: Swap | None = None,
              by_value: bool = False) -> set[Node]:
    """Nodes and all that they are computed from, stored tensors and inputs included.

    Args:
        nodes: Where to begin; they are among the result.
        stop: What is not looked behind; such a node itself is among the result.
        swap: (call, source): as if ``call`` did nothing but hand ``source`` on.
        by_value: Whether sizes do not count, though they are read off tensors.

    Example:
        >>> graph = Graph()
        >>> x = graph.placeholder("x")
        >>> y = graph.call_function(torch.relu, (x,))
        >>> z = graph.call_function(torch.neg, (y,))
        >>> ancestors([z]) == {x, y, z}, ancestors([z], stop=[y]) == {y, z}
        (True, True)
    """
    found = set(nodes)
    pending = list(found)
    while pending:
        node = pending.pop()
        if node in stop or (by_value and is_size(node)):
            continue
        sources = [swap[1]] if swap is not None and node is swap[0] else node.all_input_nodes
        fresh = [source for source in sources if source not in found]
        found.update(fresh)
        pending.extend(fresh)
    return found


def stored_values(graph: Graph) -> set[Node]:
    """The nodes whose values come from stored tensors alone, and these themselves."""
    found: set[Node] = set()
    for node in graph.nodes:
        sources = node.all_input_nodes
        if node.op == "get_attr" or (node.op == "call_function" and sources
                                     and all(source in found for source in sources)):
            found.add(node)
    return found


def is_size(node: Node) -> bool:
    """Whether a node computes a number, and no tensor."""
    value: Any = node.meta.get("val")
    return tensor_of(node) is None and isinstance(
        value, int | float | torch.SymInt | torch.SymFloat | torch.SymBool)


def _may_alias(node: Node) -> bool:
    if node.op != "call_function":
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is operator.getitem
    returns = node.target._schema.returns
    is_view = bool(returns) and returns[0].alias_info is not None
    return is_view or op_name(node) in PASS_THROUGH
