"""Export a program to the segments of a bundle: ONNX files, with their costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import onnx
import torch
from torch import Tensor

from edgewright.bundle import describe_low_bits
from edgewright.core import LowBitTensor, Segment, TensorSpec, Wiring
from edgewright.exporters import to_onnx, use_channels_last_features
from edgewright.goals import Goal, make_exit_confidence
from edgewright.graph import bytes_of, name_sizes, sizes_of
from edgewright.measure import energy_mj
from edgewright.program import (
    Costs,
    Program,
    RoutedSegment,
    output_names,
    outputs_of,
    split_at_exits,
    split_at_routes,
)

_BYTES: Final = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_MIN_ENTRIES: Final = 256  # packing fewer integers is not worthwhile


def to_segments(program: Program,
                goal: Goal | None = None) -> tuple[tuple[Segment, ...], dict[str, bytes]]:
    """Export a program to one file per exit, or per part of a routed program, with its costs.

    The costs of a segment are its own: those of a sample are the sum over its path.

    Args:
        program: The program.
        goal: Says how sure an exit is of a sample; None for a classifier.

    Raises:
        ModelError: An operator cannot be translated, or the program cannot be split.
    """
    routed = split_at_routes(program)
    if routed:
        held = _held_bytes(routed)
        return _store([_Part(part.program, to_onnx(part.program), wiring=part.wiring,
                             held=held[number]) for number, part in enumerate(routed)])
    confidence = make_exit_confidence(goal)
    parts = split_at_exits(program, confidence)
    models = use_channels_last_features([to_onnx(part) for part in parts])
    return _store([_Part(part, model, score=None if confidence is None or index == program.exits
                         else output_names(part)[1])
                   for index, (part, model) in enumerate(zip(parts, models, strict=True))])


class _Part(NamedTuple):
    """A part of a program with its file.

    Attributes:
        program: The part.
        model: Its file.
        wiring: How it is connected in a routed program.
        held: Bytes that are held for other parts while it runs.
        score: Name of the output that says how sure its exit is.
    """

    program: Program
    model: bytes
    wiring: Wiring | None = None
    held: int = 0
    score: str | None = None


def _store(parts: Sequence[_Part]) -> tuple[tuple[Segment, ...], dict[str, bytes]]:
    """The segments and files of the parts."""
    segments, files = [], {}
    for index, part in enumerate(parts):
        name = f"segments/{index}.onnx"
        files[name] = part.model
        costs = part.program.costs()
        segments.append(Segment(file=name, sha256="", size_bytes=len(part.model), macs=costs.macs,
                                energy_mj=modelled_energy_mj(costs), wiring=part.wiring,
                                ram_bytes=costs.peak_activation_bytes + part.held,
                                score=part.score, low_bit=find_low_bit_tensors(part.model)))
    return tuple(segments), files


def _held_bytes(parts: Sequence[RoutedSegment]) -> list[int]:
    """Bytes per sample of the values that wait for later segments while each segment runs."""
    sizes: dict[str, int] = {}
    for part in parts:
        sizes |= zip(part.wiring.takes, map(bytes_of, part.program.graph.find_nodes(
            op="placeholder")), strict=True)
    held = []
    for number, part in enumerate(parts):
        known = {name for earlier in parts[:number]
                 for name in (*earlier.wiring.takes, *earlier.wiring.gives)}
        later = {name for other in parts[number + 1:] for name in other.wiring.takes}
        held.append(sum(sizes[name] for name in (known & later).difference(part.wiring.takes)))
    return held


def find_low_bit_tensors(model: bytes) -> tuple[LowBitTensor, ...]:
    """The positions of 8-bit tensors in an ONNX file whose values need fewer bits, in file order.

    Each tensor is located by its bytes after the end of the previous one; any match is valid,
    because the bytes are the same. Small tensors are skipped, as packing would save too little.
    """
    found, end = [], 0
    for tensor in onnx.load_from_string(model).graph.initializer:
        content = tensor.raw_data
        if tensor.data_type not in _BYTES or len(content) < _MIN_ENTRIES:
            continue
        offset = model.find(content, end)
        low_bit = describe_low_bits(model, offset, len(content)) if offset >= 0 else None
        if low_bit is not None:
            found.append(low_bit)
            end = offset + len(content)
    return tuple(found)


def modelled_energy_mj(costs: Costs) -> float:
    """Energy per sample, modelled from counts."""
    return energy_mj(costs.macs_by_bits(), costs.traffic_bytes)


def input_specs(program: Program) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of every input tensor, in the order the file takes them."""
    return tuple(TensorSpec(name=spec.name, dtype=_dtype(spec.dtype), shape=spec.shape)
                 for spec in program.inputs)


def output_specs(program: Program) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of every output; for a program with exits, only of the last one."""
    sizes = name_sizes(program.graph_module)
    nodes = outputs_of(program)
    names = output_names(program)
    if program.exits:
        nodes, names = nodes[-1:], ("output_0",)
    return tuple(_spec(name, node.meta["val"], sizes)
                 for name, node in zip(names, nodes, strict=True))


def _spec(name: str, tensor: Tensor, sizes: dict[Any, str]) -> TensorSpec:
    return TensorSpec(name=name, dtype=_dtype(tensor.dtype),
                      shape=(None, *sizes_of(tensor, sizes)[1:]))


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
