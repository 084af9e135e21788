from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from edgewright.capture import make_trainable
from edgewright.errors import UsageError
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import Compute, GoalLoss, Training, evaluate_module, train
from edgewright.training._compile import try_compile
from edgewright.training._passes import time_passes

CPU = {"compute": "cpu"}
ALWAYS, NEVER = -1.0, 2.0  # a clock in which compiled passes are faster, or slower


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(self.dropout(x.mean((2, 3))))


def captured(net: Any, example: Any) -> Any:
    return make_trainable(Program.capture(net, example).graph_module)


def state_of(module: nn.Module) -> Any:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Compiled without a C++ compiler: traced, differentiated, and run by eager kernels."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, options, **kwargs: real(
        run, backend="aot_eager", **kwargs))
    before = counters["stats"]["unique_graphs"]
    return lambda: counters["stats"]["unique_graphs"] - before


@pytest.fixture
def fast_when_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets compiled passes seem faster than eager ones, and long enough to pay."""
    real = time_passes
    monkeypatch.setattr("edgewright.training._compile.time_passes",
                        lambda module, call, inputs: (
        real(module, call, inputs)[0], 10.0 if call is module else 5.0))


@pytest.mark.parametrize("make", [lambda net, _: net, captured], ids=["module", "captured"])
def test_training_compiles_once_and_gives_the_same_result(traced: Any, quadrant_task: Task,
                                                          make: Any) -> None:
    states, records = [], []
    for compile_ in (False, True):
        module = make(Net(dropout=0.2), quadrant_task.train.example(2))
        keys = list(module.state_dict())
        config = Training(epochs=3, batch_size=40, lr=0.01, compute=Compute(accelerator="cpu", compile=compile_))
        records.append(train(module, quadrant_task, config, GoalLoss(Classification())))
        assert list(module.state_dict()) == keys
        assert not module.training
        states.append(state_of(module))
    assert traced() == 1
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-4, atol=1e-5)
    assert records[0].notes == ()
    assert records[1].notes[0].startswith("compiled in ")
    assert [e.loss for e in records[1].history] == pytest.approx(
        [e.loss for e in records[0].history], rel=1e-4)


def test_trying_to_compile_has_no_side_effects(traced: Any) -> None:
    net, inputs = Net(dropout=0.5).eval(), (torch.randn(8, 1, 8, 8),)
    before, random = state_of(net), torch.get_rng_state()
    choice = try_compile(net, inputs, True, 1, nullcontext)
    assert choice.module is not net
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert not net.training


def test_other_batch_sizes_and_evaluation_run_eagerly(traced: Any) -> None:
    net = Net()
    run = try_compile(net, (torch.randn(8, 1, 8, 8),), True, 1, nullcontext).module
    graphs = traced()
    x = torch.randn(5, 1, 8, 8)
    net.train()
    torch.testing.assert_close(run(x), net(x))
    net.eval()
    x = torch.randn(8, 1, 8, 8)
    torch.testing.assert_close(run(x), net(x))
    assert traced() == graphs == 1


def test_a_module_with_data_dependent_control_flow_stays_eager(traced: Any,
                                                               fast_when_compiled: Any) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale if x.max() > 0 else -x * self.scale

    net = Branches()
    choice = try_compile(net, (torch.randn(4, 3),), "auto", 1000, nullcontext)
    assert choice.module is net
    assert choice.notes[0].startswith("not compiled: torch.compile failed: ")


def test_more_runs_per_process_than_the_recompile_limit(traced: Any) -> None:
    for _ in range(12):
        try_compile(nn.Linear(3, 2), (torch.randn(4, 3),), True, 1, nullcontext)
    assert traced() == 12


def test_auto_does_not_compile_short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", None)
    net = Net()
    choice = try_compile(net, (torch.randn(8, 1, 8, 8),), "auto", 10, nullcontext)
    assert choice.module is net
    assert choice.notes[0].startswith("not compiled: 10 passes of about ")


def test_auto_keeps_the_faster_version(traced: Any, fast_when_compiled: Any,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs = Net(), (torch.randn(8, 1, 8, 8),)
    choice = try_compile(net, inputs, "auto", 1000, nullcontext)
    assert choice.module is not net
    assert choice.notes[0].endswith("a pass takes 0.50 times as long as an eager one")
    faster = time_passes
    monkeypatch.setattr("edgewright.training._compile.time_passes",
                        lambda module, call, inputs: (
        faster(module, call, inputs)[0], 10.0 if call is module else 11.0))
    choice = try_compile(net, inputs, "auto", 1000, nullcontext)
    assert choice == (net, ("not compiled: a compiled pass takes 1.10 times as long as an eager one",))


@pytest.mark.parametrize("reason", ["torch.compile failed: no compiler", "compiled gradients differ"])
def test_uncompilable_modules_raise_or_stay_eager(reason: str, fast_when_compiled: Any,
                                                  monkeypatch: pytest.MonkeyPatch) -> Any:
    def broken(run: Any, **_: Any) -> Any:
        def compiled_run(x: Any) -> Any:
            if "differ" in reason:
                return run(x) + 0.3 * run(x).detach().roll(1)
            raise RuntimeError("no compiler\nfor this\n")

        return compiled_run

    monkeypatch.setattr(torch, "compile", broken)
    net, inputs = Net(), (torch.randn(8, 1, 8, 8),)
    choice = try_compile(net, inputs, "auto", 1000, nullcontext)
    assert choice.module is net
    assert choice.notes[0].startswith(f"not compiled: {reason}")
    with pytest.raises(UsageError, match=f"compile=True, but Net cannot be trained compiled: "
                       f"{reason}.*; set compile to 'auto' or False"):
        try_compile(net, inputs, True, 1000, nullcontext)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_missing_compiler_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with (torch._inductor.config.patch({"cpp.cxx": ("/nowhere/c++",), "fx_graph_cache": False}),
          torch._functorch.config.patch(enable_autograd_cache=False),
          pytest.raises(UsageError, match=r"torch\.compile failed: .*compiler")):
        try_compile(nn.Linear(3, 2), (torch.randn(4, 3),), True, 1, nullcontext)


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled_kernels_train_like_eager_ones(quadrant_task: Task) -> None:
    task = Task(quadrant_task.train, quadrant_task.val, quadrant_task.test)
    accuracies = []
    for compile_ in (False, True):
        module = captured(Net(), task.train.example(2))
        train(module, task, Training(epochs=2, batch_size=32, compute=Compute(accelerator="cpu", compile=compile_)), GoalLoss(Classification()))
        accuracies.append(evaluate_module(module, task.val, Classification())[-1])
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.1)
