"""Outputs are taken for logits, and for exits, only where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.errors import ModelError
from edgewright.quantization import MixedPrecision
from edgewright.task import Task, TensorSplit
from edgewright.training import (
    LabelLoss,
    Objective,
    Training,
    check_logits,
    check_program,
    evaluate_module,
    predict,
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
    "two heads": (lambda z: (z, z + 1), r"returns 2 outputs \(\(N, 3\) float32, \(N, 3\) float32\)"),
    "a named tuple": (lambda z: Two(z, z * 2), "returns 2 outputs"),
    "one logit": (lambda z: z[:, :1], r"output 0 of the model is \(N, 1\) float32"),
    "frames": (lambda z: z[:, :, None] * torch.ones(4), r"is \(N, 3, 4\) float32"),
    "a map": (lambda z: z[:, :, None, None], r"is \(N, 3, 1, 1\) float32"),
    "one number": (lambda z: z[:, 0], r"is \(N,\) float32"),
    "classes": (lambda z: z.argmax(1), r"is \(N,\) int64"),
    "integers": (lambda z: z.round().long(), r"is \(N, 3\) int64"),
    "classes first": (lambda z: z.t(), r"is \(3, N\) float32|is \(3, 7\) float32"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_every_pass_refuses_them_before_it_works(kind: Any, tmp_path: Path) -> None:
    returned, message = WRONG[kind]
    program = ew.Program.capture(Heads(returned), X)
    passes = {
        "fit": lambda: ew.fit(program, TASK, SHORT, checkpoint=tmp_path / "fit.ckpt"),
        "distil": lambda: ew.fit(program, TASK, SHORT, teacher=program),
        "cache": lambda: ew.fit(program, TASK, SHORT, teacher=program, cache=tmp_path / "cache"),
        "qat": lambda: ew.quantize(program, TASK, ew.Quantization(method=ew.QAT(training=SHORT))),
        "mixed": lambda: ew.quantize(program, TASK, ew.Quantization(
            mixed=MixedPrecision(size="1 kB"))),
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


def test_a_dict_is_refused_by_name_before_anything_is_written(tmp_path: Path) -> None:
    program = ew.Program.capture(Heads(lambda z: {"logits": z}), X)
    with pytest.raises(ModelError, match="the model returned a dict; expected a tensor of logits"):
        ew.compress(program, TASK, recipe="fast", out=tmp_path / "run", quiet=True)
    with pytest.raises(ModelError, match="the model returned a dict"):
        ew.fit(program, TASK, SHORT)
    assert not list(tmp_path.iterdir())


def test_what_looks_at_no_output_takes_any() -> None:
    program = ew.Program.capture(Heads(lambda z: (z, z[:, :1])), X)
    pruned = ew.prune(program, TASK, ew.ChannelPruning(criterion="magnitude"))
    assert pruned.costs().macs < program.costs().macs
    assert ew.quantize(program, TASK).is_quantized


def test_exits_are_the_programs_own(tmp_path: Path) -> None:
    program = ew.Program.capture(Heads(lambda z: z), X)
    staged = ew.add_exits(program, TASK, ew.EarlyExits(places=1, training=SHORT))
    assert check_program(staged, TASK) == 3
    again = ew.fit(staged, TASK, SHORT)
    assert (again.exits, len(again.run(X))) == (1, 2)
    plain = ew.Program(staged.graph_module, staged.example_inputs)  # its exits forgotten
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        ew.fit(plain, TASK, SHORT)


def test_a_module_that_returns_more_in_training_is_refused() -> None:
    class Auxiliary(Heads):
        def forward(self, x: Tensor) -> Any:
            z = super().forward(x)
            return (z, z) if self.training else z

    module = Auxiliary(lambda z: z)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        train(module, TASK, SHORT, LabelLoss())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_an_objective_of_ones_own_takes_several_heads() -> None:
    class Both(Objective):
        def loss(self, outputs: Any, batch: Any) -> Any:
            first, second = outputs
            return LabelLoss().loss((first,), batch) + second.square().mean()

    program = ew.Program.capture(Heads(lambda z: (z, z[:, :1])), X)
    module = program.module(train=True)
    record = train(module, TASK, Training(epochs=3, compute="cpu"), Both())
    assert {epoch.score.name for epoch in record.history} == {"loss"}
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        train(module, TASK, SHORT, LabelLoss())


@pytest.mark.parametrize("judge", [evaluate_module, predict])
def test_nothing_is_ever_broadcast(judge: Any) -> None:
    """An output (N, C, L) with L samples in the batch once gave an accuracy of 3.25."""
    dense = TensorSplit(torch.randn(16, 4, 16), torch.randint(0, 4, (16,)))
    with pytest.raises(ModelError, match=r"output 0 of the model is \(N, 4, 16\) float32"):
        judge(nn.Identity().train(), dense)
    with pytest.raises(ModelError, match=r"output 0 of the model is \(N, 1\) float32"):
        judge(nn.Identity(), TensorSplit(torch.randn(16, 1), torch.zeros(16, dtype=torch.long)))


def test_a_refusal_leaves_the_module_in_its_mode() -> None:
    module = nn.Identity().train()
    with pytest.raises(ModelError):
        evaluate_module(module, TensorSplit(torch.randn(4, 3, 2), torch.zeros(4).long()))
    assert module.training


def test_complex_outputs_are_no_logits() -> None:
    with pytest.raises(ModelError, match=r"is \(N, 3\) complex64; expected logits"):
        check_logits([torch.zeros(4, 3, dtype=torch.complex64)], samples=4)
