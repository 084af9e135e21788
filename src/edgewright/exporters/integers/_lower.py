"""Translate a quantized program into a network that computes with integers alone.

A program computes in floating point between a dequantization and the next quantization. What lies
between the two is one step of the network; a shape that is changed on the way is no step at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, final

from torch import Tensor
from torch.fx import Node

from edgewright.core import ExitRule
from edgewright.errors import ModelError, UsageError
from edgewright.exporters.integers._averages import average, bound_of_average, take_maximum
from edgewright.exporters.integers._elementwise import (
    bound_of_pair,
    bound_of_table,
    combine,
    find_source,
    look_up,
    requantize,
)
from edgewright.exporters.integers._layers import bound_of_layer, convolve
from edgewright.exporters.integers._moves import MOVES, concatenate, move
from edgewright.exporters.integers._values import (
    Grid,
    Lowering,
    NetworkBuilder,
    Stored,
    channels_last,
    natural,
    refuse,
)
from edgewright.graph import argument, ops, shape_of
from edgewright.integers import ExitTest, IntegerNetwork, Port
from edgewright.program import Program, check_fixed_sizes, output_names, outputs_of

Translation: TypeAlias = Callable[[Lowering, Node, Grid], Stored]


def to_integer_network(program: Program, rules: Sequence[ExitRule] = ()) -> IntegerNetwork:
    """Translate a program that was quantized with static ranges.

    Outputs that the program does not quantize become integers of 32 bits, whose step is a power of
    two.

    Args:
        program: The program.
        rules: When a sample leaves, one per early exit, by the confidence; none to compute the
            outputs of all exits.

    Raises:
        UsageError: The number of rules is not that of the early exits.
        ModelError: The program is not quantized, or an operator is not computed in integers; the
            message names it.
    """
    check_fixed_sizes(program, "networks of integers")
    if not program.is_quantized:
        raise ModelError("the program is not quantized: quantize it first, with static ranges")
    if rules and len(rules) != program.exits:
        raise UsageError(f"given {len(rules)} exit rules for {program.exits} early exits; give one "
                         "for each")
    lowering = _Lowering(program)
    nodes = outputs_of(program)
    grid = Grid.fixed_point(max(map(lowering.bound, nodes))) if rules else None
    outputs = []
    for name, node in zip(output_names(program), nodes, strict=True):
        value = lowering.output(node, grid)
        outputs.append(Port(name=name, tensor=value.tensor.name, shape=value.shape or (1,),
                            order=value.order or (0,)))
    tests = () if grid is None else tuple(
        None if rule.threshold is None else ExitTest.of(grid.scale, rule.threshold,
                                                        rule.temperature) for rule in rules)
    return lowering.builder.finish(lowering.inputs(), tuple(outputs), tests)


@final
class _Lowering:
    """Stores the values of a program's nodes, each when it is first needed."""

    def __init__(self, program: Program) -> None:
        self.program, self.builder = program, NetworkBuilder()
        self.tensors: Mapping[str, Tensor] = program.state_dict()
        self._stored: dict[Node, Stored] = {}
        self._placeholders: dict[Node, Stored] = {}
        for node in program.calls():
            if node.target is ops.QUANTIZE:
                self._stored[node] = self.store(node.args[0], Grid.of(node))

    def inputs(self) -> tuple[Port, ...]:
        """The network's inputs, in the program's order."""
        ports = []
        for node in self.program.graph.find_nodes(op="placeholder"):
            if node not in self._placeholders:
                raise ModelError(f"the input {node.name!r} is not quantized, or not used; only "
                                 "networks that read integers can be translated")
            value = self._placeholders[node]
            ports.append(Port(name=node.name, tensor=value.tensor.name, shape=value.shape,
                              order=value.order))
        return tuple(ports)

    def output(self, node: Node, grid: Grid | None = None) -> Stored:
        """The stored value of an output, on a grid or on its own."""
        if grid is not None:
            return self.store(node, grid)
        if node.target is ops.DEQUANTIZE:
            return self.dequantized(node)
        return self.store(node, Grid.fixed_point(self.bound(node)))

    def dequantized(self, node: Node) -> Stored:
        """The stored value that a dequantization reads."""
        source: Any = node.args[0]
        value = self._stored.get(source)
        if value is None:
            raise refuse(node, "its integers are not the result of a quantization with a static "
                               "range")
        if not Grid.of(node).is_like(value.tensor):
            raise refuse(node, "it reads integers with another scale than they were stored with, "
                               "as programs for ExecuTorch and LiteRT do; quantize for "
                               "target='c' or 'onnxruntime'")
        return value

    def store(self, node: Any, grid: Grid) -> Stored:
        """Store what a node computes on a grid."""
        if not isinstance(node, Node):
            raise ModelError(f"{node!r} is quantized, which is not a tensor")
        while node.target in ops.CLAMPS | ops.DROPOUTS | ops.COPIES and not _is_table(node):
            if node.target in ops.CLAMPS:
                grid = grid.clamp(*_limits_of(node))
            node = node.all_input_nodes[0]
        if node.op == "placeholder":
            return self._input(node, grid)
        if node.target is ops.DEQUANTIZE:
            return requantize(self.builder, self.dequantized(node), grid)
        source = find_source(node)
        if source is not None:
            return look_up(self.builder, self.dequantized(source), node, source, grid)
        for targets, translate in _TRANSLATIONS:
            if ops.names([node.target]) <= targets:
                return translate(self, node, grid)
        raise refuse(node, "there is no kernel for it")

    def operand(self, node: Any, reader: Node) -> Stored:
        """The stored value that a step reads.

        Raises:
            ModelError: It is not quantized.
        """
        moved = node
        while isinstance(moved, Node) and moved.target in ops.DROPOUTS | ops.COPIES:
            moved = moved.args[0]
        if isinstance(moved, Node) and moved.target is ops.DEQUANTIZE:
            return self.dequantized(moved)
        if isinstance(moved, Node) and moved.target in MOVES:
            source: Any = moved
            while isinstance(source, Node) and source.target in MOVES | ops.DROPOUTS | ops.COPIES:
                source = source.args[0]
            if isinstance(source, Node) and source.target is ops.DEQUANTIZE:
                return self.store(moved, Grid.of(source))
        name = getattr(node, "name", node)
        raise refuse(reader, f"its operand {name} is not quantized; quantize all of its operands "
                             "(target='c' does, unless layers says otherwise)")

    def bound(self, node: Node) -> float:
        """The largest magnitude that an output may have."""
        source = find_source(node)
        if source is not None and source is not node:
            return bound_of_table(self.dequantized(source), node, source)
        if node.target in ops.CLAMPS | ops.DROPOUTS | ops.COPIES | MOVES:
            return self.bound(node.args[0])  # type: ignore[arg-type]
        if node.target is ops.DEQUANTIZE:
            grid = Grid.of(node)
            return grid.scale * max(grid.high - grid.zero_point, grid.zero_point - grid.low)
        for targets, find_bound in _BOUNDS:
            if ops.names([node.target]) <= targets:
                return find_bound(self, node)
        raise refuse(node, "it is an output that is not quantized")

    def _input(self, node: Node, grid: Grid) -> Stored:
        known = self._placeholders.get(node)
        if known is None:
            shape = shape_of(node)[1:]
            order = channels_last(shape) if len(shape) == 3 else natural(shape)
            known = self._placeholders[node] = self.builder.tensor(grid, shape, order)
        if not grid.is_like(known.tensor):
            raise refuse(node, "this input is quantized with two different ranges")
        return known


def _is_table(node: Node) -> bool:
    """Whether a clamp is part of another element-wise function, which one table computes."""
    source = find_source(node)
    while source is not None and node.target in ops.CLAMPS:
        node = node.all_input_nodes[0]
    return source is not None and node is not source


_LAYERS: Final = ops.names(ops.INTEGER_CONVOLUTIONS | {ops.LINEAR})
_PAIRS: Final = ops.names(ops.ADDITIONS | ops.MULTIPLICATIONS) | {"sub"}
_AVERAGES: Final = ops.names(ops.AVERAGES)
_MAXIMA: Final = ops.names(ops.PLAIN_MAX_POOLS)
_TRANSLATIONS: Final[tuple[tuple[frozenset[str], Translation], ...]] = (
    (_LAYERS, convolve), (_PAIRS, combine), (_AVERAGES, average), (_MAXIMA, take_maximum),
    (ops.names(MOVES), move), (frozenset({"cat"}), concatenate))
_BOUNDS: Final[tuple[tuple[frozenset[str], Callable[[Lowering, Node], float]], ...]] = (
    (_LAYERS, bound_of_layer), (_PAIRS, bound_of_pair), (_AVERAGES | _MAXIMA, bound_of_average))


def _limits_of(clamp: Node) -> tuple[float | None, float | None]:
    name = ops.names([clamp.target])
    if name == {"relu"}:
        return 0.0, None
    if name == {"relu6"}:
        return 0.0, 6.0
    low, high = ((argument(clamp, "min_val"), argument(clamp, "max_val"))
                 if name == {"hardtanh"} else (argument(clamp, "min"), argument(clamp, "max")))
    return (None if low is None else float(low)), (None if high is None else float(high))
