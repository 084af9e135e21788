"""Residual branches: operands of an addition that can be left out, found on the graph."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.channels._axes import BATCH
from edgewright.errors import ParityError, UsageError
from edgewright.graph import (
    alias_root,
    argument,
    compare_outputs,
    count_macs,
    drop_unused_tensors,
    erase_nodes,
    input_dependencies,
    live_nodes,
    mutates_in_place,
    ops,
    refresh_shapes,
    shape_of,
    tensor_of,
    tolerance_of,
)
from edgewright.program import Program, bookkeeping, probe_inputs

aten = torch.ops.aten


@final
@dataclass(frozen=True)
class Branch:
    """An operand of an addition, with everything that is computed for it alone.

    Attributes:
        name: Its layers, such as ``layer1.0``, or ``blocks.0.{attn,norm1}`` where the block holds
            other layers too.
        total: Name of the addition's node.
        operand: Which operand of the addition it is, 0 or 1.
        tensors: Names of the stored tensors that go with it, in graph order.
        macs: Multiply-accumulates that go with it, for one sample.
    """

    name: str
    total: str
    operand: int
    tensors: tuple[str, ...]
    macs: int


def find_branches(program: Program) -> tuple[Branch, ...]:
    """Every branch that can be removed, in graph order.

    Of an addition of two tensors of one shape, either operand may go where the other depends on
    the program's inputs, every input is still read without it, and parameters go with it. So a
    residual branch is one, a projection shortcut another; biases and positions that are added are
    not. A branch may hold others. One that is partly read elsewhere (by an early exit, say) takes
    along what nobody else needs. Where the same tensors can go in several ways, as in longer sums,
    the innermost addition counts.

    Example:
        >>> from edgewright.program import Program
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> model = torch.nn.Sequential(Residual(4, 4), torch.nn.Linear(4, 2))
        >>> find_branches(Program.capture(model, torch.zeros(1, 4)))
        (Branch(name='0', total='add', operand=1, tensors=('0.weight', '0.bias'), macs=16),)
    """
    whole = live_nodes(program.graph)
    found: dict[tuple[str, ...], Branch] = {}
    for node in program.calls():
        if node in whole and _adds_equals(node):
            for branch in _branches_at(program.graph, node, whole):
                found.setdefault(branch.tensors, branch)
    return tuple(found.values())


def remove_branch(program: Program, branch: Branch) -> Program:
    """The program without a branch, checked.

    It must compute what ``program`` does when the branch's result is set to zero, on random
    inputs, to a relative error of 1e-4.

    Args:
        program: It is left as it is.
        branch: From `find_branches` of this very program.

    Raises:
        UsageError: The branch is not of this program.
        ParityError: The two differ; the program is not returned.
    """
    shortened = program.copy()
    graph = shortened.graph
    total = next((node for node in graph.nodes if node.name == branch.total), None)
    if total is None or not _adds_equals(total) \
            or branch not in _branches_at(graph, total, live_nodes(graph)):
        raise UsageError(f"the program has no branch {branch.name} at {branch.total}; take one "
                         "that find_branches finds in this very program")
    _bypass(shortened.graph_module, total, branch.operand)
    _prove(program, shortened, branch)
    return shortened


def _branches_at(graph: Graph, total: Node, whole: set[Node]) -> Iterator[Branch]:
    everything, aside = _tensors(whole), bookkeeping(graph)
    for operand in (0, 1):
        if not _is_sound(graph, total, operand):
            continue
        left = live_nodes(graph, (total, _node(total.args[1 - operand])))
        if operand == 0 and mutates_in_place(total) and alias_root(total) in left:
            continue  # others still read what the addition would have written
        kept = set(_tensors(left))
        tensors = tuple(name for name in everything if name not in kept)
        if not aside.issuperset(tensors):
            macs = sum(count_macs(node) for node in whole - left if node.op == "call_function")
            yield Branch(_name(tensors, everything), total.name, operand, tensors, macs)


def _adds_equals(node: Node) -> bool:
    """Whether a call adds two tensors of its result's own shape and type, unscaled."""
    if node.target not in ops.ADDITIONS or argument(node, "alpha") != 1:
        return False
    if len(node.args) != 2 or not all(isinstance(arg, Node) for arg in node.args):
        return False
    result = tensor_of(node)
    for operand in map(tensor_of, node.all_input_nodes):
        if operand is None or result is None or operand.dtype != result.dtype:
            return False
    shapes = {shape_of(value, BATCH) for value in (node, *node.all_input_nodes)}
    return len(shapes) == 1 and len(node.all_input_nodes) == 2


def _is_sound(graph: Graph, total: Node, operand: int) -> bool:
    """Whether both operands vary, and every input is still read without this one."""
    dropped, kept = _node(total.args[operand]), _node(total.args[1 - operand])
    end = graph.output_node()
    return (bool(input_dependencies(dropped)) and bool(input_dependencies(kept))
            and input_dependencies(end, (total, kept)) == input_dependencies(end))


def _tensors(nodes: set[Node]) -> tuple[str, ...]:
    """Names of the stored tensors that nodes read, in graph order."""
    read = sorted(node for node in nodes if node.op == "get_attr")
    return tuple(dict.fromkeys(str(node.target) for node in read))


def _name(own: tuple[str, ...], everything: tuple[str, ...]) -> str:
    """The module that tensors share, and which of its layers they are, where not all."""
    folders = [name.rpartition(".")[0].replace(".", "/") for name in own]
    shared = posixpath.commonpath(folders).replace("/", ".")
    start = f"{shared}." if shared else ""
    if shared and set(own).issuperset(name for name in everything if name.startswith(start)):
        return shared
    layers = sorted({name.removeprefix(start).partition(".")[0] for name in own})
    return start + (layers[0] if len(layers) == 1 else f"{{{','.join(layers)}}}")


def _bypass(module: GraphModule, total: Node, operand: int) -> None:
    """Put the other operand in the place of an addition, and drop what nobody needs then."""
    graph = module.graph
    kept = _node(total.args[1 - operand])
    left = live_nodes(graph, (total, kept))
    gone = live_nodes(graph) - left
    with graph.inserting_before(total):
        source = graph.call_function(aten.clone.default, (kept,)) \
            if _is_written_and_shared(graph, total, kept, left) else kept
    total.replace_all_uses_with(source)
    erase_nodes(graph, gone | {total})
    drop_unused_tensors(module)
    module.recompile()
    refresh_shapes(module)


def _is_written_and_shared(graph: Graph, total: Node, kept: Node, left: set[Node]) -> bool:
    """Whether a later in-place call would write through ``kept`` into what others read."""
    result, memory = alias_root(total), alias_root(kept)
    if result is memory or not any(
            mutates_in_place(node) and node > total and alias_root(node) is result
            for node in graph.nodes):
        return False
    family = {node for node in left if node < total and alias_root(node) is memory}
    readers = {user for node in family for user in node.users} & left
    return memory.op != "call_function" or bool(readers - family - {total})


def _node(value: Any) -> Node:
    assert isinstance(value, Node)  # noqa: S101  (operands of an addition of two tensors)
    return value


class _Zeroed(Interpreter):
    """Runs a program with a branch's result set to zero where it is added."""

    def __init__(self, module: GraphModule, branch: Branch) -> None:
        super().__init__(module)
        self._branch = branch

    def run_node(self, n: Node) -> Any:
        if n.name != self._branch.total:
            return super().run_node(n)
        operands = list(self.fetch_args_kwargs_from_env(n)[0])
        operands[self._branch.operand] = torch.zeros_like(operands[self._branch.operand])
        return n.target(*operands)  # type: ignore[operator]


def _prove(program: Program, shortened: Program, branch: Branch) -> None:
    inputs = probe_inputs(program)
    flat = pytree.tree_leaves(inputs)
    with torch.no_grad():
        zeroed = _Zeroed(program.graph_module, branch).run(*flat, enable_io_processing=False)
    error = compare_outputs(zeroed, shortened.run(*inputs))
    limit = tolerance_of(program.graph_module)
    if not error <= limit:
        raise ParityError(f"removing the branch {branch.name} changed more than it: zeroed and "
                          f"removed outputs differ by {error:.2e} (relative), at most "
                          f"{limit:g} is allowed; the program was left as it was; please "
                          "report the model")
