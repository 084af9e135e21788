"""A teacher that is compiled once it has taught for long enough."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgewright.distill import (
    CompiledTeacher,
    Distillation,
    ModuleTeacher,
    compile_teacher,
    fit,
)
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.task import Batch, Task
from edgewright.training import Training

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def program() -> Program:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
                        nn.Linear(16 * 36, 5)).eval()
    return Program.capture(net, torch.zeros(2, 3, 8, 8))


def batch_of(count: int) -> Batch:
    generator = torch.Generator().manual_seed(count)
    return Batch((torch.randn(count, 3, 8, 8, generator=generator),), None, torch.arange(count))


def test_compiled_outputs_are_those_of_the_program(program: Program) -> None:
    teacher, plain = CompiledTeacher(program, seconds=0.0), ModuleTeacher(program)
    first = teacher.teach(batch_of(6)).outputs
    assert teacher.is_compiled
    assert torch.equal(first, plain.teach(batch_of(6)).outputs)  # before it was compiled
    found, expected = teacher.teach(batch_of(6)).outputs, plain.teach(batch_of(6)).outputs
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert float((found - expected).abs().max()) < 0.05 * float(expected.std())


def test_a_batch_of_another_size_runs_as_it_is(program: Program) -> None:
    teacher = CompiledTeacher(program, seconds=0.0)
    teacher.teach(batch_of(6))
    assert torch.equal(teacher.teach(batch_of(3)).outputs,
                       ModuleTeacher(program).teach(batch_of(3)).outputs)


def test_it_is_not_compiled_before_that_pays(program: Program) -> None:
    teacher = CompiledTeacher(program, seconds=1000.0)
    teacher.teach(batch_of(6))
    assert not teacher.is_compiled


def test_it_goes_on_as_it_is_if_compilation_fails(program: Program,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    teacher = CompiledTeacher(program, seconds=0.0)
    expected = ModuleTeacher(program).teach(batch_of(6)).outputs
    assert torch.equal(teacher.teach(batch_of(6)).outputs, expected)
    assert torch.equal(teacher.teach(batch_of(6)).outputs, expected)
    assert not teacher.is_compiled


def test_it_goes_on_as_it_is_if_compiled_outputs_differ(program: Program,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, **_: lambda x: 2 * module(x))
    teacher = CompiledTeacher(program, seconds=0.0)
    teacher.teach(batch_of(6))
    assert not teacher.is_compiled


def test_it_is_known_as_the_program(program: Program) -> None:
    teacher = CompiledTeacher(program, seconds=0.0)
    assert teacher.name == ModuleTeacher(program).name
    other = copy.copy(teacher)  # as in another process, where it runs as it is
    assert isinstance(other, ModuleTeacher)
    assert other.name == teacher.name


def test_only_the_final_exit_teaches() -> None:
    class Exits(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x * 2, x * 3

    captured = Program.capture(Exits(), torch.zeros(2, 4))
    program = Program(captured.graph_module, captured.example_inputs, exits=1)
    teacher = CompiledTeacher(program, seconds=0.0)
    batch = Batch((torch.ones(6, 4),), None, torch.arange(6))
    teacher.teach(batch)
    assert teacher.is_compiled
    assert teacher.teach(batch).outputs.tolist() == [[3.0] * 4] * 6


def test_an_exported_file_is_not_compiled() -> None:
    teacher = ModuleTeacher(nn.Linear(4, 2))
    assert compile_teacher(teacher, (torch.zeros(2, 4),)) is teacher


def test_a_compiled_teacher_teaches_features_too(program: Program) -> None:
    images = torch.randn(16, 3, 8, 8)
    task = Task((images, torch.arange(16) % 5), test=(images, torch.arange(16) % 5))
    hints = Distillation(features="hints")
    trained, plain = (fit(program, task, Training(epochs=1, compute="cpu"), teacher=teacher,
                          distillation=hints)
                      for teacher in (CompiledTeacher(program), program))
    expected = plain.state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in trained.state_dict().items())


@pytest.mark.parametrize("taps", [("relu",), ("conv2d", "relu")])
def test_compiled_features_are_those_of_the_program(program: Program,
                                                    taps: tuple[str, ...]) -> None:
    teacher, plain = CompiledTeacher(program, seconds=0.0).tap(taps), ModuleTeacher(program, taps)
    teacher.teach(batch_of(6))
    found, expected = teacher.teach(batch_of(6)), plain.teach(batch_of(6))
    assert len(found.features) == len(taps)
    for one, other in zip((*found.features, found.outputs),
                          (*expected.features, expected.outputs), strict=True):
        assert one.dtype == torch.float32
        assert float((one - other).abs().max()) < 0.1 * float(other.std())


def test_taps_share_one_compiled_teacher(program: Program) -> None:
    teacher = CompiledTeacher(program)
    assert teacher.tap(["relu"]) is teacher.tap(("relu",))
    assert teacher.tap(["relu"]) is not teacher.tap(["relu", "conv2d"])
    with pytest.raises(UsageError, match="the teacher has no node nothing"):
        teacher.tap(["nothing"])
