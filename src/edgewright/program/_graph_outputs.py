"""The outputs of a graph, flattened: their nodes, names and nesting."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

from edgewright.capture import name_output


def output_nodes(graph: Graph) -> tuple[Node, ...]:
    """The nodes that a graph returns, flattened."""
    output = next(node for node in graph.nodes if node.op == "output")
    return tuple(leaf for leaf in pytree.tree_leaves(output.args) if isinstance(leaf, Node))


def name_outputs(graph: Graph) -> tuple[str, ...]:
    """The name of every output; see `edgewright.program.output_names`."""
    inputs = {node.name for node in graph.nodes if node.op == "placeholder"}
    paths, _ = pytree.tree_flatten_with_path(
        nest_outputs(graph, list(range(len(output_nodes(graph))))))
    names = [name_output(path) for path, _ in paths]
    names = [f"{name}_out" if name in inputs else name for name in names]
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name}_{number}"
                 for number, name in enumerate(names))


def nest_outputs(graph: Graph, leaves: list[Any]) -> Any:
    """The leaves nested as the graph's outputs are."""
    codegen = graph._codegen
    if isinstance(codegen, torch.fx.graph._PyTreeCodeGen):
        structure = codegen.pytree_info.out_spec
        if structure is not None:
            return pytree.tree_unflatten(leaves, structure)
    return leaves[0] if len(leaves) == 1 else tuple(leaves)
