"""Programs are exported only to runtimes whose kernels support their integers."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.errors import ModelError
from edgewright.quantization import Quantization

EDGE = ("executorch", "litert")


def quantized(target: str, activations: object) -> ew.Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    images, labels = torch.rand(24, 3, 8, 8), torch.arange(24) % 3
    split = (images, labels)
    task = ew.Task(split, split, (images[:8] / 2, labels[:8]))
    program = ew.Program.capture(model.eval(), images[:1])
    return ew.quantize(program, task,
                       Quantization.model_validate({"target": target, "activations": activations}))


@pytest.mark.parametrize("made_for", ["onnxruntime", "onnxruntime-arm", "openvino"])
@pytest.mark.parametrize("target", EDGE)
def test_unsigned_activations_are_rejected(
        made_for: str, target: Literal["executorch", "litert"], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=(
            rf"not quantized for the target '{target}': its activations are uint8 .* requires "
            rf"int8 activations; quantize the program in floating point with target='{target}'")):
        ew.export(quantized(made_for, 8), target, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("made_for", ["onnxruntime", "executorch"])
def test_dynamic_ranges_are_rejected(made_for: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"activations have dynamic ranges .* LiteRT requires static"):
        ew.export(quantized(made_for, "dynamic"), "litert", tmp_path / "model")


@pytest.mark.parametrize("made_for", EDGE)
def test_signed_activations_export_to_onnx(made_for: str, tmp_path: Path) -> None:
    assert ew.export(quantized(made_for, 8), "onnx", tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("target", EDGE)
def test_grouped_weights_are_rejected(target: Literal["executorch", "litert"],
                                               tmp_path: Path) -> None:
    program = ew.Program.capture(nn.Linear(64, 3).eval(), torch.zeros(1, 64))
    groups = ew.quantize(program, None, Quantization(activations=None, granularity=ew.PerGroup()))
    with pytest.raises(ModelError, match=r"its weights have one scale per group .* per tensor or ch"):
        ew.export(groups, target, tmp_path / "model")


def test_weights_with_zero_points_are_rejected(tmp_path: Path) -> None:
    program = ew.Program.capture(nn.Linear(64, 3).eval(), torch.zeros(1, 64))
    affine = ew.quantize(program, None, Quantization(activations=None, affine_weights=True))
    with pytest.raises(ModelError, match=r"weights have zero points .* requires symmetric weights"):
        ew.export(affine, "executorch", tmp_path / "model")
