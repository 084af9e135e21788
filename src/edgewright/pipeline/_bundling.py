"""From a program to a bundle: one file a segment, costs beside it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import onnx
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.bundle import low_bit_tensor
from edgewright.core import LayerRecord, LowBitTensor, Segment, TensorSpec
from edgewright.exporters import features_last, to_onnx
from edgewright.measure import energy_mj
from edgewright.program import Costs, NodeCost, Program, outputs_of, split_at_exits

_PACKAGES: Final = ("edgewright", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")
_BYTES: Final = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_FEWEST: Final = 256  # integers worth packing


def to_segments(program: Program) -> tuple[tuple[Segment, ...], dict[str, bytes]]:
    """Translate a program, one file per exit; thresholds and shares are still to be chosen."""
    segments, files = [], {}
    parts = split_at_exits(program)
    for index, model in enumerate(features_last([to_onnx(part) for part in parts])):
        name = f"segments/{index}.onnx"
        files[name] = model
        costs = parts[index].costs()
        segments.append(Segment(file=name, sha256="", size_bytes=len(files[name]),
                                macs=costs.macs, energy_mj=modelled_energy_mj(costs),
                                ram_bytes=costs.peak_activation_bytes,
                                low_bit=low_bit_tensors(files[name])))
    return tuple(segments), files


def low_bit_tensors(model: bytes) -> tuple[LowBitTensor, ...]:
    """Where an ONNX file holds tensors of bytes that need few bits, in the file's order.

    A tensor is looked for behind the one before, by its bytes: wherever they are found is as good,
    as they are the same bytes. Small tensors are not worth their line in the manifest.
    """
    found, end = [], 0
    for tensor in onnx.load_from_string(model).graph.initializer:
        content = tensor.raw_data
        if tensor.data_type not in _BYTES or len(content) < _FEWEST:
            continue
        offset = model.find(content, end)
        low_bit = low_bit_tensor(model, offset, len(content)) if offset >= 0 else None
        if low_bit is not None:
            found.append(low_bit)
            end = offset + len(content)
    return tuple(found)


def modelled_energy_mj(costs: Costs) -> float:
    """Energy of one sample, modelled from counts."""
    return energy_mj(costs.macs_by_bits(), costs.traffic_bytes)


def input_specs(program: Program) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of every input tensor, in the order the file takes them."""
    names = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    leaves = pytree.tree_leaves(program.example_inputs)
    return tuple(_spec(name, leaf) for name, leaf in zip(names, leaves, strict=True))


def output_specs(program: Program) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of every output; of a program with exits only of the last."""
    nodes = outputs_of(program)[-1:] if program.exits else outputs_of(program)
    return tuple(_spec(f"output_{index}", node.meta["val"]) for index, node in enumerate(nodes))


def layer_records(original: Costs, compressed: Costs) -> tuple[LayerRecord, ...]:
    """Every layer before and after, matched by the name of its weight."""
    before = {_layer_name(layer): layer for layer in original.layers}
    after = {_layer_name(layer): layer for layer in compressed.layers}
    names = [*before, *(name for name in after if name not in before)]
    return tuple(_layer(name, before.get(name), after.get(name)) for name in names)


def package_versions() -> dict[str, str]:
    """Versions of everything that shapes a file."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _layer(name: str, before: NodeCost | None, after: NodeCost | None) -> LayerRecord:
    known = after or before
    assert known is not None  # noqa: S101  (every name comes from one of the two)
    return LayerRecord(
        name=name, op=known.op,
        channels_before=before.channels if before else 0, channels=after.channels if after else 0,
        macs_before=before.macs if before else 0, macs=after.macs if after else 0,
        weight_bits=after.weight_bits if after else 32,
        activation_bits=after.activation_bits if after else 32,
        compute_bits=after.bits if after else 32)


def _layer_name(layer: NodeCost) -> str:
    return layer.name if layer.weight is None else layer.weight.removesuffix(".weight")


def _spec(name: str, tensor: Tensor | Any) -> TensorSpec:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorSpec(name=name, dtype=dtype, shape=(None, *map(int, tensor.shape[1:])))
