"""Running a recurrent layer step by step, to see the states that it feeds back to itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
Cell = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]


def run_steps(target: Any, arguments: Sequence[Any],
              read_state: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Compute what a call of one of `ops.RECURRENT_LAYERS` with one layer does.

    Args:
        target: The operator.
        arguments: Its arguments: sequence, initial states, parameters and settings.
        read_state: Called with the hidden state (1, N, hidden) before every step; the product with
            the hidden weight reads what it returns. What a GRU keeps of its state is not affected.

    Returns:
        The outputs of all steps and the last states, in the shapes of the operator.
    """
    source, given, params, has_biases, *_, bidirectional, batch_first = arguments
    states: list[Tensor] = list(given) if isinstance(given, list | tuple) else [given]
    steps = source.transpose(0, 1) if batch_first else source
    size = 4 if has_biases else 2
    outputs, last = [], []
    for direction in range(2 if bidirectional else 1):
        weights = params[direction * size:(direction + 1) * size]
        order = range(len(steps))
        results, state = _run_direction(_CELLS[target], steps, weights,
                                        [value[direction:direction + 1] for value in states],
                                        order[::-1] if direction else order, read_state)
        outputs.append(results)
        last.append(state)
    joined = torch.cat(outputs, -1)
    return (joined.transpose(0, 1) if batch_first else joined,
            *[torch.cat(parts) for parts in zip(*last, strict=True)])


def _run_direction(cell: Cell, steps: Tensor, weights: Sequence[Tensor], state: list[Tensor],
                   order: Sequence[int], read_state: Callable[[Tensor], Tensor],
                   ) -> tuple[Tensor, list[Tensor]]:
    """The outputs (steps, N, hidden) of one direction, and its last states (1, N, hidden)."""
    input_weight, hidden_weight, *biases = weights
    input_bias, hidden_bias = biases or (None, None)
    inputs = F.linear(steps, input_weight, input_bias)
    results: dict[int, Tensor] = {}
    for step in order:
        hidden = F.linear(read_state(state[0]), hidden_weight, hidden_bias)
        state = cell(inputs[step:step + 1], hidden, state)
        results[step] = state[0]
    return torch.cat([results[step] for step in sorted(results)]), state


def _lstm(inputs: Tensor, hidden: Tensor, state: list[Tensor]) -> list[Tensor]:
    entry, forget, new, output = (inputs + hidden).chunk(4, -1)
    memory = forget.sigmoid() * state[1] + entry.sigmoid() * new.tanh()
    return [output.sigmoid() * memory.tanh(), memory]


def _gru(inputs: Tensor, hidden: Tensor, state: list[Tensor]) -> list[Tensor]:
    (reset, keep, new), (reset_state, keep_state, new_state) = (
        values.chunk(3, -1) for values in (inputs, hidden))
    candidate = (new + (reset + reset_state).sigmoid() * new_state).tanh()
    return [candidate + (keep + keep_state).sigmoid() * (state[0] - candidate)]


def _rnn_tanh(inputs: Tensor, hidden: Tensor, state: list[Tensor]) -> list[Tensor]:
    del state
    return [(inputs + hidden).tanh()]


def _rnn_relu(inputs: Tensor, hidden: Tensor, state: list[Tensor]) -> list[Tensor]:
    del state
    return [(inputs + hidden).relu()]


_CELLS: Final[Mapping[Any, Cell]] = {
    aten.lstm.input: _lstm, aten.gru.input: _gru,
    aten.rnn_tanh.input: _rnn_tanh, aten.rnn_relu.input: _rnn_relu}
