"""Reading rows of a table: embeddings and indexing by a tensor."""

from __future__ import annotations

from typing import Any, Final

from torch.fx import Node

from edgewright.channels._axes import BATCH, fixed
from edgewright.channels.operators._elementwise import broadcast
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator
from edgewright.graph import argument, shape_of, tensor_of


def _embedding(tracker: LabelTracker, node: Node) -> Labels:
    weight = argument(node, "weight")
    tracker.pin(weight, 0, "a vocabulary")
    return (*tracker.dims(argument(node, "indices")), tracker.dims(weight)[1])


def _index_select(tracker: LabelTracker, node: Node) -> Labels:
    source = node.args[0]
    dims = list(tracker.dims(source))
    dim = argument(node, "dim") % len(dims)
    tracker.pin(source, dim, f"{node.name} looks up in it")
    dims[dim] = (tracker.dims(argument(node, "index")) or ((),))[0]
    return tuple(dims)


def _index(tracker: LabelTracker, node: Node) -> Labels:
    """x[..., indices, ...]: indexed dimensions are pinned, the others are kept.

    Those of the indices take its place, or come first where what is indexed lies apart.
    """
    source: Any = node.args[0]
    indices = argument(node, "indices")
    places = [dim for dim, index in enumerate(indices) if index is not None]
    for dim in places:
        tracker.pin(source, dim, f"{node.name} looks up in it")
    masks = [index for index in indices if index is not None
             and str(tensor_of(index).dtype) == "torch.bool"]  # type: ignore[union-attr]
    dims, sizes = tracker.dims(source), shape_of(node, BATCH)
    if masks:
        for dim in range(len(dims)):
            tracker.pin(source, dim, f"{node.name} takes what a mask marks")
        return tuple(fixed(size) for size in sizes)
    adjacent = places == list(range(places[0], places[0] + len(places)))
    first = places[0] if adjacent else 0
    looked = broadcast(tracker, (tracker.dims(indices[place]) for place in places),
                       f"{node.name} looks up pairs of it")
    rest = [dim for place, dim in enumerate(dims) if place not in places]
    return (*rest[:first], *looked, *rest[first:])


OPERATORS: Final = {
    "embedding": Operator(_embedding),
    "index_select": Operator(_index_select),
    "index": Operator(_index),
}
