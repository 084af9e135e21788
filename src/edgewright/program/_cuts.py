"""Cuts: points with a single live tensor, at which a program can be split."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from edgewright.errors import ModelError
from edgewright.graph import (
    ancestors,
    drop_unused_tensors,
    is_number,
    ops,
    refresh_shapes,
    tensor_of,
)
from edgewright.program._graph_outputs import output_nodes
from edgewright.program._insert import insert_program

if TYPE_CHECKING:
    from edgewright.program._program import Program


def outputs_of(program: Program) -> tuple[Node, ...]:
    """The nodes a program returns, flattened."""
    return output_nodes(program.graph)


def find_cuts(program: Program, *, sizes: bool = True) -> tuple[Node, ...]:
    """Find the calls after which their result is the only live tensor, in order.

    Everything computed later depends on the inputs through that one tensor. Stored tensors, and
    tensors computed from them alone, do not count as live. Outputs are not cuts. A program that
    writes into a part of a tensor (``x[...] = y``) has no cuts.

    Args:
        program: The program; it is not changed.
        sizes: Whether sizes that were read from an earlier tensor count as live. Leave this True to
            find points where the program can be split.
    """
    if _hidden_writes(program.graph):
        return ()  # the graph does not show what they change
    varying = find_varying_nodes(program.graph)
    needed = ancestors(outputs_of(program)) & varying
    order = [node for node in program.graph.nodes if node in needed]
    position = {node: index for index, node in enumerate(order)}
    outputs = set(outputs_of(program))
    last_use = {node: max([position[user] for user in node.users if user in position],
                          default=position[node]) for node in order}
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


def split_at_exits(program: Program,
                   confidence: nn.Module | None = None) -> tuple[Program, ...]:
    """Split a program at its early exits into one program per segment.

    Each segment but the last returns its exit's output, the confidence of that if there is one, and
    the features for the next segment. The
    first takes the program's inputs, every other one the features of its predecessor. In a
    quantized program the features are integers: they are smaller, and the layers that read them can
    compute in integers.

    Args:
        program: A program with or without exits; it is not changed.
        confidence: From an exit's output (N, ...) to how sure it is of each sample, (N,).

    Raises:
        ModelError: The features an exit reads are not the only live tensor at that point.
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
        cut = None if logits is final else _quantized_source(_exit_features(head, trunk, logits))
        returned = [logits] if cut is None else [logits, cut]
        segment = _segment(program, start, returned, inputs, index)
        if cut is not None:
            start, inputs = cut, (segment.run(*inputs)[1],)
            segment = segment if confidence is None else _add_confidence(segment, confidence)
        segments.append(segment)
    return tuple(segments)


def _hidden_writes(graph: Graph) -> list[Node]:
    """In-place calls whose result is not read: they change a tensor through a view."""
    return [node for node in graph.nodes
            if isinstance(node.target, torch._ops.OpOverload) and not node.users
            and node.target._schema.is_mutable]


def find_varying_nodes(graph: Graph) -> set[Node]:
    """Nodes that depend on an input."""
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(arg in found for arg in node.all_input_nodes):
            found.add(node)
    return found


def _exit_features(head: set[Node], trunk: set[Node], logits: Node) -> Node:
    """The only trunk tensor that an exit's head reads."""
    read = {source for node in head for source in node.all_input_nodes
            if source in trunk and source.op != "get_attr"}
    if len(read) != 1:
        names = ", ".join(sorted(node.name for node in read))
        raise ModelError(f"the exit {logits.name} reads several tensors ({names}); "
                         "an exit must be attached at a cut")
    return read.pop()


def _quantized_source(cut: Node) -> Node:
    """The integers that a tensor is dequantized from, or the tensor itself if it is a float."""
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
                                 "an exit must be attached at a cut")
            twins[node] = graph.node_copy(node, lambda source: twins[source])
    results = tuple(twins[node] for node in returned)
    if start is None:
        graph._codegen = _with_outputs(program.graph, _flat(len(results)))
        graph.output((results,) if len(results) == 1 else results)
    else:
        graph.output(results[0] if len(results) == 1 else results)
    module = GraphModule(program.graph_module, graph)
    drop_unused_tensors(module)
    return type(program)(module, inputs)


def _add_confidence(segment: Program, confidence: nn.Module) -> Program:
    """Return a segment that also returns the confidence of its exit, between its two outputs."""
    example = segment.run(*segment.example_inputs)[0]
    output, features = outputs_of(segment)
    module = segment.graph_module
    score = insert_program(module, output, type(segment).capture(confidence, example), "confidence")
    set_outputs(module, (output, score, features))
    module.recompile()
    refresh_shapes(module)
    return segment


def _with_outputs(graph: Graph, example: object) -> torch.fx.graph.CodeGen:
    """A code generator with the graph's input structure and outputs nested as the example."""
    codegen = copy.copy(graph._codegen)
    if isinstance(codegen, torch.fx.graph._PyTreeCodeGen):
        structure = pytree.tree_flatten(example)[1]
        codegen.pytree_info = codegen.pytree_info._replace(out_spec=structure)
    return codegen


def set_outputs(module: GraphModule, results: tuple[Node, ...], example: object = None) -> None:
    """Make a graph return other nodes, in place.

    Args:
        module: The graph.
        results: The nodes, flattened.
        example: A tree of numbers with one leaf per result that shows how they are nested; None
            returns a single node as it is, and several in a flat tuple.
    """
    output = next(node for node in module.graph.nodes if node.op == "output")
    output.args = (results,)
    module.graph._codegen = _with_outputs(
        module.graph, _flat(len(results)) if example is None else example)


def _flat(count: int) -> object:
    return 0 if count == 1 else tuple(range(count))
