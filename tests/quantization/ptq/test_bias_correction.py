"""Bias correction: a single pass compared with one pass per layer, and its benefit."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.programs import measure_accuracies
from torch import Tensor, nn
from torch.fx import Interpreter

from edgewright.errors import DataError
from edgewright.goals import Classification
from edgewright.program import Program, fold_batch_norm
from edgewright.quantization import Precision, Quantization, resolve
from edgewright.quantization.calibration import create_observer
from edgewright.quantization.placement._placement import place
from edgewright.quantization.ptq._bias_correction import add_biases, correct_bias
from edgewright.quantization.simulation._simulate import simulate_quantization
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, train


def quantized(program: Program, x: Any, **settings: Any) -> tuple[Any, ...]:
    """A simulation whose ranges are the extremes, and the calls of its quantized layers."""
    scheme = resolve(Quantization(range_estimator="minmax", **settings))
    placement = place(program, scheme)
    simulation = simulate_quantization(program, placement)
    state = simulation.state()
    for point in placement.weights:
        observer = create_observer(scheme.range_estimator, point.grid)
        observer.update(state[point.tensor])
        simulation.weights[point.tensor].set_range(*observer.range())
        simulation.weights[point.tensor].mode = "quantize"
    for value in placement.activations:
        quantizer = simulation.activations[value.name]
        quantizer.observer = create_observer(scheme.range_estimator, value.grid)
        quantizer.mode = "observe"
    with torch.no_grad():
        simulation.module(x)
    for quantizer in simulation.activations.values():
        assert quantizer.observer is not None
        quantizer.set_range(*quantizer.observer.range())
        quantizer.mode = "quantize"
    return simulation.module, [name for point in placement.weights for name in point.layers]


class Means(Interpreter):
    """The mean of every value over all but the channels."""

    def __init__(self, module: nn.Module, dims: Any) -> None:
        super().__init__(module)
        self.dims = dims
        self.found: dict[str, Tensor] = {}

    def run_node(self, n: Any) -> Any:
        value = super().run_node(n)
        if n.name in self.dims:
            dims = [d for d in range(value.ndim) if d != self.dims[n.name] % value.ndim]
            self.found[n.name] = value.double().mean(dims)
        return value


def mean_errors(module: nn.Module, original: Any, x: Any, dims: Any) -> Any:
    both = []
    for graph in (module, original):
        means = Means(graph, dims)
        with torch.no_grad():
            means.run(x, enable_io_processing=False)
        both.append(means.found)
    return {name: both[0][name] - both[1][name] for name in dims}


def biases_of(module: torch.fx.GraphModule, layers: Any) -> Any:
    nodes = {node.name: node for node in module.graph.nodes}
    parameters = dict(module.named_parameters())
    return {name: parameters[str(nodes[name].args[2].target)].detach() for name in layers}


def corrected_layer_by_layer(module: torch.fx.GraphModule, original: Any, x: Any, dims: Any) -> None:
    """The slow way: a pass over all data for each layer, front to back."""
    biases = biases_of(module, dims)
    for name in dims:
        biases[name].sub_(mean_errors(module, original, x, dims)[name])


@pytest.fixture
def data() -> Any:
    torch.manual_seed(3)
    return torch.randn(96, 3, 8, 8) + 0.3


@pytest.fixture
def folded(small: Program) -> Any:
    return add_biases(fold_batch_norm(small))


DIMS = {"conv2d": 1, "conv2d_1": 1, "conv2d_2": 1, "linear": -1, "linear_1": -1}


def test_one_batch_matches_one_pass_per_layer(folded: Any, data: Any) -> None:
    original = folded.module()
    fast, layers = quantized(folded, data, weights=4, granularity="per_tensor")
    slow, _ = quantized(folded, data, weights=4, granularity="per_tensor")
    assert set(layers) == set(DIMS)
    before = {name: bias.clone() for name, bias in biases_of(fast, DIMS).items()}
    correct_bias(fast, original, [(data,)])
    corrected_layer_by_layer(slow, original, data, DIMS)
    for name in DIMS:
        have, want = biases_of(fast, DIMS)[name], biases_of(slow, DIMS)[name]
        assert float((want - before[name]).norm()) > 1e-3
        torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4)


def test_several_batches_nearly_match_one_pass_per_layer(folded: Any, data: Any) -> None:
    original = folded.module()
    fast, _ = quantized(folded, data, weights=3, granularity="per_tensor")
    slow, _ = quantized(folded, data, weights=3, granularity="per_tensor")
    before = mean_errors(fast, original, data, DIMS)
    correct_bias(fast, original, [(batch,) for batch in data.split(16)])
    corrected_layer_by_layer(slow, original, data, DIMS)
    left = mean_errors(fast, original, data, DIMS)
    for name in DIMS:
        assert float(left[name].norm()) < 0.1 * float(before[name].norm())
        have, want = biases_of(fast, DIMS)[name], biases_of(slow, DIMS)[name]
        assert float((have - want).norm()) < 0.1 * float(before[name].norm())


def test_batches_are_weighted_by_their_samples(folded: Any, data: Any) -> None:
    original = folded.module()
    results = []
    for batches in (data.split(90), data.split(16)):
        module, _ = quantized(folded, data, weights=3, granularity="per_tensor")
        correct_bias(module, original, [(batch,) for batch in batches])
        results.append(mean_errors(module, original, data, DIMS)["conv2d"])
    assert [float(left.abs().max()) < 1e-5 for left in results] == [True, True]


def test_low_bits_gain_accuracy(colour_task: Task) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(),
                        nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.ReLU(),
                        nn.Conv2d(12, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(12, 3))
    train(net, colour_task, Training(epochs=8, batch_size=32, lr=0.05), GoalLoss(Classification()))
    program = Program.capture(net.eval(), torch.zeros(1, 3, 8, 8))
    x = colour_task.train.example(256)[0]
    settings = {"weights": 3, "granularity": "per_tensor", "first_last_bits": None}
    plain, _ = quantized(program, x, **settings)
    corrected, _ = quantized(program, x, **settings)
    correct_bias(corrected, program.module(), [(batch,) for batch in x.split(64)])
    test = colour_task.test.example(200)[0]
    want = program.run(test)
    with torch.no_grad():
        errors = [float((want - module(test)).norm()) for module in (plain, corrected)]
    assert errors[1] < 0.85 * errors[0]
    figures = [measure_accuracies(module, colour_task.test)[-1] for module in (plain, corrected)]
    assert figures[1] > figures[0]


def test_only_quantized_layers_change(folded: Any, data: Any) -> None:
    layers = {"one": None, "head": Precision(weights=8)}
    module, names = quantized(folded, data, weights=3, layers=layers)
    assert "conv2d_1" not in names
    before = {name: value.clone() for name, value in module.state_dict().items()}
    correct_bias(module, folded.module(), [(data,)])
    changed = {name for name, value in module.state_dict().items()
               if not torch.equal(value, before[name])}
    assert changed == {"stem.bias", "two.bias", "hidden.bias", "head.bias"}


def test_batches_are_released_one_by_one(folded: Any, data: Any) -> None:
    module, _ = quantized(folded, data)
    seen: list[Any] = []
    alive: list[int] = []

    def batches() -> Iterator[Any]:
        for start in range(0, 96, 16):
            alive.append(sum(reference() is not None for reference in seen))
            batch = data[start:start + 16].clone()
            seen.append(weakref.ref(batch))
            yield (batch,)
            del batch

    correct_bias(module, folded.module(), batches())
    assert len(alive) == 6
    assert max(alive) <= 1  # the one before, until the next is there


class Shared(nn.Module):
    """One linear layer twice, on (B, N, C), and a convolution in one dimension, without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.wave = nn.Conv1d(2, 6, 3, padding=1, bias=False)
        self.twice = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wave(x).relu().transpose(1, 2)
        return self.head(self.twice(self.twice(x).relu()).relu()).mean(1)


@pytest.fixture
def shared() -> Any:
    torch.manual_seed(0)
    return Program.capture(Shared().eval(), torch.zeros(1, 2, 8))


def test_missing_biases_are_added(shared: Any) -> None:
    x = torch.randn(5, 2, 8)
    added = add_biases(shared)
    assert set(added.state_dict()) - set(shared.state_dict()) == {"wave.bias", "head.bias"}
    assert [added.state_dict()[f"{name}.bias"].shape for name in ("wave", "head")] == [(6,), (3,)]
    assert torch.equal(added.run(x), shared.run(x))
    assert add_biases(added) is added


def test_added_biases_get_unused_names() -> None:
    class Taken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 3))
            self.bias = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x + self.bias, self.weight)

    program = Program.capture(Taken(), torch.zeros(1, 3))
    added = add_biases(program)
    assert sorted(added.state_dict()) == ["bias", "bias_1", "weight"]
    assert torch.equal(added.run(torch.ones(1, 3)), program.run(torch.ones(1, 3)))


def test_calls_that_share_a_bias_get_the_mean_of_their_errors(shared: Any) -> None:
    program = add_biases(shared)
    x = torch.randn(64, 2, 8)
    module, layers = quantized(program, x, weights=3, granularity="per_tensor")
    assert layers == ["conv1d", "linear", "linear_1", "linear_2"]
    dims = {"conv1d": 1, "linear": -1, "linear_1": -1, "linear_2": -1}
    correct_bias(module, program.module(), [(x,)])
    left = mean_errors(module, program.module(), x, dims)
    assert float(left["conv1d"].abs().max()) < 1e-5
    before = biases_of(program.module(), ["linear"])["linear"]
    assert not torch.equal(biases_of(module, ["linear"])["linear"], before)


def test_missing_batches_are_rejected(folded: Any, data: Any) -> None:
    module, _ = quantized(folded, data)
    with pytest.raises(DataError, match=r"^bias correction got no batch of inputs; pass at least "
                                        r"one$"):
        correct_bias(module, folded.module(), [])


def test_inputs_that_are_not_finite_are_rejected(folded: Any, data: Any) -> None:
    module, _ = quantized(folded, data)
    broken = data.clone()
    broken[3, 1] = float("nan")
    with pytest.raises(DataError, match=r"^the outputs of the layer with the bias 'stem.bias' are "
                                        "not finite; check the inputs and the weights for NaN"):
        correct_bias(module, folded.module(), [(broken,)])


def test_quantized_activation_times_stored_tensor_is_not_a_layer(net: Any) -> None:
    """lerp reads its second value quantized and its third from a buffer, as a layer would."""
    torch.manual_seed(0)
    model = net(lambda m, x: m.h(torch.lerp(x, m.a(x).relu(), m.share)),
                a=nn.Linear(6, 6), h=nn.Linear(6, 3))
    model.register_buffer("share", torch.rand(6))
    x = torch.randn(64, 6)
    program = Program.capture(model.eval(), x[:2])
    module, layers = quantized(program, x)
    before = {name: bias.clone() for name, bias in biases_of(module, layers).items()}
    correct_bias(module, program.graph_module, [(x,)])
    after = biases_of(module, layers)
    assert set(layers) == {"linear", "linear_1"}
    assert not any(torch.equal(before[name], after[name]) for name in layers)
    assert torch.equal(dict(module.named_buffers())["share"], model.share)
