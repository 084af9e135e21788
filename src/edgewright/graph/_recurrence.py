"""Recurrent layers that are one call: their tensors, by layer and direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch.fx import Node

from edgewright.graph._nodes import argument


@final
@dataclass(frozen=True)
class Direction:
    """The tensors of one direction of one layer, in blocks of ``hidden`` rows, one per gate.

    Attributes:
        input_weight: (gates * hidden, inputs).
        hidden_weight: (gates * hidden, hidden), or (gates * hidden, projection).
        biases: Of both weights, (gates * hidden,) each; empty without.
        projection: (projection, hidden), of an LSTM with ``proj_size``; else None.
    """

    input_weight: Node
    hidden_weight: Node
    biases: tuple[Node, ...]
    projection: Node | None


@final
@dataclass(frozen=True)
class RecurrentLayer:
    """A call of one of `ops.RECURRENT_LAYERS`.

    Attributes:
        source: The sequence: (steps, N, inputs), or (N, steps, inputs) with ``batch_first``.
        states: The initial states, (layers * directions, N, hidden): one, or two of an LSTM.
        directions: Layer by layer: one direction or two each.
        layers: Number of stacked layers.
        batch_first: Whether the batch is the first dimension of the sequence and of the result.
    """

    source: Node
    states: tuple[Node, ...]
    directions: tuple[Direction, ...]
    layers: int
    batch_first: bool

    @property
    def is_projected(self) -> bool:
        """Whether it is an LSTM with ``proj_size``."""
        return self.directions[0].projection is not None

    def directions_of(self, layer: int) -> tuple[Direction, ...]:
        """The directions of one layer."""
        count = len(self.directions) // self.layers
        return self.directions[layer * count:(layer + 1) * count]


def read_recurrent_layer(node: Node) -> RecurrentLayer:
    """Read the tensors of a call of one of `ops.RECURRENT_LAYERS`.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> program = Program.capture(torch.nn.GRU(4, 8, bidirectional=True), torch.zeros(3, 1, 4))
        >>> layer = read_recurrent_layer(next(n for n in program.calls() if n.name == "gru"))
        >>> [str(direction.hidden_weight.target) for direction in layer.directions]
        ['weight_hh_l0', 'weight_hh_l0_reverse']
    """
    state, params = argument(node, "hx"), list(argument(node, "params"))
    layers = int(argument(node, "num_layers"))
    count = layers * (2 if argument(node, "bidirectional") else 1)
    biases = 2 if argument(node, "has_biases") else 0
    size = len(params) // count
    blocks = [params[start:start + size] for start in range(0, len(params), size)]
    return RecurrentLayer(
        source=argument(node, "input"),
        states=tuple(state) if isinstance(state, list | tuple) else (state,),
        directions=tuple(
            Direction(input_weight, hidden_weight, tuple(rest[:biases]),
                      rest[biases] if len(rest) > biases else None)
            for input_weight, hidden_weight, *rest in blocks),
        layers=layers, batch_first=bool(argument(node, "batch_first")))
