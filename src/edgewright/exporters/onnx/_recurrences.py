"""ONNX translation of plain recurrent layers, which torch's exporter has only for LSTM and GRU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from onnxscript import opset18

from edgewright.graph import ops

_OPS: Final[Any] = opset18  # typed as script operators, but used for tracing
_STEPS_FIRST: Final = (1, 0, 2)
_DIRECTIONS_LAST: Final = (0, 2, 1, 3)  # from (steps, directions, N, hidden)


def translate_rnn(activation: str) -> Callable[..., tuple[Any, Any]]:
    """The translation of ``aten.rnn_tanh.input`` or ``aten.rnn_relu.input`` with one layer.

    Args:
        activation: ONNX's name of the nonlinearity: "Tanh" or "Relu".
    """
    def translate(source: Any, hx: Any, params: Sequence[Any], has_biases: bool,
                  *settings: Any) -> tuple[Any, Any]:
        *_, bidirectional, batch_first = settings
        size, count = (4 if has_biases else 2), (2 if bidirectional else 1)
        blocks = [params[start:start + size] for start in range(0, len(params), size)]
        weights = [_stack([block[place] for block in blocks]) for place in (0, 1)]
        biases = [_stack([_OPS.Concat(*block[2:], axis=0) for block in blocks])] if has_biases \
            else []
        steps = _OPS.Transpose(source, perm=_STEPS_FIRST) if batch_first else source
        outputs, last = _OPS.RNN(
            steps, *weights, *biases, initial_h=hx, hidden_size=hx.shape[2],
            activations=[activation] * count,
            direction="bidirectional" if bidirectional else "forward")
        outputs = _OPS.Transpose(outputs, perm=_DIRECTIONS_LAST)
        outputs = _OPS.Reshape(outputs, _OPS.Constant(value_ints=[0, 0, -1]))
        return (_OPS.Transpose(outputs, perm=_STEPS_FIRST) if batch_first else outputs), last

    return translate


def _stack(tensors: Sequence[Any]) -> Any:
    """Stack the tensors of all directions."""
    single = [_OPS.Unsqueeze(tensor, _OPS.Constant(value_ints=[0])) for tensor in tensors]
    return single[0] if len(single) == 1 else _OPS.Concat(*single, axis=0)


RECURRENCES: Final[dict[Callable[..., Any], Callable[..., Any]]] = {
    ops.aten.rnn_tanh.input: translate_rnn("Tanh"),
    ops.aten.rnn_relu.input: translate_rnn("Relu"),
}
