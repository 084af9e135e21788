"""Softmaxes that must not be pruned because each of their probabilities has a fixed meaning.

If the probabilities of a softmax over channels weight computed values, as in attention or a
mixture, channels can be removed: the others get their share. They cannot be removed if the
probabilities are summed with fixed numbers (a distance in bins: Li et al. 2020, "Generalized focal
loss", section 3.3) or selected by index, because the network was trained for these numbers and
indices.
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
_FILLED: Final = ops.names(ops.FILLED_LIKE | ops.FILLED_NEW)
_FOLLOWS_FIRST: Final = frozenset({"type_as", "to", "expand_as", "view_as", "reshape_as"})
_SUMMED: Final = "which {} sums with fixed numbers"
_SELECTED: Final = "from which {} selects a part by index"


class Distribution(NamedTuple):
    """The axes of one softmax, and why they are not pruned."""

    axes: list[LabelArray]
    reason: str


class _FixedRead(NamedTuple):
    """A call that may give indices a meaning, along ``dims`` of ``source`` (None: all)."""

    source: Node
    how: str
    dims: tuple[int, ...] | None = None
    is_weighted: bool = True


def find_fixed_distributions(graph: Graph, tensors: Mapping[str, Tensor],
                             dims: Callable[[Node], Dims]) -> Iterator[Distribution]:
    """Find softmaxes along an axis whose indices have a fixed meaning.

    Args:
        graph: The program's graph.
        tensors: Its stored tensors, by name.
        dims: Function from a node to the dimensions of its result.
    """
    numbers = _fixed_numbers(graph, tensors)
    for node in calls(graph):
        for reading in _fixed_reads(node, numbers):
            for softmax, is_weighted in _softmaxes_before(reading.source, numbers):
                along = _along(softmax, dims)
                if (axes_of(along) and (is_weighted or reading.is_weighted)
                        and _is_along(reading, along, dims)):
                    yield Distribution(axes_of(along), f"{softmax.name} makes it a distribution, "
                                                       f"{reading.how.format(node.name)}")


def _along(softmax: Node, dims: Callable[[Node], Dims]) -> Dim:
    known = dims(softmax)
    return known[argument(softmax, "dim") % len(known)] if known else ()


def _is_along(reading: _FixedRead, along: Dim, dims: Callable[[Node], Dims]) -> bool:
    """Whether a call reads along a tracked dimension of the same size as the softmax's."""
    known = dims(reading.source)
    return reading.dims is None or any(
        axes_of(known[dim]) and size_of(known[dim]) == size_of(along) for dim in reading.dims)


def _fixed_reads(node: Node, numbers: set[Node]) -> Iterator[_FixedRead]:
    name, sources = _name(node), _operands(node)
    if name in _PRODUCTS:
        sources = sources[1:] if name in _ADDED else sources
        for source, other in (sources[:2], sources[1::-1]) if len(sources) > 1 else ():
            if other in numbers and source not in numbers:
                yield _FixedRead(source, _SUMMED)
    elif sources and (name in _SUMS or name in _PARTS):
        rank = len(shape_of(sources[0])) if tensor_of(sources[0]) is not None else 0
        given = argument(node, "dim")
        every = range(rank) if given is None or given == [] else given
        places = tuple(dim % rank for dim in (every if not isinstance(every, int) else [every]))
        yield (_FixedRead(sources[0], _SUMMED, places, is_weighted=False) if name in _SUMS
               else _FixedRead(sources[0], _SELECTED, places))


def _softmaxes_before(source: Node, numbers: set[Node]) -> Iterator[tuple[Node, bool]]:
    """Softmaxes whose probabilities reach a node, and whether fixed numbers weight them."""
    pending, seen = [(source, False)], set[Node]()
    while pending:
        node, is_weighted = pending.pop()
        name = _name(node)
        if node in seen or name in _PRODUCTS or name in _SUMS:
            continue
        seen.add(node)
        if name in _SOFTMAXES:
            yield node, is_weighted
            continue
        operands = _operands(node)
        computed = [operand for operand in operands if operand not in numbers]
        if is_pointwise(node.target):
            is_weighted |= len(computed) < len(operands)
            computed = computed if len(computed) == 1 else []  # else weighted by computed values
        pending.extend((operand, is_weighted) for operand in computed)


def _fixed_numbers(graph: Graph, tensors: Mapping[str, Tensor]) -> set[Node]:
    """Nodes with fixed numbers: independent of the input, and not computed from trained weights.

    A trained tensor with a single row counts as fixed numbers: it has one number per index.
    """
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr":
            if _is_number(tensors.get(str(node.target))):
                found.add(node)
        elif node.op == "call_function" and tensor_of(node) is not None:
            name, sources = _name(node), _operands(node)
            sources = sources[:1] if name in _FOLLOWS_FIRST else sources
            if name in _FILLED or all(source in found for source in sources):
                found.add(node)
    return found


def _is_number(tensor: Tensor | None) -> bool:
    if not isinstance(tensor, nn.Parameter) or not tensor.requires_grad:
        return True
    return is_row(tensor.shape)


def is_row(shape: Sequence[int]) -> bool:
    """Whether a tensor has at most one dimension larger than 1."""
    return sum(size > 1 for size in shape) <= 1


def _operands(node: Node) -> list[Node]:
    """The inputs of a node that are tensors or lists of tensors."""
    return [source for source in node.all_input_nodes
            if isinstance(source.meta.get("val"), Tensor | list | tuple)]


def _name(node: Node) -> str:
    return op_name(node) if node.op == "call_function" else ""
