"""Recurrent layers and cells; the same channels are removed from all gates and directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from torch.fx import Node

from edgewright.channels._axes import Dim, fixed, flatten, match, pin, reshape, size_of, tracked
from edgewright.channels.operators._fixed import keep_operands
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator
from edgewright.graph import argument, ops, read_recurrent_layer


def _cell(tracker: LabelTracker, node: Node) -> Labels:
    """Weights (gates x hidden, input) and (gates x hidden, hidden); an LSTM has two states."""
    source, state, weight, recurrent, *biases = (argument(node, name) for name in (
        "input", "hx", "w_ih", "w_hh", "b_ih", "b_hh"))
    states: Any = state if isinstance(state, list | tuple) else [state]
    hidden = _gates(tracker, node, weight, recurrent)
    _tie(tracker, node, weight, [recurrent, *(bias for bias in biases if bias is not None)])
    _read(tracker, node, source, weight)
    _read(tracker, node, states[0], recurrent)
    for value in states:
        match(tracker.couplings, tracker.dims(value)[-1], hidden, f"{node.name} keeps a state")
    lead = tracker.dims(states[0])[:-1]
    count = len(states)
    return (*lead, hidden) if count == 1 else [(*lead, hidden)] * count


def _layer(tracker: LabelTracker, node: Node) -> Labels:
    """All steps of a layer: weights as of a cell per direction, states (directions, N, hidden).

    A state is read by every step: by ``w_hh``, whose columns are masked like the initial state.
    """
    layer = read_recurrent_layer(node)
    if layer.is_projected:
        return keep_operands(tracker, node,
                             f"{node.name} is an LSTM with proj_size, which has no slicing rule")
    for value in (layer.source, *layer.states):
        for dim in range(len(tracker.dims(value)) - 1):
            tracker.pin(value, dim, f"{node.name} steps over it")
    hidden = tracker.dims(layer.states[0])[-1]
    for direction in layer.directions:
        weight, recurrent = direction.input_weight, direction.hidden_weight
        hidden = match(tracker.couplings, _gates(tracker, node, weight, recurrent), hidden,
                       f"{node.name} starts from a fixed state")
        _tie(tracker, node, weight, [recurrent, *direction.biases])
        match(tracker.couplings, tracker.dims(recurrent)[1], hidden, f"{node.name} keeps a state")
        _read(tracker, node, layer.source, weight)
        tracker.contract(node, recurrent, 1)
    for value in layer.states:
        match(tracker.couplings, tracker.dims(value)[-1], hidden, f"{node.name} keeps a state")
    last = len(tracker.dims(layer.states[0])) - 1
    tracker.contract(node, layer.states[0], last)
    lead, state = tracker.dims(layer.source)[:-1], tracker.dims(layer.states[0])[:-1]
    outputs = _side_by_side(tracker, hidden, len(layer.directions))
    return [(*lead, outputs), *[(*state, hidden) for _ in layer.states]]


def _gates(tracker: LabelTracker, node: Node, weight: Any, recurrent: Any) -> Dim:
    dim, width = tracker.dims(weight)[0], size_of(tracker.dims(recurrent)[1])
    reason = f"{node.name} divides it into gates"
    gates, hidden = reshape(tracker.couplings, (dim,), (size_of(dim) // width, width), reason)
    pin(tracker.couplings, gates, reason)
    return hidden


def _tie(tracker: LabelTracker, node: Node, weight: Any, others: Sequence[Any]) -> None:
    """The rows of all weights and biases of a direction belong to the same gates."""
    for other in others:
        match(tracker.couplings, tracker.dims(weight)[0], tracker.dims(other)[0],
              f"{node.name} adds gates")


def _read(tracker: LabelTracker, node: Node, source: Any, weight: Any) -> None:
    dims = tracker.dims(source)
    match(tracker.couplings, dims[-1], tracker.dims(weight)[1], f"{node.name} reads a fixed input")
    tracker.contract(node, source, len(dims) - 1)


def _side_by_side(tracker: LabelTracker, hidden: Dim, directions: int) -> Dim:
    """The last dimension of a layer's outputs: one block of the same channels per direction."""
    labels = flatten(tracker.couplings, hidden, "both directions have it")
    if labels is None:
        return fixed(directions * size_of(hidden))
    return tracked(np.concatenate([labels] * directions)) if directions > 1 else hidden


OPERATORS: Final = {
    **dict.fromkeys(ops.names(ops.RECURRENT_CELLS), Operator(_cell)),
    **dict.fromkeys(ops.names(ops.RECURRENT_LAYERS), Operator(_layer)),
}
