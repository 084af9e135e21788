"""Which calls of a graph belong to which branch of a route."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import final

from torch.fx import Graph, Node

from edgewright.graph import argument, ops, sizes_of, tensor_of


@final
@dataclass(frozen=True)
class RouteRegion:
    """Routes with one index that are taken together, and the calls of each of their branches.

    Attributes:
        routes: The routes, one per result of the branches, in graph order.
        branches: The calls per branch that nothing else needs; with nested routes and theirs.
    """

    routes: tuple[Node, ...]
    branches: tuple[frozenset[Node], ...]

    @property
    def index(self) -> Node:
        """The number of the branch to take."""
        return index_of(self.routes[0])

    @property
    def per_sample(self) -> bool:
        """Whether every sample has its own index; else a call has one."""
        return is_per_sample(self.index)

    def results(self, branch: int) -> list[Node]:
        """What a branch computes, one per route."""
        return [outputs_of_route(route)[branch] for route in self.routes]


def has_routes(graph: Graph) -> bool:
    """Whether a graph chooses its path by the input."""
    return any(node.target is ops.ROUTE for node in graph.nodes)


def is_per_sample(index: Node) -> bool:
    """Whether an index has one entry per sample."""
    value = tensor_of(index)
    return value is not None and value.ndim == 1 and sizes_of(value) == (None,)


def index_of(route: Node) -> Node:
    """The index of a route."""
    return argument(route, "index")  # type: ignore[no-any-return]


def outputs_of_route(route: Node) -> list[Node]:
    """The outputs that a route selects from, one per branch."""
    return list(argument(route, "outputs"))


def find_regions(graph: Graph, targets: Sequence[Node],
                 known: Collection[Node] = ()) -> list[RouteRegion]:
    """The routes that targets depend on, in order, without those inside a branch of another.

    Args:
        graph: The graph.
        targets: What is to be computed.
        known: Nodes that are computed already.
    """
    needed = _walk(targets, known)
    routes = [node for node in graph.nodes
              if node.target is ops.ROUTE and node in needed and node not in known]
    by_index: dict[tuple[Node, int], list[Node]] = {}
    for route in routes:
        key = index_of(route), len(outputs_of_route(route))
        by_index.setdefault(key, []).append(route)
    inner = {node for group in by_index.values()
             for branch in _branches(group, targets, known) for node in branch}
    outer = [route for route in routes if route not in inner]
    return [RouteRegion(tuple(group), _branches(group, targets, known))
            for group in _group(outer, known)]


def _group(routes: Sequence[Node], known: Collection[Node]) -> list[list[Node]]:
    """Routes with the same index, and no other route between the two, in one group."""
    groups: list[list[Node]] = []
    for route in routes:
        sources = _walk(outputs_of_route(route), known)
        last = groups[-1] if groups else None
        if last and index_of(last[0]) is index_of(route) and sources.isdisjoint(
                last) and len(outputs_of_route(last[0])) == len(outputs_of_route(route)):
            last.append(route)
        else:
            groups.append([route])
    return groups


def _branches(group: Sequence[Node], targets: Sequence[Node],
              known: Collection[Node]) -> tuple[frozenset[Node], ...]:
    """The nodes that targets need only through one branch, per branch."""
    cut = set(group)
    base = _walk(targets, known, cut)
    branches = [_walk(outputs, known, cut)
                for outputs in zip(*map(outputs_of_route, group), strict=True)]
    return tuple(
        frozenset(nodes.difference(base, known, *(other for other in branches
                                                  if other is not nodes)))
        for nodes in branches)


def _walk(starts: Iterable[Node], known: Collection[Node] = (),
          cut: Collection[Node] = ()) -> set[Node]:
    """Nodes and everything they are computed from; of the routes in ``cut`` only the index."""
    found = set(starts)
    pending = list(found)
    while pending:
        node = pending.pop()
        if node in known:
            continue
        sources = [index_of(node)] if node in cut else node.all_input_nodes
        fresh = [source for source in sources if source not in found]
        found.update(fresh)
        pending.extend(fresh)
    return found


def sum_longest_path(graph: Graph, targets: Sequence[Node],
                     cost: Callable[[Node], int]) -> int:
    """The largest sum of the calls' costs along any path, with one branch per route.

    Args:
        graph: The graph.
        targets: What is to be computed.
        cost: The cost of a call.
    """
    return _sum_longest(graph, targets, _walk(targets), cost)


def _sum_longest(graph: Graph, targets: Sequence[Node], nodes: set[Node],
                 cost: Callable[[Node], int]) -> int:
    rest, total = set(nodes), 0
    for region in find_regions(graph, targets):
        if not rest.issuperset(region.routes):
            continue
        rest -= set().union(*region.branches)
        total += max(_sum_longest(graph, region.results(number), set(branch), cost)
                     for number, branch in enumerate(region.branches))
    return total + sum(map(cost, rest))


def count_branch_costs(graph: Graph, targets: Sequence[Node],
                       cost: Callable[[Node], int]) -> tuple[tuple[int, ...], ...]:
    """The sum of the calls' costs per branch, along its longest path, of every outer route."""
    return tuple(tuple(_sum_longest(graph, region.results(number), set(branch), cost)
                       for number, branch in enumerate(region.branches))
                 for region in find_regions(graph, targets))
