"""Which quantized values an edge runtime takes, told before anything is translated."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch.fx import Node

from edgewright.errors import ModelError
from edgewright.graph import channel_grid, ops, tensor_grid
from edgewright.program import Program

_MADE_FOR: Final = {"executorch": "XNNPACK", "litert": "LiteRT"}


def check_integers(program: Program, target: Literal["executorch", "litert"]) -> None:
    """Refuse integers that the runtime has no kernels for: a program quantized for another.

    Both compute with int8 activations, where ONNX Runtime and OpenVINO take uint8 (and int8 too);
    ranges that are taken from each input run in ExecuTorch alone. Neither reads
    weights whose groups have scales, and XNNPACK no weights with zero points.

    Raises:
        ModelError: Activations are of another type, their ranges are not fixed, or weights have
            groups or zero points.
    """
    tensors = program.state_dict()
    for node in program.calls():
        if node.target is ops.QUANTIZE and tensor_grid(node).dtype is not torch.int8:
            dtype = str(tensor_grid(node).dtype).removeprefix("torch.")
            raise _for_another(target, f"its activations are {dtype} (as {node.name})",
                               "int8 ones")
        if target == "litert" and node.target is ops.CHOOSE_GRID:
            raise _for_another(target, "the ranges of its activations are taken from "
                               f"each input (as {node.name})", "fixed ones")
        if node.target is ops.DEQUANTIZE_GROUPS:
            raise _for_another(target, f"groups of its weights have scales (as {node.name})",
                               "a scale per tensor or channel")
        if (target == "executorch" and node.target is ops.DEQUANTIZE_CHANNELS
                and isinstance(zero_points := channel_grid(node).zero_points, Node)
                and bool(tensors[str(zero_points.target)].any())):
            raise _for_another(target, f"its weights have zero points (as {node.name})",
                               "symmetric ones")


def _for_another(target: str, found: str, taken: str) -> ModelError:
    return ModelError(f"the program was quantized for another target than {target!r}: {found}, and "
                      f"{_MADE_FOR[target]} takes {taken}; quantize the program in floating point "
                      f"with target={target!r}, or export to 'onnx'")
