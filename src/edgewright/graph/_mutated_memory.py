"""Which memory a graph writes into, through any operator; derived from the schemas."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, Final, final

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgewright.graph import ops
from edgewright.graph._liveness import PASS_THROUGH
from edgewright.graph._nodes import argument, calls, op_name
from edgewright.graph._shapes import tensor_of
from edgewright.graph._training_mode import is_in_training_mode

aten = torch.ops.aten
_STATISTICS: Final = ("running_mean", "running_var")
_CONVERSIONS: Final = frozenset({"to", "type_as"})  # the result is a copy if the dtype changes


def find_mutated_memory(module: GraphModule) -> dict[Node, Node]:
    """Find the nodes whose own memory is written into, each with the first call that does so.

    A node is a stored tensor, an input, or the call that allocated the memory. A write to a view
    counts for the tensor it views; if strides decide whether an operator copies, it counts as a
    view.
    """
    memory, found = _Memory(module), dict[Node, Node]()
    for call in calls(module.graph):
        for value in memory.mutated_arguments(call):
            for root in memory.roots(value):
                found.setdefault(root, call)
    return found


@final
class _Memory:
    """Memory aliasing of one graph and the regions it calls."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module

    def mutated_arguments(self, call: Node) -> Iterator[Any]:
        """The arguments that a call writes into."""
        if isinstance(call.target, HigherOrderOperator):
            for region, operands in self._regions(call):
                mutated = find_mutated_memory(region)
                yield from (operands[root] for root in mutated if root in operands)
        elif isinstance(call.target, OpOverload) and call.target is not aten.detach_.default:
            for parameter in call.target._schema.arguments:
                if parameter.alias_info is not None and parameter.alias_info.is_write:
                    yield argument(call, parameter.name)
            # the schemas of norms do not declare that they update their statistics
            if call.target in ops.STATISTICS_NORMS and is_in_training_mode(call):
                yield from (argument(call, name) for name in _STATISTICS)

    def roots(self, value: Any) -> set[Node]:
        """The nodes whose own memory a value, or any value in a list, may alias."""
        found, seen, pending = set[Node](), set[Node](), pytree.tree_leaves(value)
        while pending:
            node = pending.pop()
            if not isinstance(node, Node) or node in seen:
                continue
            seen.add(node)
            sources = pytree.tree_leaves(list(self._aliased_by(node)))
            pending.extend(sources)
            if not sources:
                found.add(node)
        return found

    def _aliased_by(self, node: Node) -> Iterator[Any]:
        """The arguments whose memory a node's result may alias."""
        if node.op != "call_function":
            return
        if isinstance(node.target, HigherOrderOperator):
            for region, operands in self._regions(node):
                inside = _Memory(region).roots(region.graph.output_node().args)
                yield from (operands[root] for root in inside if root in operands)
        elif node.target is operator.getitem:
            yield node.args[0]
        elif isinstance(node.target, OpOverload):
            yield from _aliased_by_schema(node, node.target._schema)

    def _regions(self, call: Node) -> Iterator[tuple[GraphModule, dict[Node, Any]]]:
        """The graphs that a call runs, each with the operand for each of its inputs."""
        leaves = pytree.tree_leaves(call.args)
        regions = [(place, found) for place, leaf in enumerate(leaves)
                   if (found := self._graph_at(leaf)) is not None]
        for _, region in regions:
            inputs = [node for node in region.graph.nodes if node.op == "placeholder"]
            yield region, dict(zip(inputs, leaves[regions[-1][0] + 1:], strict=False))

    def _graph_at(self, value: Any) -> GraphModule | None:
        if not isinstance(value, Node) or value.op != "get_attr":
            return None
        found = dict(self._module.named_modules()).get(str(value.target))
        return found if isinstance(found, GraphModule) else None


def _aliased_by_schema(node: Node, schema: torch.FunctionSchema) -> Iterator[Any]:
    if op_name(node) in _CONVERSIONS and not _keeps_type(node):
        return
    returned = {name for result in schema.returns if result.alias_info is not None
                for name in result.alias_info.before_set}
    for parameter in schema.arguments:
        if parameter.alias_info is not None and returned & parameter.alias_info.before_set:
            yield argument(node, parameter.name)
    if not returned and op_name(node) in PASS_THROUGH:
        yield node.args[0]


def _keeps_type(node: Node) -> bool:
    source = node.args[0]
    before, after = (tensor_of(source) if isinstance(source, Node) else None), tensor_of(node)
    return before is None or after is None or before.dtype == after.dtype
