"""Removing residual branches from a program, with a numerical proof that nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.channels._branches import (
    Branch,
    as_node,
    branches_at,
    find_nodes_without,
    is_plain_addition,
)
from edgewright.errors import ParityError, UsageError
from edgewright.graph import (
    alias_root,
    compare_outputs,
    drop_unused_tensors,
    erase_nodes,
    find_live_nodes,
    mutates_in_place,
    refresh_shapes,
    tolerance_of,
)
from edgewright.program import Program, probe_inputs

aten = torch.ops.aten

_LISTED: Final = 3  # names in a message


def remove_branch(program: Program, branch: Branch) -> Program:
    """Remove a branch from a copy of the program, and check the result.

    See `remove_branches`, which removes several with one check.
    """
    return remove_branches(program, (branch,))


def remove_branches(program: Program, branches: Sequence[Branch]) -> Program:
    """Remove branches from a copy of the program, and check the result once.

    The result must compute what ``program`` does when the results of all these branches are set to
    zero, on `probe_inputs`, within a relative error of 1e-4. A branch inside another one that is
    removed before it needs no removal of its own.

    Args:
        program: The program; it is not changed.
        branches: From `find_branches` of the same program, in the order of removal.

    Raises:
        UsageError: A branch is not from this program, both operands of an addition would be
            removed, or the program would no longer read one of its inputs.
        ParityError: The outputs differ; nothing is returned.

    Example:
        >>> from edgewright.channels import find_branches
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> model = torch.nn.Sequential(*(Residual(4, 4) for _ in range(3)), torch.nn.Linear(4, 2))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> first, _, last = find_branches(program)
        >>> [branch.name for branch in find_branches(remove_branches(program, (first, last)))]
        ['1']
    """
    shortened = bypass_branches(program, branches)
    refresh_shapes(shortened.graph_module)
    _prove(program, shortened, branches)
    return shortened


def bypass_branches(program: Program, branches: Sequence[Branch]) -> Program:
    """Remove branches from a copy of the program without checking the result, for measurements.

    See `remove_branches`. The shapes of tensors are not computed again either; they do not change.

    Raises:
        UsageError: As for `remove_branches`.

    Example:
        >>> from edgewright.channels import find_branches
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> program = Program.capture(torch.nn.Sequential(Residual(4, 4), Residual(4, 4)),
        ...                           torch.zeros(1, 4))
        >>> short = bypass_branches(program, find_branches(program)[:1])
        >>> sorted(short.state_dict())
        ['1.bias', '1.weight']
    """
    shortened = program.copy()
    module = shortened.graph_module
    totals = _find_totals(shortened, branches)
    for index, (branch, total) in enumerate(zip(branches, totals, strict=True)):
        others = [other for other, same in zip(branches[:index], totals[:index], strict=True)
                  if same is total]
        if others:
            raise UsageError(f"the branches {others[0].name} and {branch.name} cannot both be "
                             f"removed: they are the operands of one addition, {branch.total}")
        if total in module.graph.nodes:
            _bypass(module.graph, total, branch, branches[:index])
    drop_unused_tensors(module)
    module.recompile()
    return shortened


def _find_totals(program: Program, branches: Sequence[Branch]) -> list[Node]:
    """The addition of every branch; raises for a branch of another program."""
    graph = program.graph
    nodes, whole = {node.name: node for node in graph.nodes}, find_live_nodes(graph)
    totals = []
    for branch in branches:
        total = nodes.get(branch.total)
        if total is None or not is_plain_addition(total) or not any(
                (found.operand, found.tensors, found.macs)
                == (branch.operand, branch.tensors, branch.macs)
                for found in branches_at(graph, total, whole)):
            raise UsageError(f"the program has no branch {branch.name} at {branch.total}; use one "
                             "that find_branches returns for the same program")
        totals.append(total)
    return totals


def _bypass(graph: Graph, total: Node, branch: Branch, removed: Sequence[Branch]) -> None:
    """Replace an addition by its other operand, in place, and erase what is not needed then."""
    left = find_nodes_without(graph, total, branch.operand)
    if left is None:
        raise UsageError(f"the branch {branch.name} cannot be removed after "
                         f"{_list_names(removed)}: the program would no longer read every input; "
                         "keep one of them")
    kept = as_node(total.args[1 - branch.operand])
    gone = find_live_nodes(graph) - left
    source = kept
    if _is_written_and_shared(graph, total, kept, left):
        with graph.inserting_before(total):
            source = graph.call_function(aten.clone.default, (kept,))
        source.meta["val"] = kept.meta["val"]  # until shapes are refreshed
    total.replace_all_uses_with(source)
    erase_nodes(graph, gone | {total})


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


class _BranchZeroer(Interpreter):
    """Runs a program with the results of branches set to zero where they are added."""

    def __init__(self, module: GraphModule, branches: Sequence[Branch]) -> None:
        super().__init__(module)
        self._operands = {branch.total: branch.operand for branch in branches}

    def run_node(self, n: Node) -> Any:
        if n.name not in self._operands:
            return super().run_node(n)
        operand, operands = self._operands[n.name], list(self.fetch_args_kwargs_from_env(n)[0])
        operands[operand] = torch.zeros_like(operands[operand])
        return n.target(*operands)  # type: ignore[operator]


def _prove(program: Program, shortened: Program, branches: Sequence[Branch]) -> None:
    inputs = probe_inputs(program)
    flat = pytree.tree_leaves(inputs)
    with torch.no_grad():
        zeroed = _BranchZeroer(program.graph_module, branches).run(
            *flat, enable_io_processing=False)
    error = compare_outputs(zeroed, shortened.run(*inputs))
    limit = tolerance_of(program.graph_module)
    if not error <= limit:
        raise ParityError(f"removing {_list_names(branches)} changed something else: outputs "
                          f"with the branches zeroed and removed differ by {error:.2e} (relative), "
                          f"at most {limit:g} is allowed; the program was not changed; please "
                          "report the model")


def _list_names(branches: Sequence[Branch]) -> str:
    names = ", ".join(branch.name for branch in branches[:_LISTED])
    more = len(branches) - _LISTED
    return (f"the branch{'es' * (len(branches) > 1)} {names}"
            + (f" and {more} more" if more > 0 else ""))
