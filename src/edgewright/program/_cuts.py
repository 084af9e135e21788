"""Cuts: places where one tensor carries all that is still needed. There a program can be split."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from edgewright.errors import ModelError
from edgewright.graph import ancestors, drop_unused_tensors, is_number, ops, tensor_of

if TYPE_CHECKING:
    from edgewright.program._program import Program


def outputs_of(program: Program) -> tuple[Node, ...]:
    """The nodes a program returns, flattened."""
    output = next(node for node in program.graph.nodes if node.op == "output")
    return tuple(leaf for leaf in pytree.tree_leaves(output.args) if isinstance(leaf, Node))


def find_cuts(program: Program, *, sizes: bool = True) -> tuple[Node, ...]:
    """Calls after which their result is the only live tensor, in order, outputs excluded.

    Everything computed later depends on the inputs through that one tensor. Stored tensors and
    what is computed from them alone do not count as live. A program that writes into a part of a
    tensor (``x[...] = y``) has no cuts.

    Args:
        program: It is read only.
        sizes: Whether a size that was read off an earlier tensor counts as live too: a program
            cannot be split there.
    """
    if _hidden_writes(program.graph):
        return ()  # what they change is not to be read off the graph
    varying = _varying(program.graph)
    needed = ancestors(outputs_of(program)) & varying
    order = [node for node in program.graph.nodes if node in needed]
    place = {node: index for index, node in enumerate(order)}
    outputs = set(outputs_of(program))
    last_use = {node: max([place[user] for user in node.users if user in place],
                          default=place[node]) for node in order}
    for node in outputs & needed:
        last_use[node] = len(order)
    cuts = []
    for index, node in enumerate(order[:-1]):
        live = [other for other in order[: index + 1]
                if last_use[other] > index and (sizes or not is_number(other))]
        is_tensor = tensor_of(node) is not None and node.op == "call_function"
        if live == [node] and is_tensor and node not in outputs:
            cuts.append(node)
    return tuple(cuts)


def split_at_exits(program: Program) -> tuple[Program, ...]:
    """One program a segment: each but the last returns its exit's logits and the live tensor.

    The first takes the program's inputs, every other the tensor its predecessor returns. Of a
    quantised program that tensor is handed on in integers: they are fewer bytes, and the layers
    that read them stay in integers too.

    Raises:
        ModelError: The tensor an exit hangs on is not the only one that lives there.
    """
    if program.exits == 0:
        return (program,)
    if hidden := _hidden_writes(program.graph):
        names = ", ".join(node.name for node in hidden)
        raise ModelError(f"the program writes into parts of a tensor ({names}) and cannot be "
                         "split; use torch.where or torch.cat in place of x[...] = y")
    *early, final = outputs_of(program)
    trunk = ancestors([final])
    segments: list[Program] = []
    start: Node | None = None
    inputs = program.example_inputs
    for index, logits in enumerate([*early, final]):
        head = ancestors([logits]) - trunk
        cut = None if logits is final else _in_integers(_attachment(head, trunk, logits))
        returned = [logits] if cut is None else [logits, cut]
        segments.append(_segment(program, start, returned, inputs, index))
        if cut is not None:
            start, inputs = cut, (segments[-1].run(*inputs)[1],)
    return tuple(segments)


def _hidden_writes(graph: Graph) -> list[Node]:
    """In-place calls whose result nobody reads: they change a tensor through a view."""
    return [node for node in graph.nodes
            if isinstance(node.target, torch._ops.OpOverload) and not node.users
            and node.target._schema.is_mutable]


def _varying(graph: Graph) -> set[Node]:
    """Nodes that depend on an input."""
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(arg in found for arg in node.all_input_nodes):
            found.add(node)
    return found


def _attachment(head: set[Node], trunk: set[Node], logits: Node) -> Node:
    """The one trunk tensor an exit's head reads."""
    read = {source for node in head for source in node.all_input_nodes
            if source in trunk and source.op != "get_attr"}
    if len(read) != 1:
        names = ", ".join(sorted(node.name for node in read))
        raise ModelError(f"the exit {logits.name} reads several tensors ({names}); "
                         "an exit must hang on a cut")
    return read.pop()


def _in_integers(cut: Node) -> Node:
    """What a tensor is dequantised from; itself where it is in floating point."""
    if cut.target is not ops.DEQUANTIZE:
        return cut
    source = cut.args[0]
    assert isinstance(source, Node)  # noqa: S101 - the operator's first argument is a tensor
    return source


def _segment(program: Program, start: Node | None, returned: list[Node],
             inputs: tuple[object, ...], index: int) -> Program:
    needed = ancestors(returned, stop=() if start is None else (start,))
    graph = Graph()
    twins: dict[Node, Node] = {}
    if start is not None:
        twins[start] = graph.placeholder("features")
        twins[start].meta["val"] = start.meta["val"]
    for node in program.graph.nodes:
        if node in needed and node not in twins:
            if node.op == "placeholder" and start is not None:
                raise ModelError(f"{node.name} is still read after exit {index}; "
                                 "an exit must hang on a cut")
            twins[node] = graph.node_copy(node, lambda source: twins[source])
    results = tuple(twins[node] for node in returned)
    if start is None:
        graph._codegen = _flat_output(program.graph, len(results))
        graph.output((results,) if len(results) == 1 else results)
    else:
        graph.output(results[0] if len(results) == 1 else results)
    module = GraphModule(program.graph_module, graph)
    drop_unused_tensors(module)
    return type(program)(module, inputs)


def _flat_output(graph: Graph, count: int) -> torch.fx.graph.CodeGen:
    """The graph's own input structure, returning one tensor or a flat tuple of ``count``."""
    codegen = copy.copy(graph._codegen)
    example: Tensor | tuple[int, ...] | int = 0 if count == 1 else tuple(range(count))
    if isinstance(codegen, torch.fx.graph._PyTreeCodeGen):
        structure = pytree.tree_flatten(example)[1]
        codegen.pytree_info = codegen.pytree_info._replace(out_spec=structure)
    return codegen


def set_outputs(module: GraphModule, results: tuple[Node, ...]) -> None:
    """Make a graph return a flat tuple of ``results`` instead of what it returned, in place."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    output.args = (results,)
    module.graph._codegen = _flat_output(module.graph, len(results))
