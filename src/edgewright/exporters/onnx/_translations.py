"""ONNX translations of quantization operators that replace or complete those of torch's exporter.

A translation takes the operator's arguments; Python values are constants. Later passes over the
whole graph bring the result into the form that the runtime fuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import onnx_ir as ir
from onnxscript import opset18, opset21

from edgewright.graph import ops

_OPS: Final[Any] = opset18  # typed as script operators, but used for tracing
_BLOCKS: Final[Any] = opset21


def _quantize(x: Any, scale: float, zero_point: int, low: int, high: int,
              dtype: ir.DataType) -> Any:
    """Quantize; ONNX saturates at the limits of the type, narrower grids are clamped afterwards."""
    integers = _OPS.QuantizeLinear(x, scale, _integer(zero_point, dtype))
    lowest, highest = (-128, 127) if dtype == ir.DataType.INT8 else (0, 255)
    if (low, high) == (lowest, highest):
        return integers
    return _OPS.Clip(integers, _integer(low, dtype) if low > lowest else None,
                        _integer(high, dtype) if high < highest else None)


def _integer(value: int, dtype: ir.DataType) -> Any:
    return _OPS.Constant(value=ir.tensor(value, dtype=dtype))


def _choose_range(x: Any, *_: Any) -> tuple[Any, Any]:
    _, scale, zero_point = _OPS.DynamicQuantizeLinear(x)
    return scale, zero_point


def _quantize_dynamic(x: Any, scale: Any, zero_point: Any, *_: Any) -> Any:
    return _OPS.QuantizeLinear(x, scale, zero_point)


def _dequantize_dynamic(x: Any, scale: Any, zero_point: Any, *_: Any) -> Any:
    return _OPS.DequantizeLinear(x, scale, zero_point)


def _dequantize_groups(weight: Any, scales: Any, zero_points: Any, *grid: Any) -> Any:
    _, _, dtype, group_size, *_ = grid
    return _BLOCKS.DequantizeLinear(weight, scales, _OPS.Cast(zero_points, to=int(dtype)),
                                    axis=1, block_size=group_size)


TRANSLATIONS: Final[dict[Callable[..., Any], Callable[..., Any]]] = {
    ops.QUANTIZE: _quantize,
    ops.CHOOSE_GRID: _choose_range,
    ops.DYNAMIC_QUANTIZE: _quantize_dynamic,
    ops.DYNAMIC_DEQUANTIZE: _dequantize_dynamic,
    ops.DEQUANTIZE_GROUPS: _dequantize_groups,
}
