from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.distill import Ensemble, FileTeacher, ModuleTeacher, as_program, as_teacher
from edgewright.errors import UsageError
from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.task import Batch

BATCH = Batch((torch.ones(3, 4),), torch.zeros(3, dtype=torch.long), torch.arange(3))


@pytest.fixture
def module() -> Any:
    return nn.Linear(4, 2)


@pytest.fixture
def program(module: Any) -> Any:
    return Program.capture(module, torch.zeros(2, 4))


def test_every_form_of_teacher_gives_the_same_output(module: Any, program: Any, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(module.state_dict(), "weights.pt")
    (tmp_path / "net.py").write_text(
        "import torch\n\ndef make():\n    net = torch.nn.Linear(4, 2)\n"
        "    net.load_state_dict(torch.load('weights.pt'))\n    return net\n")
    program.save("saved.pt2")
    (tmp_path / "file.onnx").write_bytes(to_onnx(program))
    forms = [module, program, "net.py:make", "saved.pt2", tmp_path / "saved.pt2", "file.onnx",
             tmp_path / "file.onnx", [module, "file.onnx"], ModuleTeacher(module)]
    teachers = [as_teacher(form) for form in forms]
    for teacher in teachers:
        torch.testing.assert_close(teacher.teach(BATCH).outputs, module(*BATCH.inputs).detach())
    kinds = [type(teacher) for teacher in teachers]
    assert kinds == [*[ModuleTeacher] * 5, FileTeacher, FileTeacher, Ensemble, ModuleTeacher]


def test_a_module_is_captured_for_its_features(module: Any, program: Any) -> None:
    assert as_program(program, BATCH.inputs) is program
    captured = as_program(module, BATCH.inputs)
    assert captured.state_dict().keys() == {"weight", "bias"}


def test_teachers_without_nodes_have_no_features(module: Any, program: Any) -> None:
    for given, kind in (([module, module], "list"), (ModuleTeacher(module), "ModuleTeacher")):
        with pytest.raises(UsageError, match=f"a teacher that is a {kind} has no features"
                                             "; give one program or module"):
            as_program(given, BATCH.inputs)


def test_invalid_teachers_raise(module: Any) -> None:
    with pytest.raises(UsageError, match="a int cannot be a teacher; expected a program"):
        as_teacher(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'resnet' is not a model reference"):
        as_teacher("resnet")
    with pytest.raises(UsageError, match="an ensemble needs at least two teachers, got 1"):
        as_teacher([module])
