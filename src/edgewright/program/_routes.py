"""Split a program at its routes into segments, of which only those on the path taken run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.core import Fork, Wiring
from edgewright.errors import ModelError
from edgewright.graph import (
    ancestors,
    concrete_size,
    drop_unused_tensors,
    is_number,
    ops,
    sizes_of,
    tensor_of,
)
from edgewright.program._cuts import find_varying_nodes
from edgewright.program._fixed_sizes import check_fixed_sizes
from edgewright.program._graph_outputs import name_outputs, output_nodes
from edgewright.program._program import Program
from edgewright.program._route_regions import (
    RouteRegion,
    find_regions,
    has_routes,
    outputs_of_route,
)
from edgewright.program._routed_programs import check_no_routes

_PROBE: Final = 7  # any batch size that no other dimension has by chance


@final
@dataclass(frozen=True)
class RoutedSegment:
    """One segment of a routed program.

    Attributes:
        program: Takes and returns the values that the wiring names, flat.
        wiring: How it is connected with the other segments.
    """

    program: Program
    wiring: Wiring


def split_at_routes(program: Program) -> tuple[RoutedSegment, ...]:
    """Split a program that chooses its path into segments; the first is the start.

    A segment ends at a route with the route's index and whatever the branches and the rest read;
    each branch is a segment, or several with a route of its own; another segment goes on from the
    branches' results. The last one on every path returns the program's outputs, by their names.

    Values are passed on by name, with the batch first; what has no batch dimension is computed
    again where it is read. Integers are passed on instead of the numbers dequantized from them.

    Returns:
        The segments; empty for a program without routes.

    Raises:
        ModelError: Inputs have varying sizes, the program has early exits, or a branch that is
            taken per sample computes over all samples of a batch.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> class Choice(torch.nn.Module):
        ...     def forward(self, x):
        ...         return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x * 2, (x,))
        >>> first, *branches = split_at_routes(Program.capture(Choice(), torch.zeros(2, 3)))
        >>> first.wiring.fork.branches, [branch.wiring.gives for branch in branches]
        ((1, 2), [('output_0',), ('output_0',)])
    """
    if not has_routes(program.graph):
        return ()
    check_fixed_sizes(program, "segments of which only the branch taken runs")
    if program.exits:
        check_no_routes(program, "early exits")
    splitter = _Splitter(program)
    inputs = {node for node in program.graph.nodes if node.op == "placeholder"}
    splitter.split(output_nodes(program.graph), name_outputs(program.graph), inputs)
    return splitter.segments()


@final
class _Splitter:
    """The segments of a program so far.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._graph = program.graph
        self._varying = find_varying_nodes(program.graph)
        self._names: dict[Node, str] = {}  # of values that are passed on, if not their node's
        self._reserved = frozenset(name_outputs(program.graph))
        self._parts: list[tuple[Program, Wiring] | None] = []
        self._taken: dict[int, set[Node]] = {}
        self._values = _Values(program)

    def segments(self) -> tuple[RoutedSegment, ...]:
        """All segments, in order."""
        return tuple(RoutedSegment(*part) for part in self._parts if part is not None)

    def split(self, targets: Sequence[Node], gives: Sequence[str], known: Collection[Node],
              inside: RouteRegion | None = None) -> int:
        """Add the segments that compute some values; the number of the first.

        Args:
            targets: The values.
            gives: The names under which they are passed on.
            known: Values that earlier segments pass on.
            inside: The region that has these segments in a branch.
        """
        number = len(self._parts)
        self._parts.append(None)
        for target, name in zip(targets, gives, strict=True):
            if target not in known and list(targets).count(target) == 1 \
                    and self._grid(target) is None:
                self._names[target] = name
        regions = find_regions(self._graph, targets, known)
        if not regions:
            self._emit(number, list(targets), list(gives), known, inside)
            return number
        region = regions[0]
        self._check_nested(region, inside)
        before = self._needed_before(region, known)
        passed = {*known, *filter(self._can_pass, before)}
        results = tuple(map(self._name, region.routes))
        branches = tuple(
            self.split([self._carried(target, route) for target, route
                        in zip(region.results(branch), region.routes, strict=True)],
                       results, passed, region)
            for branch in range(len(region.branches)))
        ready = {*passed, *region.routes}
        rest = [(target, name) for target, name in zip(targets, gives, strict=True)
                if target not in ready or self._name(target) != name]
        after = self.split([target for target, _ in rest], [name for _, name in rest], ready,
                           inside) if rest else None
        fork = Fork(index=self._name(region.index), branches=branches, results=results,
                    after=after, per_sample=region.per_sample)
        later = set().union(*(taken for other, taken in self._taken.items() if other > number))
        later.update(set(targets).difference(target for target, _ in rest))
        given = [node for node in self._graph.nodes
                 if node is region.index or (node in later and node in before - set(known))]
        self._emit(number, given, list(map(self._name, given)), known, inside, fork)
        return number

    def _needed_before(self, region: RouteRegion, known: Collection[Node]) -> set[Node]:
        """What is computed before the branches: the index, and what branches read."""
        inner = set().union(*region.branches)
        read = {source for node in inner for source in node.all_input_nodes} | {
            result for branch in range(len(region.branches)) for result in region.results(branch)}
        return ancestors({region.index, *(read - inner)}, stop=known)

    def _check_nested(self, region: RouteRegion, inside: RouteRegion | None) -> None:
        if inside is not None and inside.per_sample and not region.per_sample:
            raise ModelError(f"{region.routes[0].name} decides once per call, but is in a branch "
                             f"that {inside.routes[0].name} takes per sample; let both decide per "
                             "sample, with an index of shape (N,)")

    def _name(self, node: Node) -> str:
        """The name under which a value is passed on; no other value has it."""
        if node.op == "placeholder":
            return node.name
        unused = f"{node.name}." if node.name in self._reserved else node.name
        return self._names.get(node, unused)

    def _can_pass(self, node: Node) -> bool:
        """Whether a value is passed on from segment to segment, not computed again."""
        value = tensor_of(node)
        return (value is not None and node in self._varying and value.ndim > 0
                and node.target is not ops.DEQUANTIZE and sizes_of(value)[0] is None
                and concrete_size(value.shape[0], _PROBE) == _PROBE)

    def _grid(self, node: Node) -> tuple[Any, ...] | None:
        """The grid of a route that selects integers; None if it selects something else."""
        if node.target is not ops.ROUTE:
            return None
        grids = {output.args[1:] if output.target is ops.DEQUANTIZE else None
                 for output in outputs_of_route(node)}
        return grids.pop() if len(grids) == 1 else None

    def _carried(self, target: Node, route: Node) -> Node:
        """What a branch passes on: the integers of a route that selects integers."""
        return target if self._grid(route) is None else target.all_input_nodes[0]

    def _emit(self, number: int, returned: list[Node], gives: list[str],
              known: Collection[Node], inside: RouteRegion | None, fork: Fork | None = None,
              ) -> None:
        """Make a segment that computes some values from those that earlier segments pass on."""
        needed = ancestors(returned, stop=known)
        if inside is not None and inside.per_sample:
            self._check_per_sample(needed - set(known), inside)
        graph = Graph()
        twins: dict[Node, Node] = {}
        takes: list[Node] = []
        for node in self._graph.nodes:
            if node in known and node in needed:
                takes.append(node)
                twins[node] = self._take(graph, node)
        for node in self._graph.nodes:
            if node in needed and node not in twins:
                twins[node] = graph.node_copy(node, lambda source: twins[source])
        results = tuple(twins[node] for node in returned)
        graph.output(results[0] if len(results) == 1 else results)
        _remove_requantization(graph)
        module = GraphModule(self._program.graph_module, graph)
        drop_unused_tensors(module)
        examples = tuple(self._values.of(node, self._grid(node)) for node in takes)
        self._taken[number] = set(takes)
        self._parts[number] = (
            Program(module, examples),
            Wiring(takes=tuple(map(self._name, takes)), gives=tuple(gives), fork=fork))

    def _take(self, graph: Graph, node: Node) -> Node:
        """A placeholder for a value; dequantized if it is passed on as integers."""
        taken = graph.placeholder(node.name)
        taken.meta["val"] = node.meta["val"]
        grid = self._grid(node)
        if grid is None:
            return taken
        source = outputs_of_route(node)[0]
        taken.meta["val"] = source.all_input_nodes[0].meta["val"]
        return graph.node_copy(source, lambda _: taken)

    def _check_per_sample(self, nodes: Collection[Node], inside: RouteRegion) -> None:
        """Refuse what depends on the other samples of a batch: a branch does not get them all."""
        for node in self._graph.nodes:
            value = tensor_of(node)
            if (node in nodes and value is not None and node in self._varying
                    and node.op == "call_function" and not is_number(node)
                    and None not in sizes_of(value)):
                raise ModelError(f"{node.name} computes over all samples of a batch, in a branch "
                                 f"that {inside.routes[0].name} takes per sample; compute per "
                                 "sample, or before the route")


def _remove_requantization(graph: Graph) -> None:
    """Let a segment that takes integers use them where it would quantize them again."""
    for node in list(graph.nodes):
        source = node.all_input_nodes[0] if node.target is ops.QUANTIZE else None
        if source is not None and source.target is ops.DEQUANTIZE \
                and source.args[1:] == node.args[1:] \
                and source.all_input_nodes[0].op == "placeholder":
            node.replace_all_uses_with(source.all_input_nodes[0])
            graph.erase_node(node)
            if not source.users:
                graph.erase_node(source)


@final
class _Values(Interpreter):
    """The values of a program's nodes for its example inputs.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program.graph_module, garbage_collect_values=False)
        with torch.no_grad():
            self.run(*pytree.tree_leaves(program.example_inputs), enable_io_processing=False)

    def of(self, node: Node, grid: tuple[Any, ...] | None) -> Tensor:
        """A node's value: integers if it has a grid."""
        value: Tensor = self.env[node]
        if grid is not None:
            value = ops.QUANTIZE(value, *grid)
        return value.clone()
