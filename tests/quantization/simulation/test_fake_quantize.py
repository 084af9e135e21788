"""The fast fake quantizer, compared with a slow reference and with its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor

from edgewright.quantization.simulation._fake_quantize import (
    GridGradients,
    fake_quantize,
    quantized_integers,
)

Case = tuple[Tensor, Tensor, Tensor, tuple[int, int]]


def slow_fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, limits: tuple[int, int],
                       gradients: GridGradients) -> Tensor:
    """Out of plain operations, whose gradients autograd finds."""
    low, high = ((limit - zero_point.detach()) * scale.detach() for limit in limits)
    rounded = (torch.round(x / scale) + zero_point).clamp(*limits).detach()
    zero_point = with_gradient(zero_point, gradients.factor / scale.detach()**2)
    scale = with_gradient(scale, gradients.factor)
    within_scale = scale if gradients.rounding else scale.detach()
    ratio = x / within_scale
    whole = (rounded - zero_point).detach()
    within = (ratio + (whole - ratio).detach()) * within_scale
    return torch.where((x >= low) & (x <= high), within, (rounded - zero_point) * scale)


def with_gradient(tensor: Tensor, factor: float | Tensor) -> Tensor:
    """``tensor``, its gradient multiplied with ``factor``."""
    return tensor.detach() + (tensor - tensor.detach()) * factor


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Values that also lie exactly on integers, halves and ends of the grid; any broadcast."""
    bits = draw(st.sampled_from([2, 3, 4, 8]))
    low = draw(st.sampled_from([0, -(1 << (bits - 1))]))
    limits = (low, low + (1 << bits) - 1)
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple))
    axis = draw(st.none() | st.integers(0, len(shape) - 1))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scales = () if axis is None else tuple(
        size if i == axis else 1 for i, size in enumerate(shape))
    scale = 2 ** torch.empty(scales).uniform_(-12, 6, generator=generator)
    if draw(st.booleans()):
        scale = torch.exp2(scale.log2().round())
    zero_point = torch.randint(*limits, scales, generator=generator).float()
    spread = draw(st.sampled_from([1, limits[1] - low, 3 * (limits[1] - low)]))
    x = torch.randn(shape, generator=generator) * spread
    return (x * 2).round() / 2 * scale if draw(st.booleans()) else x * scale, scale, zero_point, limits


def gradients_of(function: Any, case: Case, gradients: GridGradients) -> list[Tensor]:
    x, scale, zero_point, limits = case
    leaves = [t.clone().requires_grad_() for t in (x, scale, zero_point)]
    out = function(*leaves, limits, gradients)
    out.backward(torch.sin(torch.arange(out.numel()) + 1.0).reshape(out.shape))
    return [out.detach(), *(t.grad for t in leaves)]


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([1.0, 0.037]), st.booleans())
def test_fake_quantize_equals_the_reference(case: Case, factor: float, rounding: bool) -> None:
    gradients = GridGradients(factor, rounding)
    fast = gradients_of(fake_quantize, case, gradients)
    slow = gradients_of(slow_fake_quantize, case, gradients)
    torch.testing.assert_close(fast[0], slow[0], rtol=0, atol=1e-6 * float(slow[0].abs().max()))
    torch.testing.assert_close(fast[1], slow[1], rtol=1e-6, atol=0)
    for one, other in zip(fast[2:], slow[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max() + 1))


@pytest.mark.parametrize("scale", [torch.tensor(0.11), torch.tensor([[0.11], [0.04]])])
@pytest.mark.parametrize("rounding", [True, False])
def test_a_compiled_fake_quantizer_has_the_same_gradients(scale: Tensor, rounding: bool) -> None:
    x = torch.randn(2, 300, generator=torch.Generator().manual_seed(0))
    case = (x, scale, torch.full_like(scale, 3.0), (0, 7))
    compiled = torch.compile(fake_quantize, backend="aot_eager", fullgraph=True)
    gradients = GridGradients(0.1, rounding)
    for found, expected in zip(gradients_of(compiled, case, gradients),
                               gradients_of(fake_quantize, case, gradients), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_values_are_the_integers_scaled(case: Case) -> None:
    x, scale, zero_point, limits = case
    integers = quantized_integers(x, scale, zero_point, limits)
    assert torch.equal(integers, integers.round())
    assert limits[0] <= integers.min()
    assert integers.max() <= limits[1]
    assert torch.equal(fake_quantize(*case), (integers - zero_point) * scale)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_quantization_is_idempotent(case: Case) -> None:
    once = fake_quantize(*case)
    assert torch.equal(fake_quantize(once, *case[1:]), once)


def test_gradients_match_the_paper_by_hand() -> None:
    x = torch.tensor([-3.0, -0.3, 0.65, 1.2, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    zero_point = torch.tensor(1.0, requires_grad=True)
    fake_quantize(x, scale, zero_point, (0, 3)).sum().backward()
    inside = [-1 + 0.6, 1 - 1.3]  # the second and third; 1.2 is above (3 - 1) * 0.5
    assert x.grad is not None
    assert scale.grad is not None
    assert zero_point.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0, 0]
    assert scale.grad.item() == pytest.approx(-1 + sum(inside) + 2 + 2)
    assert zero_point.grad.item() == pytest.approx(-3 / 0.5)  # d out / d zp = -s, over s squared


def test_pact_gradient_comes_from_clipped_values_only() -> None:
    x = torch.tensor([0.1, 0.6, 2.0, 3.0])
    scale = torch.tensor(0.5, requires_grad=True)
    fake_quantize(x, scale, torch.tensor(0.0), (0, 3), GridGradients(1 / 9, rounding=False)
                  ).sum().backward()
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(2 / 3)
    # with alpha = 3 scale and d loss / d alpha = 2, a step on alpha moves scale by 2 / 3 a unit


def test_halves_round_to_even() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert fake_quantize(x, torch.tensor(1.0), torch.tensor(0.0), (-8, 7)).tolist() == [
        -2, -2, 0, 0, 2, 2]


def test_integers_match_onnx_runtime() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor(0.0371)
    x = torch.cat([torch.randn(100_000, generator=generator),
                   scale * (torch.arange(-300, 300) / 2)])  # ties, as near as float32 comes to them
    ours = quantized_integers(x, scale, torch.tensor(99.0), (0, 255))
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
    graph = helper.make_graph(
        [node], "q", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("q", TensorProto.UINT8, [None])],
        [helper.make_tensor("s", TensorProto.FLOAT, [], [scale.item()]),
         helper.make_tensor("z", TensorProto.UINT8, [], [99])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"x": x.numpy()})[0]
    assert np.array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_is_kept_and_sums_match(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 6, 5, 5, generator=generator).to(memory_format=memory_format)
    case = (x, torch.tensor(0.1), torch.tensor(3.0), (0, 15))
    fast = gradients_of(fake_quantize, case, GridGradients())
    slow = gradients_of(slow_fake_quantize, case, GridGradients())
    assert fast[0].is_contiguous(memory_format=memory_format)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_fixed_grid_saves_no_output() -> None:
    x = torch.randn(3, requires_grad=True)
    fixed = fake_quantize(x, torch.tensor(0.1), torch.tensor(0.0), (0, 15))
    learned = fake_quantize(x, torch.tensor(0.1, requires_grad=True), torch.tensor(0.0), (0, 15))
    saved = [getattr(output.grad_fn, "saved_tensors") for output in (fixed, learned)]  # noqa: B009
    assert tuple(map(len, saved)) == (3, 4)
