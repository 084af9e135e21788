"""Predicted rises of the loss, compared with full Hessians and manually quantized networks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.errors import DataError, ModelError
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.quantization import Precision, Quantization, resolve
from edgewright.quantization.mixed._hessian import average_hessian_traces
from edgewright.quantization.mixed._sensitivity import measure_sensitivities
from edgewright.quantization.scheme._precision import MixedPrecision
from edgewright.task import Batch, Task

MIXED = {method: MixedPrecision(size=1, method=method, samples=64) for method in ("loss", "hessian")}


class Net(nn.Module):
    """A value that two layers read, a norm, and a weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.again = nn.Linear(6, 6)
        self.side = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.stem(x)))
        return self.head(torch.tanh(self.again(torch.tanh(self.again(x)))) + self.side(x))


def data(count: int, seed: int) -> tuple[Any, ...]:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


@pytest.fixture(scope="module")
def task() -> Any:
    return Task(data(160, 0), data(20, 1), data(20, 2))


@pytest.fixture(scope="module")
def net(task: Any) -> Any:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    batch, = task.train.batches(200)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(*batch.inputs), batch.targets).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def program(net: Any) -> Any:
    return Program.capture(net, torch.zeros(1, 4))


def trace_of(net: Any, name: str, batches: Any) -> Any:
    """Of the whole Hessian of the mean loss, divided by the weight's size."""
    weight = net.get_parameter(name)
    x = torch.cat([batch.inputs[0] for batch in batches])
    y = torch.cat([batch.targets for batch in batches])

    def loss(value: Any) -> Any:
        return F.cross_entropy(torch.func.functional_call(net, {name: value}, (x,)), y)

    hessian = torch.autograd.functional.hessian(loss, weight.detach())
    return float(hessian.reshape(weight.numel(), -1).trace()) / weight.numel()


NAMES = ["stem.weight", "again.weight", "side.weight", "head.weight"]


def test_random_vectors_estimate_the_traces_of_the_full_hessian(net: Any, program: Any,
                                                                task: Any) -> None:
    batches = list(task.train.batches(50))
    found = average_hessian_traces(program.module(), NAMES, batches, Classification(), probes=300)
    assert list(found) == NAMES
    for name in NAMES:
        assert found[name] == pytest.approx(trace_of(net, name, batches), rel=0.15), name


def test_traces_are_exact_for_diagonal_hessians() -> None:
    """Of z'Hz every vector of signs gives the trace then."""
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x * self.weight, torch.zeros_like(x)], 1)[:, :, 0]

    batch = Batch((torch.tensor([[1.0], [2.0]]),), torch.tensor([0, 1]), torch.arange(2))
    found = average_hessian_traces(First(), ["weight"], [batch], Classification(), probes=1)
    assert found["weight"] == pytest.approx(0.25 * (1 + 4) / 2)


def test_weights_unused_by_the_loss_have_zero_curvature() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    batch = Batch((torch.ones(2, 2),), torch.tensor([0, 1]), torch.arange(2))
    found = average_hessian_traces(Idle(), ["used.weight", "idle.weight"], [batch],
                                   Classification())
    assert found["idle.weight"] == 0
    assert found["used.weight"] > 0


def test_operators_without_second_derivative_are_named_in_the_error() -> None:
    class Slope(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Tensor, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, slope: Any) -> None:
            raise RuntimeError("derivative for aten::rare_backward is not implemented")

    class Rare(Slope):
        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            return Slope.apply(slope)

    class Net(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return Rare.apply(super().forward(x))

    batch = Batch((torch.ones(2, 2),), torch.tensor([0, 1]), torch.arange(2))
    with pytest.raises(ModelError, match=(
            r"the loss has no second derivative for the Hessian's trace: derivative for "
            r"aten::rare_backward is not implemented; measure the loss instead "
            r"\(method='loss'\)")):
        average_hessian_traces(Net(2, 2), ["weight"], [batch], Classification())


CANDIDATES = [Precision(weights=None, activations=None), Precision(weights=8),
              Precision(weights=2), Precision(weights=2, activations=2)]
CONFIG = Quantization(range_estimator="minmax", granularity="per_tensor", operators=("linear",))
SCHEME = resolve(CONFIG)


def halves(task: Task) -> tuple[Any, ...]:
    split = task.train.sample(128, seed=0)
    (shown,), (held,) = (split.select(range(first, 128, 2)).batches(64) for first in (0, 1))
    return shown, held


def on_grid(x: Any, low: Any, high: Any, bits: int, *, symmetric: Any) -> Any:
    """``x`` to the nearest of the levels, by hand."""
    if symmetric:
        most = 2 ** (bits - 1) - 1
        scale = max(-low / (127 if bits == 8 else 2 ** (bits - 1)), high / most)
        return (x / scale).round().clamp(-(2 ** (bits - 1)) if bits < 8 else -127, most) * scale
    scale = (high - low) / (2 ** bits - 1)
    zero = round(float(-low / scale))
    return ((x / scale).round() + zero).clamp(0, 2 ** bits - 1).sub(zero) * scale


def weight_on_grid(net: Any, name: str, bits: int) -> Any:
    weight = net.get_parameter(name).detach()
    low, high = weight.min().clamp(max=0), weight.max().clamp(min=0)
    return on_grid(weight, low, high, bits, symmetric=True)


@torch.no_grad()
def loss_of(net: Any, batch: Any) -> Any:
    return float(F.cross_entropy(net(*batch.inputs), batch.targets))


def loss_with(net: Any, batch: Any, name: str, bits: int) -> Any:
    quantized = {name: weight_on_grid(net, name, bits)}
    with torch.no_grad():
        logits = torch.func.functional_call(net, quantized, batch.inputs)
    return float(F.cross_entropy(logits, batch.targets))


def test_measured_rise_equals_quantizing_one_layer_by_hand(net: Any, program: Any,
                                                           task: Any) -> None:
    _, held = halves(task)
    before = loss_of(net, held)
    tried = dict.fromkeys(NAMES, CANDIDATES[1:3])
    found = measure_sensitivities(program, task, resolve(CONFIG.replace(activations=None)), tried,
                          MIXED["loss"])
    for name in NAMES:
        for precision, rise in found[name].items():
            assert precision.weights is not None
            want = loss_with(net, held, name, precision.weights) - before
            assert rise == pytest.approx(want, abs=1e-5), (name, precision)


def test_activations_of_a_layer_are_only_its_inputs(net: Any, program: Any, task: Any) -> Any:
    """``side`` and ``again`` read one value; only what the first reads is put on the grid."""
    shown, held = halves(task)
    net_value = {}

    def note(module: nn.Module, inputs: Any) -> None:
        net_value["low"], net_value["high"] = inputs[0].min(), inputs[0].max()

    def put(module: nn.Module, inputs: Any) -> Any:
        return on_grid(inputs[0], net_value["low"], net_value["high"], 2, symmetric=False)

    before = loss_of(net, held)
    hook = net.side.register_forward_pre_hook(note)
    net(*shown.inputs)
    hook.remove()
    hook = net.side.register_forward_pre_hook(put)
    after = loss_of(net, held)
    hook.remove()
    found = measure_sensitivities(program, task, SCHEME, {"side.weight": CANDIDATES[2:]}, MIXED["loss"])
    eight = measure_sensitivities(program, task, SCHEME, {"side.weight": [Precision(weights=2)]},
                          MIXED["loss"])["side.weight"][Precision(weights=2)]
    weights_alone = loss_with(net, held, "side.weight", 2) - before
    both = found["side.weight"][Precision(weights=2, activations=2)]
    assert both - weights_alone == pytest.approx(after - before, abs=1e-5)
    assert eight == pytest.approx(found["side.weight"][Precision(weights=2)])


def test_hessian_prediction_is_half_the_curvature_times_the_error(net: Any, program: Any,
                                                                  task: Any) -> None:
    shown, _ = halves(task)
    tried = {name: [Precision(weights=2)] for name in NAMES}
    scheme = resolve(CONFIG.replace(activations=None))
    found = measure_sensitivities(program, task, scheme, tried, MIXED["hessian"])
    for name in NAMES:
        error = weight_on_grid(net, name, 2) - net.get_parameter(name).detach()
        trace = average_hessian_traces(program.module(), NAMES, [shown], Classification(), seed=0)[name]
        want = trace / 2 * float(error.square().sum())
        assert found[name][Precision(weights=2)] == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("method", ["loss", "hessian"])
def test_fewer_bits_raise_the_loss_more_and_float_does_not(program: Any, task: Any,
                                                           method: str) -> None:
    tried = dict.fromkeys(NAMES, CANDIDATES)
    found = measure_sensitivities(program, task, SCHEME, tried, MIXED[method])
    assert list(found) == NAMES
    for rises in found.values():
        assert list(rises) == CANDIDATES
        assert rises[CANDIDATES[0]] == 0.0
        assert abs(rises[CANDIDATES[1]]) < 0.01
    totals = [sum(rises[precision] for rises in found.values()) for precision in CANDIDATES]
    assert totals[1] < totals[2] < totals[3]


@pytest.mark.parametrize("method", ["loss", "hessian"])
def test_same_seed_gives_the_same_rises(program: Any, task: Any, method: str) -> None:
    tried = {"again.weight": CANDIDATES}
    once, twice, other = (measure_sensitivities(program, task, SCHEME, tried, MIXED[method], seed)
                          for seed in (3, 3, 4))
    assert once == twice
    assert once != other


def test_program_is_not_modified(program: Any, task: Any) -> None:
    before, graph = program.state_dict(), str(program.graph)
    before = {name: value.clone() for name, value in before.items()}
    measure_sensitivities(program, task, SCHEME, {"head.weight": CANDIDATES}, MIXED["hessian"])
    assert str(program.graph) == graph
    torch.testing.assert_close(program.state_dict(), before, rtol=0, atol=0)


def test_test_split_is_never_read(program: Any) -> None:
    class Forbidden(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 21

        def __getitem__(self, index: Any) -> tuple[Any, ...]:
            if index:  # the first one shows what form the samples have
                raise AssertionError("the test split was read")
            return data(1, 3)[0][0], 0

    task = Task(data(160, 0), data(20, 1), Forbidden())
    found = measure_sensitivities(program, task, SCHEME, {"head.weight": CANDIDATES}, MIXED["loss"])
    assert all(math.isfinite(rise) for rise in found["head.weight"].values())


def test_a_single_sample_is_rejected(program: Any) -> None:
    task = Task(data(1, 0), data(2, 1), data(3, 2))
    with pytest.raises(DataError, match="the train split has 1 sample; at least two are needed"):
        measure_sensitivities(program, task, SCHEME, {"head.weight": CANDIDATES}, MIXED["loss"])
