"""`FakeQuantizer`: grids, modes, learned parameters, copying and state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace

from edgewright.errors import DataError, UsageError
from edgewright.quantization import Quantization, StaticRange, resolve
from edgewright.quantization.scheme._grid import Grid
from edgewright.quantization.scheme._targets import TARGETS
from edgewright.quantization.simulation._fake_quantizer import FakeQuantizer, LearnedRange

ACTIVATION = Grid(8, signed=False, symmetric=False, role="activation")
WEIGHT = Grid(8, signed=True, symmetric=True, axis=0, narrow=True, role="weight")
SHAPES = {"tensor": ((), (4, 3, 6, 6)), "channel": ((5,), (5, 3, 3, 3)), "group": ((5, 3), (5, 12))}


def spread(quantizer: FakeQuantizer, tensor: Tensor, x: Tensor) -> Tensor:
    """Scales as an obvious loop over entries would read them."""
    if tensor.ndim == 0:
        return tensor
    if tensor.ndim == 1:
        shape = [1] * x.ndim
        shape[quantizer.grid.axis or 0] = -1
        return tensor.reshape(shape)
    return tensor.repeat_interleave(x.shape[1] // tensor.shape[1], dim=1)


def calibrated(grid: Grid, x: Tensor, shape: tuple[int, ...] = (),
               learned_range: LearnedRange = "nothing") -> FakeQuantizer:
    quantizer = FakeQuantizer(grid, shape, learned_range=learned_range)
    axis = grid.axis or 0
    rows = x.movedim(axis, 0).reshape(quantizer.scale.numel(), -1) if len(shape) == 1 else (
        x.reshape(quantizer.scale.numel(), -1))
    quantizer.set_range(rows.amin(1).reshape(shape), rows.amax(1).reshape(shape))
    quantizer.mode = "quantize"
    return quantizer


@st.composite
def quantizers(draw: st.DrawFn) -> tuple[FakeQuantizer, Tensor]:
    kind = draw(st.sampled_from(sorted(SHAPES)))
    shape, size = SHAPES[kind]
    bits = draw(st.sampled_from([1, 2, 3, 4, 8]))
    grid = Grid(bits, signed=draw(st.booleans()), symmetric=bits == 1 or draw(st.booleans()),
                axis=None if kind == "tensor" else 0, group=4 if kind == "group" else None,
                power_of_two=draw(st.booleans()), narrow=bits > 1 and draw(st.booleans()),
                role=draw(st.sampled_from(["weight", "activation"])))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(size, generator=generator) * 2.0**draw(st.integers(-8, 8))
    return calibrated(grid, x.relu() if draw(st.booleans()) else x, shape), x


@settings(max_examples=150, deadline=None)
@given(quantizers())
def test_forward_is_exactly_the_integers_scaled(case: tuple[FakeQuantizer, Tensor]) -> None:
    quantizer, x = case
    integers = quantizer.integers(x)
    low, high = quantizer.grid.limits
    scale, zero_point = quantizer.effective_scale(), quantizer.effective_zero_point()
    assert integers.shape == x.shape
    assert integers.dtype == torch.float32
    assert torch.equal(integers, integers.round().clamp(low, high))
    expected = (integers - spread(quantizer, zero_point, x)) * spread(quantizer, scale, x)
    assert torch.equal(quantizer(x), expected)


@settings(max_examples=150, deadline=None)
@given(quantizers())
def test_grids_contain_zero_and_cover_the_range(
        case: tuple[FakeQuantizer, Tensor]) -> None:
    quantizer, x = case
    if quantizer.grid.bits == 1:
        assert torch.equal(quantizer(x).abs(), spread(quantizer, quantizer.scale, x).expand(x.shape))
        return
    assert torch.equal(quantizer(torch.zeros_like(x)), torch.zeros_like(x))
    inside = calibrated(quantizer.grid, x, tuple(quantizer.scale.shape))
    error = (inside(x) - x).abs() / spread(inside, inside.effective_scale(), x)
    assert error.max() <= 1 + 1e-3  # half a step of rounding, and half for the whole zero point
    if quantizer.grid.symmetric:
        assert error.max() <= 0.5 + 1e-3
    if quantizer.grid.power_of_two:
        exponents = inside.effective_scale().log2()
        assert torch.equal(exponents, exponents.round())


def test_ranges_become_scales() -> None:
    quantizer = FakeQuantizer(ACTIVATION)
    quantizer.set_range(torch.tensor(0.5), torch.tensor(5.1))  # widened to contain 0
    assert quantizer.scale.item() == pytest.approx(5.1 / 255)
    assert quantizer.zero_point.item() == 0
    weights = FakeQuantizer(WEIGHT, (2,))
    weights.set_range(torch.tensor([-1.27, -1.0]), torch.tensor([1.0, 2.54]))
    torch.testing.assert_close(weights.scale.detach(), torch.tensor([0.01, 0.02]))
    wide = FakeQuantizer(Grid(4, signed=True, symmetric=True, role="weight"))
    wide.set_range(torch.tensor(-0.8), torch.tensor(0.3))  # -8 to 7: the low end has more room
    assert wide.scale.item() == pytest.approx(0.1)
    shifted = FakeQuantizer(Grid(8, signed=False, symmetric=False, power_of_two=True,
                                 role="activation"))
    shifted.set_range(torch.tensor(0.0), torch.tensor(3.0))
    assert shifted.scale.item() == 2**-6  # rounded up from 3 / 255


def test_zero_rows_get_the_mean_scale_of_the_others() -> None:
    quantizer = FakeQuantizer(WEIGHT, (3,))
    quantizer.set_range(torch.zeros(3), torch.tensor([1.27, 0.0, 3.81]))
    torch.testing.assert_close(quantizer.scale.detach(), torch.tensor([0.01, 0.02, 0.03]))
    quantizer.set_range(torch.zeros(3), torch.zeros(3))
    assert quantizer.scale.tolist() == [1, 1, 1]


def test_a_range_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match="range nan to 1 cannot be quantized because it is not finite"):
        FakeQuantizer(ACTIVATION).set_range(torch.tensor(float("nan")), torch.tensor(1.0))
    with pytest.raises(DataError, match="range 0 to inf"):
        FakeQuantizer(WEIGHT, (2,)).set_range(torch.zeros(2), torch.tensor([1.0, float("inf")]))


@pytest.mark.parametrize(("shape", "size"), [((5,), (4, 3)), ((4, 2), (4, 5)), ((4, 2), (3, 4))])
def test_scales_of_wrong_shape_are_rejected(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    quantizer = FakeQuantizer(WEIGHT, shape)
    quantizer.mode = "quantize"
    with pytest.raises(UsageError, match="does not fit scales of shape"):
        quantizer(torch.randn(size))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_initial_scale_of_learned_weights(bits: int) -> None:
    x = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    quantizer = FakeQuantizer(Grid(bits, signed=True, symmetric=True, axis=0, role="weight"), (5,))
    quantizer.initialize_scale(x)
    mean = x.abs().mean((1, 2, 3))
    expected = mean if bits == 1 else 2 * mean / (2 ** (bits - 1) - 1) ** 0.5
    torch.testing.assert_close(quantizer.scale.detach(), expected)


def test_binary_activation_threshold_is_the_mean() -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).relu()
    quantizer = FakeQuantizer(Grid(1, signed=False, symmetric=True, role="activation"))
    quantizer.initialize_scale(x)
    quantizer.mode = "quantize"
    assert quantizer.shift is not None
    torch.testing.assert_close(quantizer.shift.detach(), x.mean())
    assert set(quantizer.integers(x).unique().tolist()) == {0, 2}
    quantizer.set_range(torch.tensor(0.25), torch.tensor(0.75))
    assert (quantizer.shift.item(), quantizer.scale.item()) == (0.5, 0.25)


@pytest.mark.parametrize("signed", [False, True])
def test_only_binary_activations_have_a_shift(signed: bool) -> None:
    weight = FakeQuantizer(Grid(1, signed=signed, symmetric=True, role="weight"))
    assert weight.shift is None
    activation = FakeQuantizer(Grid(1, signed=signed, symmetric=True, role="activation"))
    activation.set_range(torch.tensor(1.0), torch.tensor(3.0))
    activation.mode = "quantize"
    assert activation(torch.tensor([[1.9, 2.1]])).tolist() == [[-1, 1]]


class Spy:
    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def update(self, x: Tensor) -> None:
        self.seen.append(x)

    def range(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(0.0), torch.tensor(1.0)


def test_modes_pass_observe_and_quantize() -> None:
    x = torch.tensor([0.2, 0.6], requires_grad=True)
    quantizer = FakeQuantizer(Grid(2, signed=False, symmetric=False, role="activation"))
    spy = quantizer.observer = Spy()
    assert quantizer(x) is x
    assert spy.seen == []
    quantizer.mode = "observe"
    assert quantizer(x) is x
    assert len(spy.seen) == 1
    assert not spy.seen[0].requires_grad
    quantizer.set_range(*spy.range())
    quantizer.mode = "quantize"
    torch.testing.assert_close(quantizer(x), torch.tensor([1 / 3, 2 / 3]))
    assert len(spy.seen) == 1


@pytest.mark.parametrize(("learned_range", "learned"), [
    ("nothing", set()), ("lsq", {"scale"}), ("lsq+", {"scale", "zero_point"}), ("pact", {"scale"})])
def test_learned_parameters(learned_range: LearnedRange, learned: set[str]) -> None:
    affine = calibrated(ACTIVATION, torch.randn(3, 9), learned_range=learned_range)
    assert {n for n, p in affine.named_parameters() if p.requires_grad} == learned
    fixed = FakeQuantizer(WEIGHT, (5,), learned_range=learned_range)
    assert not fixed.zero_point.requires_grad
    affine((torch.randn(3, 9) * 2).requires_grad_()).sum().backward()
    assert {n for n, p in affine.named_parameters() if p.grad is not None} == learned


@pytest.mark.parametrize(("learned_range", "share"), [
    ("lsq", (3 * 15) ** -0.5), ("lsq+", (3 * 15) ** -0.5), ("pact", 15**-2)])
def test_gradient_scale_matches_the_paper(learned_range: LearnedRange, share: float) -> None:
    grid = Grid(4, signed=False, symmetric=False, role="activation")
    quantizer = FakeQuantizer(grid, learned_range=learned_range)
    quantizer.set_range(torch.tensor(0.0), torch.tensor(1.5))
    quantizer.mode = "quantize"
    quantizer(torch.tensor([[0.0, 0.3, 5.0], [0.0, 0.7, 1.0]])).sum().backward()
    assert quantizer.scale.grad is not None
    assert quantizer.scale.grad.item() == pytest.approx(15 * share, rel=1e-4)


def test_weight_step_size_counts_the_values_of_a_scale() -> None:
    grid = Grid(4, signed=True, symmetric=True, axis=0, role="weight")
    quantizer = FakeQuantizer(grid, (2,), learned_range="lsq")
    quantizer.set_range(-torch.ones(2), torch.ones(2))
    quantizer.mode = "quantize"
    quantizer(torch.full((2, 3, 3), 9.0)).sum().backward()
    assert quantizer.scale.grad is not None
    assert quantizer.scale.grad.tolist() == pytest.approx([9 * 7 * (9 * 7) ** -0.5] * 2)


def slow_scale_gradient(x: Tensor, quantizer: FakeQuantizer, factor: float) -> float:
    """LSQ's equation 3, one value after another, times ``factor``; the loss is the plain sum."""
    scale, zero_point = quantizer.scale.item(), quantizer.effective_zero_point().item()
    low, high = (limit - zero_point for limit in quantizer.grid.limits)
    total = 0.0
    for value in x.flatten().tolist():
        share = value / scale
        total += min(max(round(share), low), high) - (share if low <= share <= high else 0)
    return total * factor


@pytest.mark.parametrize("samples", [1, 4, 64])
@pytest.mark.parametrize("target", TARGETS)
def test_activation_step_size_counts_the_values_of_one_sample(target: Any, samples: int) -> None:
    """LSQ, section 2.2, whatever the sign of the runtime's integers and the size of the batch."""
    x = torch.randn(samples, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2
    for symmetric in (False, True):
        grid = resolve(Quantization(
            target=target, activations=StaticRange(symmetric=symmetric))).activation_grid(8)
        quantizer = FakeQuantizer(grid, learned_range="lsq")
        quantizer.set_range(torch.tensor(-2.0), torch.tensor(3.0))
        quantizer.mode = "quantize"
        quantizer(x).sum().backward()
        positive_steps = 127 if symmetric else 255
        want = slow_scale_gradient(x, quantizer, (3 * 4 * 4 * positive_steps) ** -0.5)
        assert quantizer.scale.grad is not None
        assert quantizer.scale.grad.item() == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("signed", [False, True])
def test_roles_determine_which_values_are_counted(signed: bool, bits: int) -> None:
    def gradient(role: Any, *told: int) -> float:
        grid = Grid(bits, signed=signed, symmetric=True, role=role)
        quantizer = FakeQuantizer(grid, learned_range="lsq")
        quantizer.mode = "quantize"
        quantizer(torch.full((6, 5), 99.0), *told).sum().backward()
        assert quantizer.scale.grad is not None
        return quantizer.scale.grad.item()

    steps = 1 if bits == 1 else 7
    total = 30 * steps
    assert gradient("weight") == pytest.approx(total * (30 * steps) ** -0.5)
    assert gradient("activation") == pytest.approx(total * (5 * steps) ** -0.5)
    assert gradient("activation", 15) == pytest.approx(total * (15 * steps) ** -0.5)


@pytest.mark.parametrize("learned_range", ["lsq", "lsq+", "pact"])
@pytest.mark.parametrize("power_of_two", [False, True])
def test_learning_finds_a_better_range(learned_range: LearnedRange, power_of_two: bool) -> None:
    x = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) + 0.5
    grid = Grid(3, signed=False, symmetric=False, power_of_two=power_of_two, role="activation")
    quantizer = FakeQuantizer(grid, learned_range=learned_range)
    quantizer.set_range(torch.tensor(-40.0), torch.tensor(40.0))  # far too wide
    quantizer.mode = "quantize"
    optimizer = torch.optim.Adam([p for p in quantizer.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(150):
        loss = (quantizer(x) - x).square().mean() + (0.1 * quantizer.scale if learned_range == "pact" else 0)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(losses[-20:]) < 0.5 * losses[0]


def test_scales_stay_positive_and_recover() -> None:
    quantizer = calibrated(WEIGHT, torch.ones(2, 4), (2,), learned_range="lsq")
    with torch.no_grad():
        quantizer.scale.copy_(torch.tensor([-5.0, 1e38]))
    used = quantizer.effective_scale()
    assert used.tolist() == [pytest.approx(1 / 127 / 1024), 2.0**100]
    used[0].backward()
    assert quantizer.scale.grad is not None
    assert quantizer.scale.grad[0] == 1


def test_learned_zero_points_are_rounded_and_clamped() -> None:
    quantizer = FakeQuantizer(ACTIVATION, learned_range="lsq+")
    with torch.no_grad():
        quantizer.zero_point.fill_(12.6)
    assert quantizer.effective_zero_point().item() == 13
    with torch.no_grad():
        quantizer.zero_point.fill_(-3.0)
    assert quantizer.effective_zero_point().item() == 0


@pytest.mark.parametrize("grid", [
    ACTIVATION, Grid(1, signed=False, symmetric=True, role="activation")])
def test_state_and_copies(grid: Grid) -> None:
    x = torch.randn(3, 9)
    quantizer = calibrated(grid, x, learned_range="lsq")
    other = FakeQuantizer(grid)
    other.load_state_dict(quantizer.state_dict())
    other.mode = "quantize"
    copied = copy.deepcopy(quantizer)
    assert torch.equal(other(x), quantizer(x))
    assert torch.equal(copied(x), quantizer(x))
    assert copied.mode == "quantize"
    assert copied.scale is not quantizer.scale


def test_quantizers_work_as_graph_calls() -> None:
    graph_module: GraphModule = symbolic_trace(nn.Sequential(nn.ReLU()))
    graph_module.add_submodule("quantizers.a0", calibrated(ACTIVATION, torch.rand(2, 8)))
    node = next(n for n in graph_module.graph.nodes if n.op == "call_module")
    with graph_module.graph.inserting_after(node):
        call = graph_module.graph.call_module("quantizers.a0", (node,))
    node.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    graph_module.recompile()
    x = torch.rand(2, 8)
    expected = graph_module.get_submodule("quantizers.a0")(x.relu())
    assert torch.equal(copy.deepcopy(graph_module)(x), expected)


@pytest.mark.parametrize("bits", [1, 4])
def test_memory_format_and_type_are_kept(bits: int) -> None:
    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    quantizer = calibrated(Grid(bits, signed=False, symmetric=bits == 1, role="activation"), x)
    assert quantizer(x).is_contiguous(memory_format=torch.channels_last)
    half = quantizer(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, quantizer(x.bfloat16().float()).bfloat16())


def test_an_empty_batch_passes() -> None:
    quantizer = calibrated(ACTIVATION, torch.rand(4, 3), learned_range="lsq")
    assert quantizer(torch.zeros(0, 3)).shape == (0, 3)


def test_a_binary_network_learns() -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 16)
    y = (x @ torch.randn(16, 3)).argmax(1)
    layers: list[Any] = [nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(),
              FakeQuantizer(Grid(1, signed=False, symmetric=True, role="activation"), learned_range="lsq"),
              nn.Linear(64, 3, bias=False), nn.BatchNorm1d(3)]
    network, weight = nn.Sequential(*layers), layers[4].weight
    grid = Grid(1, signed=True, symmetric=True, axis=0, role="weight")
    weights = FakeQuantizer(grid, (3,), learned_range="lsq")
    weights.initialize_scale(weight)
    layers[3].initialize_scale(network[:3](x))
    layers[3].mode = weights.mode = "quantize"
    optimizer = torch.optim.SGD([*network.parameters(), *weights.parameters()], lr=0.05,
                                momentum=0.9)
    shift = layers[3].shift.item()
    for _ in range(60):
        hidden = nn.functional.linear(network[:4](x), weights(weight))
        logits = layers[5](hidden)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, y).backward()
        optimizer.step()
    assert (logits.argmax(1) == y).float().mean() > 0.8
    assert set(weights(weight).detach()[0].abs().tolist()) == {weights.effective_scale()[0].item()}
    assert layers[3].shift.item() != shift
