"""Residual branches: operands of an addition that can be removed, found in the graph."""

from __future__ import annotations

import difflib
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from torch.fx import Graph, Node

from edgewright.channels._axes import BATCH
from edgewright.errors import UsageError
from edgewright.graph import (
    alias_root,
    argument,
    count_macs,
    find_live_nodes,
    input_dependencies,
    mutates_in_place,
    ops,
    shape_of,
    tensor_of,
)
from edgewright.program import Program, auxiliary_tensors


@final
@dataclass(frozen=True)
class Branch:
    """An operand of an addition, with everything that is computed only for it.

    Attributes:
        name: Its layers, for example ``layer1.0``, or ``blocks.0.{attn,norm1}`` if the block has
            other layers too. Unique among the branches that `find_branches` returns.
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
        >>> import torch
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
        if node in whole and is_plain_addition(node):
            for branch in branches_at(program.graph, node, whole):
                found.setdefault(branch.tensors, branch)
    return tuple(_with_unique_names(list(found.values())))


def resolve_branches(program: Program, names: Sequence[str]) -> tuple[Branch, ...]:
    """The branches with the given names, in that order.

    Raises:
        UsageError: A name is unknown or given twice. All faults are in one message.

    Example:
        >>> import torch
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> model = torch.nn.Sequential(Residual(4, 4), Residual(4, 4), torch.nn.Linear(4, 2))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> [branch.name for branch in resolve_branches(program, ["1"])]
        ['1']
        >>> resolve_branches(program, ["7"])
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: '7' is no branch of this program; it has 0, 1
    """
    known = {branch.name: branch for branch in find_branches(program)}
    faults = [_describe_unknown(name, list(known)) for name in names if name not in known]
    faults += [f"the branch {name!r} is named {count} times"
               for name, count in Counter(names).items() if count > 1]
    if faults:
        raise UsageError("; ".join(faults))
    return tuple(known[name] for name in names)


def find_branch_calls(program: Program, branch: Branch) -> frozenset[str]:
    """Names of the calls that are computed only for a branch, and of the addition itself.

    Example:
        >>> import torch
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
    left = find_nodes_without(program.graph, total, branch.operand) or set()
    gone = find_live_nodes(program.graph) - left
    return frozenset(node.name for node in gone | {total} if node.op == "call_function")


def _describe_unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = (f"did you mean {' or '.join(map(repr, near))}?" if near
            else f"it has {', '.join(known) or 'none'}")
    return f"{name!r} is no branch of this program; {hint}"


def branches_at(graph: Graph, total: Node, whole: set[Node]) -> Iterator[Branch]:
    """The branches at an addition, with names that may not be unique.

    Args:
        graph: The program's graph.
        total: The addition.
        whole: The graph's live nodes.
    """
    everything, auxiliary = _tensors(whole), auxiliary_tensors(graph)
    for operand in (0, 1):
        left = find_nodes_without(graph, total, operand)
        if left is None:
            continue
        kept = set(_tensors(left))
        tensors = tuple(name for name in everything if name not in kept)
        if not auxiliary.issuperset(tensors):
            macs = sum(count_macs(node) for node in whole - left if node.op == "call_function")
            yield Branch(_name(tensors, everything), total.name, operand, tensors, macs)


def find_nodes_without(graph: Graph, total: Node, operand: int) -> set[Node] | None:
    """The live nodes without an addition's operand; None if it cannot be removed."""
    if not _is_sound(graph, total, operand):
        return None
    left = find_live_nodes(graph, (total, as_node(total.args[1 - operand])))
    if operand == 0 and mutates_in_place(total) and alias_root(total) in left:
        return None  # other calls still read what the addition would have written
    return left


def is_plain_addition(node: Node) -> bool:
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
    dropped, kept = as_node(total.args[operand]), as_node(total.args[1 - operand])
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
    return start + _in_braces({name.removeprefix(start).partition(".")[0] for name in own})


def _in_braces(layers: set[str]) -> str:
    return next(iter(layers)) if len(layers) == 1 else f"{{{','.join(sorted(layers))}}}"


def _with_unique_names(branches: list[Branch]) -> Iterator[Branch]:
    """Branches whose names differ: all their layers in full, numbered, where names were equal."""
    counts, taken = Counter(branch.name for branch in branches), Counter[str]()
    for branch in branches:
        name = branch.name if counts[branch.name] == 1 else _in_braces(
            {tensor.rpartition(".")[0] or tensor for tensor in branch.tensors})
        taken[name] += 1
        yield replace(branch, name=name if taken[name] == 1 else f"{name} ({taken[name]})")


def as_node(value: Any) -> Node:
    """An operand of an addition of two tensors, which is a node."""
    assert isinstance(value, Node)  # noqa: S101  (a tensor)
    return value
