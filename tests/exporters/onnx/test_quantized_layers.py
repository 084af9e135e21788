"""Quantised programs written by hand: the program's numbers, in the runtime's own kernels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.runtime import OnnxEngine

quantized = torch.ops.quantized_decomposed
INT32 = torch.iinfo(torch.int32)


def static(x: Any, scale: float = 0.05, zero_point: int = 0, low: int = 0, high: int = 15) -> Any:
    grid = (scale, zero_point, low, high, torch.uint8)
    return quantized.dequantize_per_tensor.default(
        quantized.quantize_per_tensor.default(x, *grid), *grid)


def dynamic(x: Any) -> Any:
    scale, zero_point = quantized.choose_qparams.tensor(x, 0, 255, 2.0 ** -126, torch.uint8)
    grid = (scale, zero_point, 0, 255, torch.uint8)
    return quantized.dequantize_per_tensor.tensor(
        quantized.quantize_per_tensor.tensor(x, *grid), *grid)


class Layer(nn.Module):
    """Integer weights in ``limits``; the bias is on the grid of the products, or real."""

    weight: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor
    bias_scales: Tensor

    def __init__(self, *shape: Any, limits: tuple[int, ...] = (-127, 127), group: Any = None,
                 affine: bool = False, source: Any = None) -> None:
        super().__init__()
        self.limits, self.group, self.source = limits, group, source
        many = (shape[0],) if group is None else (shape[0], shape[1] // group)
        low, high = limits
        self.register_buffer("weight", torch.randint(low, high + 1, shape).to(torch.int8))
        self.register_buffer("scales", torch.rand(many) * 0.01 + 0.005)
        self.register_buffer("zeros", torch.randint(-1, 2, many) * affine)
        self.register_buffer("bias", torch.randn(shape[0]))
        if source is not None:
            self.register_buffer("bias_scales", self.scales * source)
            self.bias = torch.randint(-400, 400, shape[:1]).to(torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight, self.scales, self.zeros)
        if self.group is None:
            real = quantized.dequantize_per_channel.default(*weight, 0, *self.limits, torch.int8)
        else:
            real = quantized.dequantize_per_channel_group.default(
                *weight, *self.limits, torch.int8, self.group, torch.float32)
        bias = self.bias
        if self.source is not None:
            bias = quantized.dequantize_per_channel.default(
                bias, self.bias_scales, self.zeros * 0, 0, INT32.min, INT32.max, torch.int32)
        return F.linear(x, real, bias) if real.ndim == 2 else F.conv2d(x, real, bias, padding=1)


class Net(nn.Module):
    def __init__(self, function: Any, *layers: Any) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def convert(function: Any, layers: Any, *shape: Any) -> tuple[Any, ...]:
    program = Program.capture(Net(function, *layers), torch.randn(shape))
    return program, to_onnx(program)


def kernels(content: Any, path: Path) -> Any:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_double_qdq_remover", "1")
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def error(program: Program, content: Any, *shape: Any) -> Any:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    want = program.run(x).numpy()
    have, = OnnxEngine(content).run((x.numpy(),))
    return float(np.linalg.norm(want - have) / np.linalg.norm(want))


def chain(quantize: Any, *results: Any) -> Any:
    """Every layer reads quantised numbers; a ReLU is between them."""
    def run(x: Any, first: Any, second: Any) -> Any:
        x = second(quantize(first(quantize(x)).relu()))
        return quantize(x) if results else x

    return run


IMAGE = (3, 3, 6, 6)


@pytest.mark.parametrize(("bits", "zero_point"), [(8, 0), (4, 0), (4, 3), (3, 0), (2, 1)])
def test_narrow_activations_are_clamped_between_fused_convolutions(bits: int, zero_point: int,
                                                                   tmp_path: Path) -> Any:
    def quantize(x: Any) -> Any:
        return static(x, zero_point=zero_point, high=(1 << bits) - 1)

    torch.manual_seed(0)
    layers = [Layer(8, 3, 3, 3, limits=(-8, 7), source=0.05),
              Layer(8, 8, 3, 3, limits=(-8, 7), source=0.05)]
    program, content = convert(chain(quantize, "quantised"), layers, *IMAGE)
    assert error(program, content, *IMAGE) == 0
    counts = kernels(content, tmp_path / "o.onnx")
    assert (counts["QLinearConv"], counts["Conv"], counts["Relu"]) == (2, 0, 0)
    assert counts["Clip"] == (3 if bits < 8 else 0)
    assert counts["QuantizeLinear"] == counts["DequantizeLinear"] == 1


def test_activations_of_two_levels_are_exact(tmp_path: Path) -> Any:
    def function(x: Any, first: Any, second: Any) -> Any:
        x = first(static(x, zero_point=7))
        return static(second(static(torch.where(x >= 0, 0.25, -0.25), 0.25, 1, 0, 2)), 0.1)

    torch.manual_seed(0)
    layers = [Layer(8, 3, 3, 3), Layer(8, 8, 3, 3, limits=(-1, 1), source=0.25)]
    program, content = convert(function, layers, *IMAGE)
    assert error(program, content, *IMAGE) == 0
    assert kernels(content, tmp_path / "o.onnx")["QLinearConv"] == 1


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(3, 32), (3, 5, 32)])
def test_dynamic_linear_layers_are_one_kernel_each(shape: tuple[int, ...], affine: bool,
                                                   tmp_path: Path) -> None:
    layers = [Layer(16, 32, affine=affine), Layer(8, 16, affine=affine)]
    program, content = convert(chain(dynamic), layers, *shape)
    assert error(program, content, *shape) < 1e-6
    assert kernels(content, tmp_path / "o.onnx") == {"DynamicQuantizeMatMul": 2, "Relu": 1}


def test_dynamic_convolutions_are_products_of_integers(tmp_path: Path) -> None:
    layers = [Layer(8, 3, 3, 3), Layer(8, 8, 3, 3)]
    program, content = convert(chain(dynamic), layers, *IMAGE)
    assert error(program, content, *IMAGE) < 1e-6
    counts = kernels(content, tmp_path / "o.onnx")
    assert (counts["ConvInteger"], counts["Conv"], counts["DynamicQuantizeLinear"]) == (2, 0, 2)


def test_dynamic_layers_of_one_input_quantise_it_once(tmp_path: Path) -> Any:
    def function(x: Any, first: Any, second: Any) -> Any:
        x = dynamic(x)
        return first(x) + second(x)

    program, content = convert(function, [Layer(16, 32), Layer(16, 32)], 3, 32)
    assert error(program, content, 3, 32) < 1e-6
    assert kernels(content, tmp_path / "o.onnx")["DynamicQuantizeLinear"] == 1


def runtime_integers(x: Any) -> tuple[Any, ...]:
    """DynamicQuantizeLinear as the standard and the runtime have it, in float32."""
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = (high - low) / np.float32(255) if high > low else np.float32(1)
    zero_point = np.clip(np.rint(-low / scale), 0, 255)
    return np.clip(np.rint(x / scale) + zero_point, 0, 255), scale, zero_point


@pytest.mark.parametrize("case", ["both signs", "positive", "negative", "zeros", "tiny"])
def test_the_program_chooses_the_range_the_runtime_does(case: str) -> None:
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    x = {"both signs": x, "positive": x.abs() + 1, "negative": -x.abs(), "zeros": x * 0,
         "tiny": x * 1e-30}[case]
    integers, scale, zero_point = runtime_integers(x.numpy())
    have_scale, have_zero = quantized.choose_qparams.tensor(x, 0, 255, 2.0 ** -126, torch.uint8)
    have = quantized.quantize_per_tensor.tensor(x, have_scale, have_zero, 0, 255, torch.uint8)
    assert case == "zeros" or have_scale.item() == scale
    assert have_zero.item() == zero_point
    assert np.abs(have.numpy() - integers).max() <= 1
    assert (have.numpy() != integers).mean() < 1e-3  # times 1 / scale, where the runtime divides


def sizes(content: Any) -> Any:
    """Bytes of each stored tensor of more than one dimension."""
    return [len(tensor.raw_data) for tensor in onnx.load_from_string(content).graph.initializer
            if len(tensor.dims) > 1]


@pytest.mark.parametrize(("shape", "weights"), [
    ((3, 32), ((16, 32), (8, 16))), ((3, 5, 32), ((16, 32), (8, 16))),
    (IMAGE, ((8, 3, 3, 3), (8, 8, 3, 3)))])
@pytest.mark.parametrize("bits", [8, 4])
def test_stored_weights_are_floats_once_the_file_is_loaded(shape: Any,
                                                           weights: tuple[tuple[int, ...], ...],
                                                           bits: int, tmp_path: Path) -> None:
    limits = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    layers = [Layer(*weights[0], limits=limits), Layer(*weights[1], limits=limits, affine=bits < 8)]
    program, content = convert(chain(lambda x: x), layers, *shape)
    assert error(program, content, *shape) < 1e-6
    assert not {"DequantizeLinear", "Cast", "Mul"} & set(kernels(content, tmp_path / "o.onnx"))
    for count in map(np.prod, weights):
        assert count * bits // 8 in sizes(content)


@pytest.mark.parametrize("shape", [(3, 64), (3, 5, 64)])
@pytest.mark.parametrize(("limits", "packed"), [((-128, 127), 8), ((-8, 7), 4), ((-4, 3), 4),
                                                ((-2, 1), 2)])
@pytest.mark.parametrize("affine", [False, True])
def test_groups_are_multiplied_packed(shape: tuple[int, ...], limits: tuple[int, ...], packed: int,
                                      affine: bool, tmp_path: Path) -> None:
    layers = [Layer(32, 64, limits=limits, group=16, affine=affine),
              Layer(8, 32, limits=limits, group=32, affine=affine)]
    program, content = convert(chain(lambda x: x), layers, *shape)
    assert error(program, content, *shape) < 1e-6
    assert kernels(content, tmp_path / "o.onnx") == {"MatMulNBits": 2, "Relu": 1}
    assert {32 * 64 * packed // 8, 8 * 32 * packed // 8} <= set(sizes(content))


def test_groups_that_the_runtime_has_no_kernel_for_are_right_all_the_same() -> None:
    layers = [Layer(32, 64, limits=(-8, 7), group=8), Layer(8, 32, limits=(-8, 7), group=8)]
    program, content = convert(chain(lambda x: x), layers, 3, 64)
    assert error(program, content, 3, 64) < 1e-6


def test_two_quantisations_in_a_row_are_both_done() -> None:
    program, content = convert(lambda x: static(static(x, high=255).relu(), 0.0171, 3, 0, 255), [],
                               64, 32)
    assert error(program, content, 64, 32) < 1e-3
