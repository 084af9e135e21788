"""Residual branches: operands of an addition that can be removed, found in the graph."""

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
    find_live_nodes,
    input_dependencies,
    mutates_in_place,
    ops,
    refresh_shapes,
    shape_of,
    tensor_of,
    tolerance_of,
)
from edgewright.program import Program, auxiliary_tensors, probe_inputs

aten = torch.ops.aten


@final
@dataclass(frozen=True)
class Branch:
    """An operand of an addition, with everything that is computed only for it.

    Attributes:
        name: Its layers, for example ``layer1.0``, or ``blocks.0.{attn,norm1}`` if the block has
            other layers too.
        total: Name of the addition's node.
        operand: Which operand of the addition it is, 0 or 1.
        tensors: Names of the stored tensors that are removed with it, in graph order.
        macs: Multiply-accumulates that are removed with it, for one sample.
    """

    name: str
    total: str
    operand: int
    tensors: tuple[str, ...]
    macs: int


def find_branches(program: Program) -> tuple[Branch, ...]:
    """Find every branch that can be removed, in graph order.

    In an addition of two tensors of the same shape, either operand can be removed if the other
    depends on the program's inputs, every input is still read, and parameters are removed with it.
    So residual branches and projection shortcuts are branches; added biases and position embeddings
    are not. A branch can contain others. If a part of a branch is also read elsewhere (for example
    by an early exit), only the rest is removed with it. If the same tensors can be removed in
    several ways, as in longer sums, the innermost addition is used.

    Example:
        >>> from edgewright.program import Program
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> model = torch.nn.Sequential(Residual(4, 4), torch.nn.Linear(4, 2))
        >>> find_branches(Program.capture(model, torch.zeros(1, 4)))
        (Branch(name='0', total='add', operand=1, tensors=('0.weight', '0.bias'), macs=16),)
    """
    whole = find_live_nodes(program.graph)
    found: dict[tuple[str, ...], Branch] = {}
    for node in program.calls():
        if node in whole and _is_plain_addition(node):
            for branch in _branches_at(program.graph, node, whole):
                found.setdefault(branch.tensors, branch)
    return tuple(found.values())


def remove_branch(program: Program, branch: Branch) -> Program:
    """Remove a branch from a copy of the program, and check the result.

    The result must compute what ``program`` does when the branch's result is set to zero, on
    `probe_inputs`, within a relative error of 1e-4.

    Args:
        program: The program; it is not changed.
        branch: From `find_branches` of the same program.

    Raises:
        UsageError: The branch is not from this program.
        ParityError: The outputs differ; nothing is returned.
    """
    shortened = program.copy()
    graph = shortened.graph
    total = next((node for node in graph.nodes if node.name == branch.total), None)
    if total is None or not _is_plain_addition(total) \
            or branch not in _branches_at(graph, total, find_live_nodes(graph)):
        raise UsageError(f"the program has no branch {branch.name} at {branch.total}; use one "
                         "that find_branches returns for the same program")
    _bypass(shortened.graph_module, total, branch.operand)
    _prove(program, shortened, branch)
    return shortened


def find_branch_calls(program: Program, branch: Branch) -> frozenset[str]:
    """Names of the calls that are computed only for a branch, and of the addition itself.

    Example:
        >>> from edgewright.program import Program
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> model = torch.nn.Sequential(Residual(4, 4), torch.nn.Linear(4, 2))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> sorted(find_branch_calls(program, find_branches(program)[0]))
        ['add', 'linear', 'relu']
    """
    total = next(node for node in program.calls() if node.name == branch.total)
    left = find_live_nodes(program.graph, (total, _node(total.args[1 - branch.operand])))
    gone = find_live_nodes(program.graph) - left
    return frozenset(node.name for node in gone | {total} if node.op == "call_function")


def _branches_at(graph: Graph, total: Node, whole: set[Node]) -> Iterator[Branch]:
    everything, auxiliary = _tensors(whole), auxiliary_tensors(graph)
    for operand in (0, 1):
        if not _is_sound(graph, total, operand):
            continue
        left = find_live_nodes(graph, (total, _node(total.args[1 - operand])))
        if operand == 0 and mutates_in_place(total) and alias_root(total) in left:
            continue  # other calls still read what the addition would have written
        kept = set(_tensors(left))
        tensors = tuple(name for name in everything if name not in kept)
        if not auxiliary.issuperset(tensors):
            macs = sum(count_macs(node) for node in whole - left if node.op == "call_function")
            yield Branch(_name(tensors, everything), total.name, operand, tensors, macs)


def _is_plain_addition(node: Node) -> bool:
    """Whether a call adds two tensors of the same shape and dtype as its result, unscaled."""
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
    """Whether both operands depend on inputs, and every input is still read without this one."""
    dropped, kept = _node(total.args[operand]), _node(total.args[1 - operand])
    end = graph.output_node()
    return (bool(input_dependencies(dropped)) and bool(input_dependencies(kept))
            and input_dependencies(end, (total, kept)) == input_dependencies(end))


def _tensors(nodes: set[Node]) -> tuple[str, ...]:
    """Names of the stored tensors that nodes read, in graph order."""
    read = sorted(node for node in nodes if node.op == "get_attr")
    return tuple(dict.fromkeys(str(node.target) for node in read))


def _name(own: tuple[str, ...], everything: tuple[str, ...]) -> str:
    """Name of the common module of tensors, with its layers if they are not all of them."""
    folders = [name.rpartition(".")[0].replace(".", "/") for name in own]
    shared = posixpath.commonpath(folders).replace("/", ".")
    start = f"{shared}." if shared else ""
    if shared and set(own).issuperset(name for name in everything if name.startswith(start)):
        return shared
    layers = sorted({name.removeprefix(start).partition(".")[0] for name in own})
    return start + (layers[0] if len(layers) == 1 else f"{{{','.join(layers)}}}")


def _bypass(module: GraphModule, total: Node, operand: int) -> None:
    """Replace an addition by its other operand, in place, and remove what is not needed then."""
    graph = module.graph
    kept = _node(total.args[1 - operand])
    left = find_live_nodes(graph, (total, kept))
    gone = find_live_nodes(graph) - left
    with graph.inserting_before(total):
        source = graph.call_function(aten.clone.default, (kept,)) \
            if _is_written_and_shared(graph, total, kept, left) else kept
    total.replace_all_uses_with(source)
    erase_nodes(graph, gone | {total})
    drop_unused_tensors(module)
    module.recompile()
    refresh_shapes(module)


def _is_written_and_shared(graph: Graph, total: Node, kept: Node, left: set[Node]) -> bool:
    """Whether a later in-place call would write through ``kept`` into memory that others read."""
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


class _BranchZeroer(Interpreter):
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
        zeroed = _BranchZeroer(program.graph_module, branch).run(*flat, enable_io_processing=False)
    error = compare_outputs(zeroed, shortened.run(*inputs))
    limit = tolerance_of(program.graph_module)
    if not error <= limit:
        raise ParityError(f"removing the branch {branch.name} changed something else: outputs "
                          f"with the branch zeroed and removed differ by {error:.2e} (relative), "
                          f"at most {limit:g} is allowed; the program was not changed; please "
                          "report the model")
