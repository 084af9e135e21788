"""Softmaxes whose parts have a meaning each, and so stay: expectations, and shares by their place.

A softmax over channels shares one among them. Where the shares weigh what is computed, as in
attention or a mixture, one that is removed is a share for the others. Where they are summed against
fixed numbers (a distance in bins: Li et al. 2020, "Generalized focal loss", section 3.3) or one is
taken by its place, the numbers and the place are what the network was trained to mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from torch import Tensor, nn
from torch.fx import Graph, Node

from edgewright.channels._axes import Dim, Dims, axes_of, size_of
from edgewright.channels._couplings import LabelArray
from edgewright.graph import argument, calls, is_pointwise, op_name, ops, shape_of, tensor_of

_SOFTMAXES: Final = ops.names(ops.SOFTMAXES)
_SUMS: Final = frozenset({"sum", "mean"})
_ADDED: Final = ops.names(ops.ADDED_PRODUCTS) | {"addmv"}
_PRODUCTS: Final = _ADDED | ops.names(
    ops.MATRIX_PRODUCTS | ops.CONVOLUTIONS
    | {ops.GENERAL_CONVOLUTION, ops.LINEAR, ops.EINSUM, ops.BILINEAR}) | {"mv", "dot"}
_PARTS: Final = frozenset({"select", "slice", "narrow", "split", "split_with_sizes", "chunk",
                           "tensor_split"})
_OF_THE_FIRST: Final = frozenset({"type_as", "to", "expand_as", "view_as", "reshape_as"})
_AGAINST: Final = "which {} sums against fixed numbers"
_TAKEN: Final = "of which {} takes a part by its place"


class Distribution(NamedTuple):
    """The axes of one softmax, and why they stay."""

    axes: list[LabelArray]
    reason: str


class _Reading(NamedTuple):
    """A call that may give places a meaning: along ``dims`` of ``source``, all if left out."""

    source: Node
    how: str
    dims: tuple[int, ...] | None = None
    is_weighed: bool = True


def fixed_distributions(graph: Graph, tensors: Mapping[str, Tensor],
                        dims: Callable[[Node], Dims]) -> Iterator[Distribution]:
    """Softmaxes along an axis whose every index is read for what it stands for.

    Args:
        graph: Of the program.
        tensors: What it stores, by name.
        dims: Dimensions of what a node computes.
    """
    numbers = _numbers(graph, tensors)
    for node in calls(graph):
        for reading in _readings(node, numbers):
            for softmax, is_weighed in _softmaxes_before(reading.source, numbers):
                along = _along(softmax, dims)
                if (axes_of(along) and (is_weighed or reading.is_weighed)
                        and _is_along(reading, along, dims)):
                    yield Distribution(axes_of(along), f"{softmax.name} makes it a distribution, "
                                                       f"{reading.how.format(node.name)}")


def _along(softmax: Node, dims: Callable[[Node], Dims]) -> Dim:
    known = dims(softmax)
    return known[argument(softmax, "dim") % len(known)] if known else ()


def _is_along(reading: _Reading, along: Dim, dims: Callable[[Node], Dims]) -> bool:
    """Whether a reading is along a dimension that is tracked and as long as the softmax's."""
    known = dims(reading.source)
    return reading.dims is None or any(
        axes_of(known[dim]) and size_of(known[dim]) == size_of(along) for dim in reading.dims)


def _readings(node: Node, numbers: set[Node]) -> Iterator[_Reading]:
    name, sources = _plain(node), _operands(node)
    if name in _PRODUCTS:
        sources = sources[1:] if name in _ADDED else sources
        for source, other in (sources[:2], sources[1::-1]) if len(sources) > 1 else ():
            if other in numbers and source not in numbers:
                yield _Reading(source, _AGAINST)
    elif sources and (name in _SUMS or name in _PARTS):
        rank = len(shape_of(sources[0])) if tensor_of(sources[0]) is not None else 0
        given = argument(node, "dim")
        every = range(rank) if given is None or given == [] else given
        places = tuple(dim % rank for dim in (every if not isinstance(every, int) else [every]))
        yield (_Reading(sources[0], _AGAINST, places, is_weighed=False) if name in _SUMS
               else _Reading(sources[0], _TAKEN, places))


def _softmaxes_before(source: Node, numbers: set[Node]) -> Iterator[tuple[Node, bool]]:
    """Softmaxes whose shares reach a node as they are, and whether fixed numbers weigh them."""
    pending, seen = [(source, False)], set[Node]()
    while pending:
        node, is_weighed = pending.pop()
        name = _plain(node)
        if node in seen or name in _PRODUCTS or name in _SUMS:
            continue
        seen.add(node)
        if name in _SOFTMAXES:
            yield node, is_weighed
            continue
        operands = _operands(node)
        computed = [operand for operand in operands if operand not in numbers]
        if is_pointwise(node.target):
            is_weighed |= len(computed) < len(operands)
            computed = computed if len(computed) == 1 else []  # else weighed by what is computed
        pending.extend((operand, is_weighed) for operand in computed)


def _numbers(graph: Graph, tensors: Mapping[str, Tensor]) -> set[Node]:
    """Nodes that are the same whatever the input, and are no layer's that was trained.

    Of what was trained, a single row: it stands for one number an index, and not for features.
    """
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr":
            if _is_number(tensors.get(str(node.target))):
                found.add(node)
        elif node.op == "call_function" and tensor_of(node) is not None:
            name, sources = _plain(node), _operands(node)
            sources = sources[:1] if name in _OF_THE_FIRST else sources
            if (name.endswith("_like") or name.startswith("new_")
                    or all(source in found for source in sources)):
                found.add(node)
    return found


def _is_number(tensor: Tensor | None) -> bool:
    if not isinstance(tensor, nn.Parameter) or not tensor.requires_grad:
        return True
    return is_row(tensor.shape)


def is_row(shape: Sequence[int]) -> bool:
    """Whether a tensor extends along one dimension at most."""
    return sum(size > 1 for size in shape) <= 1


def _operands(node: Node) -> list[Node]:
    """The nodes it takes tensors from."""
    return [source for source in node.all_input_nodes
            if isinstance(source.meta.get("val"), Tensor | list | tuple)]


def _plain(node: Node) -> str:
    return op_name(node) if node.op == "call_function" else ""
