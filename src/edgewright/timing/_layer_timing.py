"""Measuring a latency table: each layer alone, on the runtime, at a grid of widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.fx import Node

from edgewright.allocation import LatencyTable, LayerTimes, channel_sizes, find_layers
from edgewright.channels import ChannelGroups, SymbolicShapes
from edgewright.errors import UsageError
from edgewright.graph import argument, ops, shape_of
from edgewright.measure import compare_latency, pin_to_core
from edgewright.program import Program
from edgewright.runtime import OnnxEngine

_POINTS: Final = 4     # widths per dimension to time
_MULTIPLE: Final = 8   # the widths are multiples of this
ROUNDS: Final = 15
WARMUP: Final = 3
_OPSET: Final = 20


@dataclass(frozen=True)
class LayerShape:
    """What a layer's latency depends on, except for its widths.

    Attributes:
        operator: ONNX operator: "Conv", "ConvTranspose" or "MatMul".
        extent: The input's other sizes: height and width of an image, or the number of tokens.
        kernel: Size of the kernel; empty for "MatMul".
        stride: Stride, one per dimension of ``kernel``, like ``padding`` and ``dilation``.
        padding: Padding at each end.
        dilation: Dilation of the kernel.
        group_width: Input channels that one group of a grouped convolution reads; 0 without
            groups.
    """

    operator: str
    extent: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    group_width: int = 0


Timer = Callable[[LayerShape, Sequence[tuple[int, int]]], Sequence[float]]


def measure_layers(program: Program, groups: ChannelGroups, whole_ms: float, *,
                   path: Path | None = None, timer: Timer | None = None) -> LatencyTable:
    """Time every layer of a program alone, in float32 on one thread of ONNX Runtime.

    Each layer is timed at up to 4 x 4 widths of the dimensions that can be pruned; layers of the
    same shape are timed once. A grouped convolution is timed with fewer groups of the same width.
    All times are scaled by one factor, so that they add up to the latency of the whole program:
    operators that are not in the table are assumed to scale like the layers.

    Args:
        program: The original program.
        groups: Its channel groups.
        whole_ms: Measured latency of the whole program.
        path: A file to read the table from if it exists, and to write it to otherwise.
        timer: Milliseconds of a layer for each (inputs, outputs); None for ONNX Runtime.

    Raises:
        StorageError: The file is not a table, or cannot be written.
        UsageError: The file has the table of another program, or there is no layer to time.

    Example:
        >>> from edgewright.channels import find_groups
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Linear(16, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> def by_macs(shape, sizes):
        ...     return [inputs * outputs for inputs, outputs in sizes]
        >>> table = measure_layers(program, find_groups(program), 2.8, timer=by_macs)
        >>> times = table.layers["0.weight"]
        >>> times.inputs, times.outputs, round(times.at(4, 16), 3)
        ((4,), (1, 8, 16), 1.6)
    """
    layers = find_layers(program)
    if not layers:
        raise UsageError("there is no convolution or linear layer to time; choose another target")
    widths = {key: channel_sizes(node, shape_of) for key, node in layers.items()}
    if path is not None and path.exists():
        return _check_widths(LatencyTable.load(path), widths, path).rescale(widths, whole_ms)
    symbolic = SymbolicShapes(groups)
    known: dict[Any, LayerTimes] = {}
    found = {}
    for key, node in layers.items():
        varies = tuple(size.degree > 0 for size in channel_sizes(node, symbolic))
        same = (layer_shape(node), widths[key], varies)
        if same not in known:
            known[same] = _measure_grid(*same, timer or time_on_runtime)
        found[key] = known[same]
    runtime = "" if timer else OnnxEngine(make_layer_model(LayerShape("MatMul", ()), 1, 1)).runtime
    table = LatencyTable(runtime, found).rescale(widths, whole_ms)
    if path is not None:
        table.save(path)
    return table


def _check_widths(table: LatencyTable, widths: dict[str, tuple[int, int]],
                  path: Path) -> LatencyTable:
    stored = {key: (times.inputs[-1], times.outputs[-1] if times.outputs else widths[key][1])
              for key, times in table.layers.items() if key in widths}
    if stored != widths:
        wrong = next(key for key in widths if stored.get(key) != widths[key])
        raise UsageError(f"the latency table in {path} is for another program: it has "
                         f"{stored.get(wrong, 'nothing')} for {wrong}, whose widths are "
                         f"{widths[wrong]}; use another file")
    return table


def _measure_grid(shape: LayerShape, widths: tuple[int, int], varies: tuple[bool, ...],
          timer: Timer) -> LayerTimes:
    unit = shape.group_width or 1
    inputs, outputs = (_choose_widths(width, varying, unit if axis == 0 else 1)
                       for axis, (width, varying) in enumerate(zip(widths, varies, strict=True)))
    if shape.group_width:
        ratio = widths[1] // widths[0] or 1
        times = timer(shape, [(width, width * ratio) for width in inputs])
        return LayerTimes(inputs, (), tuple((time,) for time in times))
    times = timer(shape, [(a, b) for a in inputs for b in outputs])
    rows = np.array(times, dtype=np.float64).reshape(len(inputs), len(outputs))
    return LayerTimes(inputs, outputs, tuple(tuple(row) for row in rows.tolist()))


def _choose_widths(width: int, varies: bool, unit: int) -> tuple[int, ...]:
    """Widths to time: approximately evenly spaced multiples of 8 and ``unit``, up to ``width``."""
    if not varies:
        return (width,)
    step = int(np.lcm(_MULTIPLE, unit))
    rounded = (step * round(width * point / _POINTS / step) for point in range(1, _POINTS))
    inner = {min(max(size, unit), width) for size in rounded}
    return tuple(sorted(inner | {unit, width}))


def layer_shape(node: Node) -> LayerShape:
    """What the latency of a convolution or linear layer depends on, except for its widths."""
    source = shape_of(argument(node, "input"))
    if node.target is ops.LINEAR:
        return LayerShape("MatMul", source[1:-1])
    weight, groups = shape_of(argument(node, "weight")), ops.groups_of(node)
    rank = len(weight) - 2
    stride, dilation = (_per_dimension(argument(node, name), rank)
                        for name in ("stride", "dilation"))
    padding = _padding(argument(node, "padding"), weight[2:], dilation)
    return LayerShape("ConvTranspose" if ops.is_transposed(node) else "Conv", source[2:],
                      weight[2:], stride, padding, dilation,
                      source[1] // groups if groups > 1 else 0)


def _per_dimension(value: Any, rank: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _padding(value: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    if value == "same":
        return tuple(step * (size - 1) // 2 for size, step in zip(kernel, dilation, strict=True))
    return _per_dimension(0 if value == "valid" else value, len(kernel))


def time_on_runtime(shape: LayerShape, sizes: Sequence[tuple[int, int]]) -> list[float]:
    """Median milliseconds of one layer at each (inputs, outputs), in interleaved runs."""
    generator = np.random.default_rng(0)
    return time_files([(make_layer_model(shape, inputs, outputs),
                        generator.standard_normal(input_shape(shape, inputs), dtype=np.float32))
                       for inputs, outputs in sizes])


def time_files(files: Sequence[tuple[bytes, NDArray[Any]]]) -> list[float]:
    """Median milliseconds of ONNX files on an input each, in interleaved runs on one core."""
    candidates: dict[str, Callable[[int], object]] = {}
    for index, (model, x) in enumerate(files):
        engine = OnnxEngine(model)
        candidates[str(index)] = lambda _, engine=engine, x=x: (  # type: ignore[misc]
            engine.run((x,)))
    with pin_to_core():
        found = compare_latency(candidates, rounds=ROUNDS, warmup=WARMUP)
    return [found[str(index)].median_ms for index in range(len(files))]


def make_layer_model(shape: LayerShape, inputs: int, outputs: int) -> bytes:
    """An ONNX file of one layer with random weights and the given widths."""
    groups = max(1, inputs // shape.group_width) if shape.group_width else 1
    outer = {"Conv": (outputs, inputs // groups), "ConvTranspose": (inputs, outputs // groups),
             "MatMul": (inputs, outputs)}[shape.operator]
    weight = np.random.default_rng(0).standard_normal((*outer, *shape.kernel), dtype=np.float32)
    attributes: dict[str, Any] = {} if shape.operator == "MatMul" else {
        "strides": shape.stride, "pads": shape.padding * 2, "dilations": shape.dilation,
        "group": groups, "kernel_shape": shape.kernel}
    sizes = input_shape(shape, inputs)
    graph = helper.make_graph(
        [helper.make_node(shape.operator, ["x", "w"], ["y"], **attributes)], "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(sizes))],
        [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = min(model.ir_version, onnx.IR_VERSION_2023_5_5)
    content: bytes = model.SerializeToString()
    return content


def input_shape(shape: LayerShape, inputs: int) -> tuple[int, ...]:
    """Shape of one input sample with ``inputs`` channels."""
    if shape.operator == "MatMul":
        return (1, *shape.extent, inputs)
    return (1, inputs, *shape.extent)
