"""One step of a recurrent layer; the same channels are removed from all its gates."""

from __future__ import annotations

from typing import Any, Final

from torch.fx import Node

from edgewright.channels._axes import Dim, match, pin, reshape, size_of
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator
from edgewright.graph import argument, ops


def _cell(tracker: LabelTracker, node: Node) -> Labels:
    """Weights (gates x hidden, input) and (gates x hidden, hidden); an LSTM has two states."""
    source, state, weight, recurrent, *biases = (argument(node, name) for name in (
        "input", "hx", "w_ih", "w_hh", "b_ih", "b_hh"))
    states: Any = state if isinstance(state, list | tuple) else [state]
    hidden = _gates(tracker, node, weight, recurrent)
    for parameter in (recurrent, *(bias for bias in biases if bias is not None)):
        match(tracker.couplings, tracker.dims(weight)[0], tracker.dims(parameter)[0],
              f"{node.name} adds gates")
    _read(tracker, node, source, weight)
    _read(tracker, node, states[0], recurrent)
    for value in states:
        match(tracker.couplings, tracker.dims(value)[-1], hidden, f"{node.name} keeps a state")
    lead = tracker.dims(states[0])[:-1]
    count = len(states)
    return (*lead, hidden) if count == 1 else [(*lead, hidden)] * count


def _gates(tracker: LabelTracker, node: Node, weight: Any, recurrent: Any) -> Dim:
    dim, width = tracker.dims(weight)[0], size_of(tracker.dims(recurrent)[1])
    reason = f"{node.name} divides it into gates"
    gates, hidden = reshape(tracker.couplings, (dim,), (size_of(dim) // width, width), reason)
    pin(tracker.couplings, gates, reason)
    return hidden


def _read(tracker: LabelTracker, node: Node, source: Any, weight: Any) -> None:
    dims = tracker.dims(source)
    match(tracker.couplings, dims[-1], tracker.dims(weight)[1], f"{node.name} reads a fixed input")
    tracker.contract(node, source, len(dims) - 1)


OPERATORS: Final = dict.fromkeys(ops.names(ops.RECURRENT_CELLS), Operator(_cell))
