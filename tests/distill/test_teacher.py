from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.distill import ModuleTeacher, Teacher, TeacherOutput
from edgewright.errors import ModelError, UsageError
from edgewright.program import Program
from edgewright.task import Batch


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5),
                         nn.Linear(8, 3))


def batch_of(count: int = 6) -> Any:
    return Batch((torch.randn(count, 4),), torch.arange(count) % 3, torch.arange(count))


def test_a_module_teaches_in_evaluation_mode_and_without_gradients() -> None:
    module, batch = net().train(), batch_of()
    taught = ModuleTeacher(module).teach(batch)
    torch.testing.assert_close(taught.outputs, module.eval()(*batch.inputs).detach())
    assert not taught.outputs.requires_grad
    assert taught.features == ()


def test_the_final_exit_is_used_and_several_heads_are_no_exits() -> None:
    class Exits(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x[:, :2] * 0, x[:, :2]

    batch = batch_of()
    assert torch.equal(ModuleTeacher(Exits(), exits=1).teach(batch).outputs, batch.inputs[0][:, :2])
    with pytest.raises(ModelError, match=r"the teacher Exits \w+ does not have 2 early exits: the "
                       r"model returns 2 outputs; expected 3: 2 early exits and the final output; "
                       r"give their number: ModuleTeacher\(model, exits=\.\.\.\)"):
        ModuleTeacher(Exits(), exits=2).teach(batch)
    program = Program.capture(Exits(), batch.inputs[0])
    for heads in (Exits(), program):
        assert len(ModuleTeacher(heads).teach(batch).outputs) == 2
    staged = Program(program.graph_module, program.example_inputs, exits=1)
    assert torch.equal(ModuleTeacher(staged).teach(batch).outputs, batch.inputs[0][:, :2])


def test_taps_return_the_tensors_of_their_nodes_in_order() -> None:
    module, batch = net().eval(), batch_of()
    program = Program.capture(module, batch.inputs[0])
    taught = ModuleTeacher(program, taps=("relu", "linear")).teach(batch)
    first = module[0](*batch.inputs)
    torch.testing.assert_close(taught.outputs, module(*batch.inputs).detach())
    torch.testing.assert_close(taught.features[0], module[2](module[1](first)).detach())
    torch.testing.assert_close(taught.features[1], first.detach())
    assert not any(feature.requires_grad for feature in taught.features)


def test_a_program_is_unchanged() -> None:
    program = Program.capture(net(), torch.zeros(2, 4))
    before = str(program.graph)
    ModuleTeacher(program, taps=("relu",))
    assert str(program.graph) == before


def test_the_name_depends_on_weights_and_structure() -> None:
    same = {ModuleTeacher(net(0)).name, ModuleTeacher(net(0)).name}
    other = {ModuleTeacher(net(1)).name, ModuleTeacher(net(0)[:3]).name,
             ModuleTeacher(Program.capture(net(0), torch.zeros(2, 4))).name}
    assert len(same) == 1
    assert len(same | other) == 4


def test_unknown_taps_are_named() -> None:
    program = Program.capture(net(), torch.zeros(2, 4))
    with pytest.raises(UsageError, match=r"no node relu_7 that computes a feature; it has .*relu"):
        ModuleTeacher(program, taps=("relu", "relu_7"))
    with pytest.raises(UsageError, match="features relu were requested from a Sequential; only a program"):
        ModuleTeacher(net(), taps=("relu",))


def test_a_module_without_logits_raises() -> None:
    class Words(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return "cat"  # type: ignore[return-value]

    with pytest.raises(ModelError, match=r"the teacher Words \w+ returned a str; expected a tensor"):
        ModuleTeacher(Words()).teach(batch_of())


def test_a_teacher_only_has_to_implement_teach() -> None:
    class Constant(Teacher):
        name = "constant"

        def teach(self, batch: Any) -> Any:
            return TeacherOutput(torch.ones(batch.size, 2))

    teacher = Constant()
    teacher.to(torch.device("cpu"))
    assert teacher.views is None
    assert teacher.teach(batch_of()).outputs.shape == (6, 2)
