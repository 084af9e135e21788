"""Constants of a graph: the nodes that do not depend on its inputs, and their values."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgewright.graph import argument, depends_on_mode, ops, tensor_of

aten = torch.ops.aten
# They select, repeat or reorder the elements of their first argument.
_PICKS: Final = frozenset({aten.clone.default, aten.repeat.default, ops.EMBEDDING,
                           aten.index_select.default, aten.index.Tensor, aten.gather.default,
                           aten.flip.default, aten.roll.default})
_PYTHON_OPERATORS: Final = frozenset({operator.getitem, operator.add, operator.sub, operator.mul,
                           operator.neg, operator.floordiv, operator.truediv, operator.mod,
                           operator.eq, operator.ne, operator.lt, operator.le, operator.gt,
                           operator.ge, torch.sym_float, torch.sym_int, torch.sym_not,
                           torch.sym_max, torch.sym_min})


@final
class Constants:
    """The nodes of a graph whose values do not depend on inputs, batch size, mode or randomness.

    In-place operators are taken into account: storage is constant only if every write to it is.

    Args:
        module: The graph and its tensors; neither is changed.
        varying: Nodes whose storage is treated as not constant in any case.
    """

    def __init__(self, module: GraphModule, varying: Iterable[Node] = ()) -> None:
        self._module = module
        self._roots = _storages(module)
        self.writers = _writers(module, self._roots)
        stored = {root for root in self.writers if root.op != "call_function"}
        self._varying = stored | set(varying)
        self.nodes = self._find()

    def stored(self, node: Node) -> dict[str, Tensor]:
        """The stored tensor that a node reads, by name; empty if it reads none."""
        return {str(node.target): self._stored(node)} if self._is_stored(node) else {}

    def roots(self, node: Node) -> frozenset[Node]:
        """The nodes whose storage a node's value may alias."""
        return self._roots[node]

    def values(self) -> dict[Node, Any]:
        """The value of each constant node, computed as in one run of the graph."""
        known: dict[Node, Any] = {}

        def value(node: Node) -> Any:
            return known[node] if node in known else self._stored(node)

        with torch.no_grad():
            for node in self._module.graph.nodes:
                if node in self.nodes:
                    args, kwargs = torch.fx.node.map_arg(
                        (_call_arguments(node), dict(node.kwargs)), value)
                    known[node] = node.target(*args, **kwargs)
        return known

    def _stored(self, node: Node) -> Any:
        return attrgetter(str(node.target))(self._module)

    def _find(self) -> set[Node]:
        """Find the constants; repeat until only constants write to storage that counts as one."""
        while True:
            found: set[Node] = set()
            for node in self._module.graph.nodes:
                if (_is_pure(node) and not self._roots[node] & self._varying
                        and all(arg in found or self._is_stored(arg)
                                for arg in _value_inputs(node))):
                    found.add(node)
            invalidated = {root for root, writers in self.writers.items()
                      if root not in self._varying and not found.issuperset(writers)}
            if not invalidated:
                return found
            self._varying |= invalidated

    def _is_stored(self, node: Node) -> bool:
        return (node.op == "get_attr" and node not in self._varying
                and isinstance(self._stored(node), Tensor))


def find_source_call(node: Node) -> Node:
    """Find the call that computes the elements that ``node`` rearranges, selects or repeats.

    The result is a stored tensor if no call computes them. For ``(w * mask).t()[0]`` it is the
    product, for ``embedding(w, [0, 1])`` the tensor ``w``.
    """
    while node.op == "call_function" and _is_layout(node):
        node = node.all_input_nodes[0]
    return node


def _is_layout(node: Node) -> bool:
    target: Any = node.target
    if target is operator.getitem or target in _PICKS:
        return True
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable:
        return False
    if not node.all_input_nodes:
        return False
    source, value = tensor_of(node.all_input_nodes[0]), tensor_of(node)
    if source is not None and value is not None and source.dtype != value.dtype:
        return False
    return any(returned.alias_info is not None for returned in target._schema.returns)


def _is_pure(node: Node) -> bool:
    """Whether a call is deterministic and computes the same in training and evaluation mode."""
    target: Any = node.target
    if node.op != "call_function":
        return False
    if not isinstance(target, torch._ops.OpOverload):
        return target in _PYTHON_OPERATORS
    return (target.namespace == "aten" and not depends_on_mode(node)
            and torch.Tag.nondeterministic_seeded not in target.tags
            and (target not in ops.FILLED_LIKE or _is_static(node)))


def _is_static(node: Node) -> bool:
    value = tensor_of(node)
    return value is not None and all(isinstance(size, int) for size in value.shape)


def _value_inputs(node: Node) -> list[Node]:
    """The inputs of a call whose values it depends on."""
    if node.target in ops.FILLED_LIKE or node.target in ops.FILLED_NEW:
        return [arg for arg in node.all_input_nodes if arg is not node.args[0]]
    return node.all_input_nodes


def _call_arguments(node: Node) -> tuple[Any, ...]:
    """A call's arguments, with an uninitialized tensor where only dtype and shape matter."""
    if node.target not in ops.FILLED_LIKE and node.target not in ops.FILLED_NEW:
        return node.args
    model = tensor_of(node.args[0]) if isinstance(node.args[0], Node) else None
    if model is None:
        return node.args
    shape = model.shape if node.target in ops.FILLED_LIKE else ()
    return (torch.empty(shape, dtype=model.dtype), *node.args[1:])


def _storages(module: GraphModule) -> dict[Node, frozenset[Node]]:
    """For every node, the nodes whose storage its value may alias; itself if it allocates."""
    roots: dict[Node, frozenset[Node]] = {}
    readers: dict[str, Node] = {}  # several nodes may read one stored tensor
    for node in module.graph.nodes:
        shared = [root for arg in _aliased(node) for root in roots[arg]]
        if node.op == "get_attr":
            shared = [readers.setdefault(str(node.target), node)]
        roots[node] = frozenset(shared or [node])
    return roots


def _aliased(node: Node) -> list[Node]:
    """The arguments that a call may return, as a view or after writing to them."""
    if node.target is operator.getitem:
        return list(node.all_input_nodes)
    target: Any = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return []
    return [arg for arg, schema in _arguments(node) if schema.alias_info is not None]


def _arguments(node: Node) -> Iterator[tuple[Node, Any]]:
    """Every node among a call's arguments, with its entry in the operator's schema."""
    target: Any = node.target
    for schema in target._schema.arguments:
        value = argument(node, schema.name)
        for arg in value if isinstance(value, list | tuple) else (value,):
            if isinstance(arg, Node):
                yield arg, schema


def _writers(module: GraphModule, roots: dict[Node, frozenset[Node]]) -> dict[Node, list[Node]]:
    """For every storage that is written to, the calls that write to it, in order."""
    writers: dict[Node, list[Node]] = {}
    for node in module.graph.nodes:
        target: Any = node.target
        if isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable:
            for arg, schema in _arguments(node):
                if schema.alias_info is not None and schema.alias_info.is_write:
                    for root in roots[arg]:
                        writers.setdefault(root, []).append(node)
    return writers
