"""Graphs that are nested in the branches of an ``If``."""

from __future__ import annotations

from itertools import count

import onnx_ir as ir


def all_graphs(graph: ir.Graph) -> list[ir.Graph]:
    """A graph and all graphs nested in it."""
    found = [graph]
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                found += all_graphs(attribute.as_graph())
    return found


def number_values(graph: ir.Graph, kept: tuple[str, ...] = ()) -> None:
    """Name inner values by numbers, as `to_onnx` does, unique across all nested graphs.

    Args:
        graph: The outermost graph; its inputs keep their names.
        kept: Prefixes of the names of initializers that keep theirs.
    """
    numbers = map(str, count())
    for each in all_graphs(graph):
        stored = list(each.initializers.values())
        each.initializers.clear()  # the old names could collide with the numbers
        for value in stored:
            if not kept or not (value.name or "").startswith(kept):
                value.name = next(numbers)
            each.initializers.add(value)
        for node in each:
            node.name = ""
            for value in node.outputs:
                value.name = next(numbers)
                if not value.is_graph_output():
                    value.shape = value.type = None  # the runtime infers them
