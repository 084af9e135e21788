"""`export` writes only files that were run successfully."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgewright.errors import ModelError, ParityError, StorageError, UsageError
from edgewright.exporters import _export, export, to_onnx
from edgewright.program import Program
from edgewright.runtime import OnnxEngine


@pytest.mark.parametrize("name", ["blocks", "blocks_quantized"])
def test_export_writes_the_translated_model(name: str, request: pytest.FixtureRequest,
                                            tmp_path: Path, images: Tensor) -> None:
    program = request.getfixturevalue(name)
    path = tmp_path / "model.onnx"
    assert export(program, "onnx", str(path)) == path
    assert path.read_bytes() == request.getfixturevalue(f"{name}_file")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    have, = OnnxEngine(path.read_bytes()).run((images[:5].numpy(),))
    want = program.run(images[:5]).numpy()
    assert np.linalg.norm(want - have) < (0.02 if program.is_quantized else 1e-4) * np.linalg.norm(
        want)


def test_unknown_targets_are_rejected(blocks: Program, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown export target 'tflite'; expected "
                                         "'onnx', 'executorch', 'litert' or 'c'"):
        export(blocks, "tflite", tmp_path / "model")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_are_named(blocks: Program, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*gone/model\.onnx"):
        export(blocks, "onnx", tmp_path / "gone" / "model.onnx")


def test_untranslatable_operators_are_named_and_no_file_is_written(tmp_path: Path) -> None:
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.i0(x)

    with pytest.raises(ModelError, match="bessel_i0"):
        export(Program.capture(Bessel(), torch.zeros(1, 3)), "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def altered(content: Any, change: Any) -> Any:
    """The file with the weights of every layer changed."""
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            values = change(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize(("name", "change", "found"), [
    ("blocks", lambda w: w * np.float32(1.01),
     r"relative error \S+ of output_0 of shape \(2, 3\), at most 0.0001 is allowed"),
    ("blocks", lambda w: w * np.float32("nan"),
     r"output_0 of shape \(2, 3\) is NaN or infinite where the program's output is not"),
    ("blocks_quantized", lambda w: np.roll(w, 1, axis=0),
     r"relative error \S+ of output_0 of shape \(2, 3\), at most 0.\d+ is allowed"),
])
def test_files_that_do_not_match_the_program_are_not_written(name: str, change: Callable[..., Any], found: str, request: pytest.FixtureRequest, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    program = request.getfixturevalue(name)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    content = request.getfixturevalue(f"{name}_file")
    monkeypatch.setattr(_export, "to_onnx", lambda program: altered(content, change))
    with pytest.raises(ParityError, match=f"the exported file does not match the program: {found}.*"
                                          "; no file was written; on the example inputs, the "
                                          "runtime computes an operator differently: export "
                                          "parts of the model to find it, and report it"):
        export(program, "onnx", path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("model", "found"), [
    (nn.Conv2d(3, 1, 8), r"\[\(2, 1, 1, 1\)\]"),
    (nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), r"\[\(2, 1\)\]"),
])
def test_files_with_other_output_shapes_are_not_written(blocks: Program, model: Any, found: str,
                                                        tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    other = to_onnx(Program.capture(model, torch.zeros(1, 3, 8, 8)))
    monkeypatch.setattr(_export, "to_onnx", lambda program: other)
    with pytest.raises(ParityError, match=rf"outputs of shape {found}, expected \[\(2, 3\)\]; no "
                                          "file was written"):
        export(blocks, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_zero_and_integer_outputs_are_compared(tmp_path: Path) -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x.argmax(1), x * 0

    path = export(Program.capture(Counts(), torch.randn(2, 3)), "onnx", tmp_path / "model.onnx")
    index, zeros = OnnxEngine(path.read_bytes()).run((np.eye(3, dtype=np.float32),))
    assert (index.tolist(), zeros.any()) == ([0, 1, 2], np.False_)
