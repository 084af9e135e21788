"""Check that an edge runtime supports a program's quantization, before translating it."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch.fx import Node

from edgewright.errors import ModelError
from edgewright.graph import channel_grid, ops, tensor_grid
from edgewright.program import Program

_RUNTIMES: Final = {"executorch": "XNNPACK", "litert": "LiteRT"}


def check_supported_integers(program: Program, target: Literal["executorch", "litert"]) -> None:
    """Reject a program that was quantized for another target.

    ExecuTorch and LiteRT compute with int8 activations, whereas ONNX Runtime and OpenVINO use uint8
    (and support int8). Only ExecuTorch supports dynamic ranges. Neither supports grouped weights,
    and XNNPACK does not support weights with zero points.

    Raises:
        ModelError: Activations have another type, their ranges are not static as the target
            requires, or weights have groups or zero points.
    """
    tensors = program.state_dict()
    for node in program.calls():
        if node.target is ops.QUANTIZE and tensor_grid(node).dtype is not torch.int8:
            dtype = str(tensor_grid(node).dtype).removeprefix("torch.")
            raise _wrong_target_error(
                target, f"its activations are {dtype} (for example {node.name})",
                "int8 activations")
        if target == "litert" and node.target is ops.CHOOSE_GRID:
            raise _wrong_target_error(
                target, f"its activations have dynamic ranges (for example {node.name})",
                "static ranges")
        if node.target is ops.DEQUANTIZE_GROUPS:
            raise _wrong_target_error(
                target, f"its weights have one scale per group (for example {node.name})",
                "one scale per tensor or channel")
        if (target == "executorch" and node.target is ops.DEQUANTIZE_CHANNELS
                and isinstance(zero_points := channel_grid(node).zero_points, Node)
                and bool(tensors[str(zero_points.target)].any())):
            raise _wrong_target_error(
                target, f"its weights have zero points (for example {node.name})",
                "symmetric weights")


def _wrong_target_error(target: str, found: str, required: str) -> ModelError:
    return ModelError(f"the program was not quantized for the target {target!r}: {found}, but "
                      f"{_RUNTIMES[target]} requires {required}; quantize the program in floating "
                      f"point with target={target!r}, or export to 'onnx'")
