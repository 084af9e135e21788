from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from edgewright.bundle import write_bundle
from edgewright.core import (
    Budget,
    ExitRule,
    Figures,
    Manifest,
    ModelSpec,
    OperatingPoint,
    RunReport,
    Segment,
    TensorSpec,
)
from edgewright.distill import FileTeacher, ModuleTeacher
from edgewright.errors import BundleError, ModelError
from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.task import Batch


@pytest.fixture(scope="module")
def program() -> Any:
    torch.manual_seed(0)
    return Program.capture(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(),
                                         nn.Linear(16, 3)), torch.zeros(2, 2, 4, 4))


@pytest.fixture(scope="module")
def file(program: Any) -> Any:
    return to_onnx(program)


@pytest.fixture
def batch() -> Any:
    inputs = torch.randn(5, 2, 4, 4).to(memory_format=torch.channels_last)
    return Batch((inputs,), torch.arange(5) % 3, torch.arange(5))


def bundle_of(files: Any, path: Path) -> Any:
    """A bundle whose early segments every sample would leave at."""
    spec = {"dtype": "float32"}
    segments = tuple(Segment(file=f"segments/{index}.onnx", sha256="", size_bytes=0, macs=1,
                             energy_mj=0.1, ram_bytes=8)
                     for index in range(len(files)))
    model = ModelSpec(
        name="tiny", inputs=(TensorSpec(name="x", shape=(None, 2, 4, 4), **spec),),
        outputs=(TensorSpec(name="y", shape=(None, 3), **spec),), segments=segments,
        points=(OperatingPoint(name="default", path=range(len(files)),
                               rules=(ExitRule(threshold=0.0),) * (len(files) - 1)),))
    report = RunReport(data="none", recipe={}, seed=0, budget=Budget(), versions={}, machine="any",
                       original=Figures(), compressed=Figures(), simulated=Figures())
    manifest = Manifest(model=model, report=report)
    write_bundle(path, manifest, {segment.file: file
                                  for segment, file in zip(segments, files, strict=True)})
    return path


@pytest.mark.parametrize("form", ["onnx", "edge"])
def test_a_file_gives_the_outputs_of_its_program(program: Any, file: Any, batch: Any,
                                                 tmp_path: Path, form: str) -> None:
    path = tmp_path / f"teacher.{form}"
    if form == "onnx":
        path.write_bytes(file)
    else:
        bundle_of([file], path)
    taught = FileTeacher(path, threads=1).teach(batch)
    expected = ModuleTeacher(program).teach(batch)
    torch.testing.assert_close(taught.outputs, expected.outputs, rtol=1e-4, atol=1e-5)
    assert taught.features == ()


def test_a_bundle_uses_its_last_exit(batch: Any, tmp_path: Path) -> None:
    early = Program.capture(Early(), torch.zeros(2, 2, 4, 4))
    late = Program.capture(Late(), torch.zeros(2, 2, 4, 4))
    path = bundle_of([to_onnx(early), to_onnx(late)], tmp_path / "staged.edge")
    taught = FileTeacher(path, threads=1).teach(batch)
    torch.testing.assert_close(taught.outputs, batch.inputs[0].flatten(1)[:, :3] + 2)


class Early(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x.flatten(1)[:, :3] * 0, x + 1


class Late(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + 1).flatten(1)[:, :3]


def test_several_outputs_are_a_tuple(batch: Any, tmp_path: Path) -> None:
    path = tmp_path / "heads.onnx"
    path.write_bytes(to_onnx(Program.capture(Early(), torch.zeros(2, 2, 4, 4))))
    first, second = FileTeacher(path).teach(batch).outputs
    assert torch.equal(first, torch.zeros(5, 3))
    torch.testing.assert_close(second, batch.inputs[0] + 1)


def test_the_name_includes_a_hash_of_the_file(file: Any, tmp_path: Path) -> None:
    model = onnx.load_from_string(file)
    model.doc_string = "another"
    names = []
    for index, content in enumerate((file, model.SerializeToString(), file)):
        path = tmp_path / str(index) / "teacher.onnx"
        path.parent.mkdir()
        path.write_bytes(content)
        names.append(FileTeacher(path).name)
    assert names[0] == names[2] != names[1]
    assert all(name.startswith("teacher.onnx ") for name in names)


def test_another_process_opens_the_file_itself(file: Any, batch: Any, tmp_path: Path) -> None:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(file)
    teacher = FileTeacher(path, threads=1)
    again = pickle.loads(pickle.dumps(teacher))  # noqa: S301 - of this very test
    assert again.name == teacher.name
    assert torch.equal(again.teach(batch).outputs, teacher.teach(batch).outputs)


def test_logits_are_returned_on_the_training_device(file: Any, batch: Any, tmp_path: Path) -> None:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(file)
    teacher = FileTeacher(path)
    teacher.to(torch.device("meta"))
    assert teacher.teach(batch).outputs.device.type == "meta"


def test_invalid_files_raise(tmp_path: Path, batch: Any) -> None:
    with pytest.raises(BundleError, match=r"cannot read the teacher .*gone\.onnx: No such file"):
        FileTeacher(tmp_path / "gone.onnx")
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    with pytest.raises(BundleError, match="cannot load the model"):
        FileTeacher(tmp_path / "odd.onnx")
    (tmp_path / "odd.edge").write_bytes(b"odd")
    with pytest.raises(BundleError, match="is not a bundle"):
        FileTeacher(tmp_path / "odd.edge")


def test_a_file_that_returns_class_indices_raises(tmp_path: Path, batch: Any) -> None:
    class Decides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).argmax(dim=1)

    path = tmp_path / "decides.onnx"
    path.write_bytes(to_onnx(Program.capture(Decides(), torch.zeros(2, 2, 4, 4))))
    with pytest.raises(ModelError, match=r"returns int64; expected floating-point logits or values: .* without its argmax"):
        FileTeacher(path).teach(batch)


def test_inputs_that_the_file_does_not_accept_raise(file: Any, tmp_path: Path) -> None:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(file)
    with pytest.raises(BundleError, match="the model does not accept these inputs"):
        FileTeacher(path).teach(Batch((torch.zeros(2, 5),), torch.zeros(2), torch.arange(2)))
