"""A path chosen by the input: `torch.cond` is captured; a Python `if` is refused with the ways out."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.exporters import export
from edgewright.program import Program
from edgewright.runtime import OnnxEngine


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        return torch.cond(x.sum() > 0, self.a, self.b, (x,))


class Branch(Conditional):
    def forward(self, x: Tensor) -> Any:
        return self.a(x) if x.sum() > 0 else self.b(x)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = Conditional().eval()
    path = tmp_path_factory.mktemp("cond") / "cond.pt2"
    Program.capture(model, torch.randn(2, 4)).save(path)
    return model, path


def test_both_branches_survive_saving_and_export(saved: Any, tmp_path: Path) -> None:
    model, path = saved
    program = Program.load(path)
    export(program, "onnx", tmp_path / "cond.onnx")
    engine = OnnxEngine((tmp_path / "cond.onnx").read_bytes())
    for x in (torch.ones(3, 4), -torch.ones(3, 4)):
        expected = (model.a if x.sum() > 0 else model.b)(x).detach()
        assert torch.allclose(program.run(x), expected, atol=1e-6)
        assert np.allclose(engine.run((x.numpy(),))[0], expected.numpy(), atol=1e-5)


def test_a_branch_that_could_run_code_is_refused(saved: Any, tmp_path: Path) -> None:
    changed = io.BytesIO()
    with zipfile.ZipFile(saved[1]) as archive, zipfile.ZipFile(changed, "w") as copied:
        for name in archive.namelist():
            content = archive.read(name)
            copied.writestr(name, content.replace(b"torch.ops.aten.linear.default", b"os.system"))
    (tmp_path / "bad.pt2").write_bytes(changed.getvalue())
    with pytest.raises(ModelError, match=r"contains a call to 'os\.system', which could run code"):
        Program.load(tmp_path / "bad.pt2")


def test_a_python_if_is_refused_with_the_ways_out(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"if x\.sum\(\) > 0.*torch\.where.*torch\.cond"):
        Program.capture(Branch(), torch.randn(2, 4))
    assert capfd.readouterr().err == ""
