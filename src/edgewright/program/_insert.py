"""Insert the graph of one program behind a tensor of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.fx import GraphModule, Node

from edgewright.program._graph_outputs import output_nodes

if TYPE_CHECKING:
    from edgewright.program._program import Program


def insert_program(module: GraphModule, source: Node, inserted: Program, name: str) -> Node:
    """Insert a program's graph and tensors right after the node that is its input, in place.

    Recompile the module afterwards.

    Args:
        module: The graph to insert into.
        source: The input of the inserted program, one of the graph's nodes.
        inserted: A program with one input and one output.
        name: Its tensors become those of a submodule of this name.

    Returns:
        The node of its output.

    Example:
        >>> import torch
        >>> from edgewright.program import Program, outputs_of, set_outputs
        >>> x = torch.ones(2, 3)
        >>> program = Program.capture(nn.ReLU(), x).copy()
        >>> relu, = outputs_of(program)
        >>> head = insert_program(program.graph_module, relu, Program.capture(nn.Linear(3, 1), x),
        ...                       "head")
        >>> set_outputs(program.graph_module, (relu, head))
        >>> _ = program.graph_module.recompile()
        >>> [tuple(output.shape) for output in program.run(x)], sorted(program.state_dict())
        ([(2, 3), (2, 1)], ['head.bias', 'head.weight'])
    """
    tensors = _copy_tensors(inserted.graph_module)
    if tensors.state_dict():
        module.add_submodule(name, tensors)
    twins = {node: source for node in inserted.graph.nodes if node.op == "placeholder"}
    last = source
    for node in inserted.graph.nodes:
        if node.op not in {"get_attr", "call_function"}:
            continue
        with module.graph.inserting_after(last):
            last = twins[node] = (module.graph.get_attr(f"{name}.{node.target}")
                                  if node.op == "get_attr"
                                  else module.graph.node_copy(node, twins.__getitem__))
    return twins[output_nodes(inserted.graph)[0]]


def _copy_tensors(module: nn.Module) -> nn.Module:
    """A module without code that has the same parameters and buffers under the same names."""
    plain = nn.Module()
    for name, parameter in module.named_parameters(recurse=False):
        plain.register_parameter(name, nn.Parameter(parameter.detach()))
    for name, buffer in module.named_buffers(recurse=False):
        plain.register_buffer(name, buffer)
    for name, child in module.named_children():
        plain.add_module(name, _copy_tensors(child))
    return plain
