"""Weights that no kernel of integers reads: stored as integers, computed with as real numbers.

A file is as small as its largest tables. Embeddings, recurrent and transposed layers, products
with parameters and weights that are cut or turned before they are used have no kernels of integers
in the runtimes; their numbers can be integers in the file all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, final

from torch import nn
from torch.fx import Node

from edgewright.graph import argument, ops, read_tensor, shape_of
from edgewright.program import Program
from edgewright.quantization.placement._shared_grids import is_output, origin
from edgewright.quantization.placement._units import Unit

_WEIGHTED: Final = (ops.TRANSPOSED_CONVOLUTIONS | ops.VOLUME_CONVOLUTIONS | ops.RECURRENT_LAYERS
                    | {ops.EMBEDDING, ops.BILINEAR})
_LEAST_SAVED: Final = 256  # bytes: what the operators that dequantize take in a file
_LEAST_SHARERS: Final = 8  # numbers that have a scale together, or the scales weigh too much


@final
@dataclass(frozen=True)
class StoredWeight:
    """A weight and what reads it otherwise than as a layer's in a kernel of integers.

    Attributes:
        readers: The calls, in the program's order.
        shape: Of the weight.
        axis: The dimension of the outputs, whose entries get a scale each; None for one in all.
    """

    readers: tuple[Node, ...]
    shape: tuple[int, ...]
    axis: int | None

    @property
    def is_worthwhile(self) -> bool:
        """Whether integers, scales and what turns them back are smaller than the numbers."""
        count = math.prod(self.shape)
        scales = 1 if self.axis is None else self.shape[self.axis]
        return 4 * count - (count + 4 * scales) >= _LEAST_SAVED

    @property
    def is_first_or_last(self) -> bool:
        """Whether it is read with an input of the model, or for an output."""
        return any(is_output(reader) or any(origin(source).op == "placeholder"
                                            for source in reader.all_input_nodes)
                   for reader in self.readers)


def stored_weights(program: Program, units: Iterable[Unit]) -> dict[str, StoredWeight]:
    """Every weight that something else than a layer of ``units`` reads, by name.

    Weights are the parameters of two dimensions and more, and constants that an operator reads as
    its weight.

    Args:
        program: In floating point.
        units: Its layers.
    """
    layers = {(unit.node, unit.weight) for unit in units}
    readers: dict[str, list[tuple[Node, Node]]] = {}
    for node in program.graph.nodes:
        if node.op == "get_attr" and _is_weight(node):
            found = [(node, user) for user in node.users if (user, node) not in layers]
            readers.setdefault(str(node.target), []).extend(found)
    return {name: _stored(pairs) for name, pairs in readers.items() if pairs}


def with_reader(weight: StoredWeight | None, layer: Unit) -> StoredWeight:
    """A weight that a layer reads too, or alone."""
    found = _stored([(layer.weight, layer.node)] if layer.weight is not None else [])
    return found if weight is None else replace(
        found, readers=(*weight.readers, *found.readers))


def _is_weight(node: Node) -> bool:
    tensor = read_tensor(node)
    if tensor is None or tensor.ndim < 2 or not tensor.is_floating_point():
        return False
    return isinstance(tensor, nn.Parameter) or any(
        user.target in _WEIGHTED and not _is_input(user, node) for user in node.users)


def _is_input(user: Node, node: Node) -> bool:
    """Whether a constant is what a layer computes on, not its weight."""
    return user.target is not ops.EMBEDDING and user.args[0] is node


def _stored(pairs: list[tuple[Node, Node]]) -> StoredWeight:
    shape = shape_of(pairs[0][0])
    axis = next((found for node, user in pairs if (found := _output_axis(user, node)) is not None),
                next((dim for dim, size in enumerate(shape) if size > 1), 0))
    sharers = math.prod(shape) // max(shape[axis], 1)
    return StoredWeight(tuple(dict.fromkeys(user for _, user in pairs)), shape,
                        axis if sharers >= _LEAST_SHARERS else None)


def _output_axis(user: Node, weight: Node) -> int | None:
    """Where an operator has the outputs of a weight; None where it says nothing."""
    if user.target in ops.TRANSPOSED_CONVOLUTIONS and argument(user, "weight") is weight:
        return ops.output_dim(user)
    is_product = user.target in ops.MATRIX_PRODUCTS | ops.ADDED_PRODUCTS
    if is_product and ops.factors(user)[1] is weight:
        return len(shape_of(weight)) - 1
    return None
