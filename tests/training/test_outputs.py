"""Outputs are taken for logits, and for exits, only where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.errors import ModelError
from edgewright.goals import Classification
from edgewright.task import Task, TensorSplit
from edgewright.training import (
    GoalLoss,
    Objective,
    Training,
    check_program,
    evaluate_module,
    train,
)

SHORT = Training(epochs=1, compute="cpu")
X, Y = torch.randn(48, 8), torch.arange(48) % 3
TASK = Task((X, Y), (X[:12], Y[:12]), (X[12:30], Y[12:30]))


class Heads(nn.Module):
    """A body, and what a function makes of its logits."""

    def __init__(self, returned: Any, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, classes))
        self.returned = returned

    def forward(self, x: Tensor) -> Tensor:
        return self.returned(self.body(x))


class Two(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor


WRONG = {
    "two heads": (lambda z: (z, z + 1), r"returns 2 outputs \(0: \(7, 3\), 1: \(7, 3\)\), and the goal "
                  "classification does not say which is the prediction"),
    "a named tuple": (lambda z: Two(z, z * 2), "returns 2 outputs"),
    "one logit": (lambda z: z[:, :1], r"the output of the model is \(N, 1\) float32"),
    "frames": (lambda z: z[:, :, None] * torch.ones(4), r"is \(N, 3, 4\) float32"),
    "a map": (lambda z: z[:, :, None, None], r"is \(N, 3, 1, 1\) float32"),
    "one number": (lambda z: z[:, 0], r"is \(N,\) float32"),
    "classes": (lambda z: z.argmax(1), r"is \(N,\) int64"),
    "integers": (lambda z: z.round().long(), r"is \(N, 3\) int64"),
    "classes first": (lambda z: z.t(), r"is \(3, N\) float32|is \(3, 7\) float32"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_every_stage_rejects_invalid_outputs_before_starting(kind: Any, tmp_path: Path) -> None:
    returned, message = WRONG[kind]
    program = ew.Program.capture(Heads(returned), X)
    passes = {
        "fit": lambda: ew.fit(program, TASK, SHORT, checkpoint=tmp_path / "fit.ckpt"),
        "distil": lambda: ew.fit(program, TASK, SHORT, teacher=program),
        "cache": lambda: ew.fit(program, TASK, SHORT, teacher=program, cache=tmp_path / "cache"),
        "qat": lambda: ew.quantize(program, TASK, ew.Quantization(method=ew.QAT(training=SHORT))),
        "mixed": lambda: ew.quantize(program, TASK, ew.Quantization(
            mixed=ew.MixedPrecision(size="1 kB"))),
        "prune": lambda: ew.prune(program, TASK),
        "weights": lambda: ew.prune_weights(program, TASK, ew.WeightPruning(training=SHORT)),
        "regularize": lambda: ew.regularize(program, TASK),
        "compress": lambda: ew.compress(program, TASK, recipe="fast", out=tmp_path / "run",
                                        quiet=True),
    }
    for name, run in passes.items():
        with pytest.raises(ModelError, match=message):
            run()
        assert not list(tmp_path.iterdir()), name


def test_unnamed_outputs_raise_before_anything_is_written(tmp_path: Path) -> None:
    program = ew.Program.capture(Heads(lambda z: {"logits": z, "hidden": z * 2}), X)
    with pytest.raises(ModelError, match=r"the model returns 2 outputs \(logits: \(7, 3\), hidden: "
                       r".*name it: output='logits', or give one goal per output"):
        ew.compress(program, TASK, recipe="fast", out=tmp_path / "run", quiet=True)
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        ew.fit(program, TASK, SHORT)
    assert not list(tmp_path.iterdir())


def test_passes_that_ignore_outputs_accept_any() -> None:
    program = ew.Program.capture(Heads(lambda z: (z, z[:, :1])), X)
    pruned = ew.prune(program, TASK, ew.ChannelPruning(criterion="magnitude"))
    assert pruned.costs().macs < program.costs().macs
    assert ew.quantize(program, TASK).is_quantized


def test_exits_are_those_of_the_program(tmp_path: Path) -> None:
    program = ew.Program.capture(Heads(lambda z: z), X)
    staged = ew.add_exits(program, TASK, ew.EarlyExits(places=1, training=SHORT))
    assert check_program(staged, TASK).shape == (7, 3)
    again = ew.fit(staged, TASK, SHORT)
    assert (again.exits, len(again.run(X))) == (1, 2)
    plain = ew.Program(staged.graph_module, staged.example_inputs)  # its exits forgotten
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        ew.fit(plain, TASK, SHORT)


def test_a_module_with_more_outputs_in_training_mode_raises() -> None:
    class Auxiliary(Heads):
        def forward(self, x: Tensor) -> Any:
            z = super().forward(x)
            return (z, z) if self.training else z

    module = Auxiliary(lambda z: z)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        train(module, TASK, SHORT, GoalLoss(Classification()))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_custom_objective_supports_several_heads() -> None:
    class Both(Objective):
        def loss(self, outputs: Any, batch: Any) -> Any:
            first, second = outputs[-1]
            return GoalLoss(Classification()).loss((first,), batch) + second.square().mean()

    program = ew.Program.capture(Heads(lambda z: (z, z[:, :1])), X)
    module = program.module(train=True)
    record = train(module, TASK, Training(epochs=3, compute="cpu"), Both())
    assert {epoch.score.name for epoch in record.history} == {"loss"}
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        train(module, TASK, SHORT, GoalLoss(Classification()))


def test_a_named_output_trains_and_the_other_is_auxiliary() -> None:
    goal = Classification(output="logits")
    task = Task((X, Y), (X[:12], Y[:12]), (X[12:30], Y[12:30]), goal=goal)
    named, plain = Heads(lambda z: {"logits": z, "hidden": z * 2}), Heads(lambda z: z)
    train(named, task, SHORT, GoalLoss(goal))
    train(plain, TASK, SHORT, GoalLoss(Classification()))
    torch.testing.assert_close(named.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_shapes_are_never_broadcast() -> None:
    """An output (N, C, L) with L samples in the batch once gave an accuracy of 3.25."""
    dense = TensorSplit(torch.randn(16, 4, 16), torch.randint(0, 4, (16,)))
    with pytest.raises(ModelError, match=r"the output of the model is \(N, 4, 16\) float32"):
        evaluate_module(nn.Identity().train(), dense, Classification())
    with pytest.raises(ModelError, match=r"the output of the model is \(N, 1\) float32"):
        evaluate_module(nn.Identity(), TensorSplit(torch.randn(16, 1), torch.zeros(16, dtype=torch.long)),
                        Classification())


def test_a_failed_check_restores_the_mode() -> None:
    module = nn.Identity().train()
    with pytest.raises(ModelError):
        evaluate_module(module, TensorSplit(torch.randn(4, 3, 2), torch.zeros(4).long()),
                        Classification())
    assert module.training


def test_complex_outputs_raise() -> None:
    with pytest.raises(ModelError, match=r"is \(N, 3\) complex64; expected floating-point logits"):
        Classification().check_outputs(torch.zeros(4, 3, dtype=torch.complex64), (X[:4],))
