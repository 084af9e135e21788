"""A file's operators, each given the program's integers; and what rounding alone does to it.

Rounding to integers makes a difference in the last bit of a number one of a whole step, now and
then; a deep network with random weights spreads it over all it computes. So how far outputs are
apart says little of its operators, whose own results these functions look at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import torch
import torch.ao.quantization.fx._decomposed  # registers quantize_per_tensor
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Interpreter, Node

import edgewright as ew
from edgewright.runtime import OnnxEngine

_QUANTIZE: Final = torch.ops.quantized_decomposed.quantize_per_tensor.default


class Steps(NamedTuple):
    """Integers that the runtime computed otherwise than the program, from the same integers.

    Attributes:
        share: Of all.
        farthest: Steps between the two.
    """

    share: float
    farthest: int


def compare_steps(program: ew.Program, file: bytes, inputs: tuple[Tensor, ...]) -> Steps | None:
    """Compare every quantized result of the runtime with the program's, given the same inputs.

    Returns:
        None where the translation left some out, constant or there twice: which is not known.
    """
    want = _Recorder(program)
    with torch.inference_mode():
        want.run(*inputs)
    cut = cut_at_integers(file)
    if len(onnx.load_from_string(cut).graph.input) != len(inputs) + len(want.integers):
        return None
    results = OnnxEngine(cut).run((*(leaf.numpy() for leaf in inputs), *want.integers))
    apart = [np.abs(one.astype(np.int16) - other) for one, other in zip(
        want.integers, results[-len(want.integers):], strict=True)]
    wrong = sum(np.count_nonzero(steps) for steps in apart)
    return Steps(wrong / sum(steps.size for steps in apart),
                 max(int(steps.max()) for steps in apart))


def cut_at_integers(file: bytes) -> bytes:
    """The file with every quantized result as an output, and what reads it as an input.

    Example:
        >>> import onnx.parser
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 17]>
        ...     g (float[N] x) => (float[N] y) <float s = {1.0}, uint8 z = {0}> {
        ...     q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }''')
        >>> cut = onnx.load_from_string(cut_at_integers(model.SerializeToString())).graph
        >>> [value.name for value in cut.input], [value.name for value in cut.output]
        (['x', 'q_cut'], ['y', 'q'])
    """
    model = onnx.load_from_string(file)
    graph = model.graph
    types = {value.name: value.data_type for value in graph.initializer}
    for name, kind in list(_integers(graph, types)):  # before what they read has other names
        for node in graph.node:
            for index, read in enumerate(node.input):
                if read == name:
                    node.input[index] = f"{name}_cut"
        graph.input.append(onnx.helper.make_tensor_value_info(f"{name}_cut", kind, None))
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return bytes(model.SerializeToString())


def _integers(graph: onnx.GraphProto, types: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Every quantized result, behind the clamp where there is one, and its type."""
    clamps = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "Clip"}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            yield clamps.get(node.output[0], node.output[0]), types[node.input[2]]


class _Recorder(Interpreter):
    """Runs a program, and keeps every integer that it rounds to."""

    def __init__(self, program: ew.Program) -> None:
        super().__init__(program.graph_module)
        self.integers: list[NDArray[Any]] = []

    def run_node(self, node: Node) -> Any:
        result = super().run_node(node)
        if node.target is _QUANTIZE:
            self.integers.append(result.numpy())
        return result


class Nudged(Interpreter):
    """Runs a program with every number it computes moved to the next float, up or down.

    Args:
        program: Any.
        seed: Of the choices between up and down.
    """

    def __init__(self, program: ew.Program, seed: int) -> None:
        super().__init__(program.graph_module)
        self._generator = torch.Generator().manual_seed(seed)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Compute as the program does, and nudge the result."""
        result = super().call_function(target, args, kwargs)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        up = torch.rand(result.shape, generator=self._generator) < 0.5
        return torch.nextafter(result, torch.where(up, math.inf, -math.inf))
