"""A file is held against its program where the program is meant to be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import BundleError, ModelError, ParityError
from edgewright.exporters import _export, export
from edgewright.exporters._agreement import check_agreement, load_file
from edgewright.program import Program
from edgewright.quantization import quantize
from edgewright.task import Task


class Changed:
    """An engine that computes what a program does, and changes it."""

    runtime = "changed 1.0"

    def __init__(self, program: Program, change: Any) -> None:
        self.program, self.change = program, change
        self.seen: tuple[Any, ...] = ()

    def run(self, inputs: Any) -> tuple[Any, ...]:
        self.seen = inputs
        outputs = self.program.run(*(torch.from_numpy(array) for array in inputs))
        return tuple(self.change(array.numpy()) for array in
                     (outputs if isinstance(outputs, tuple) else (outputs,)))


@pytest.fixture(scope="module")
def task() -> Any:
    x = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.arange(64) % 3
    return Task((x, y), test=(x, y))


@pytest.fixture(scope="module")
def small(task: Any) -> Any:
    """Eight bits; captured with zeros, calibrated on numbers from 0 to 1."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(1))
    return quantize(Program.capture(model.eval(), torch.zeros(1, 3, 8, 8)), task)


def test_a_quantized_program_is_checked_on_its_calibration_samples(small: Any, task: Any) -> None:
    engine = Changed(small, lambda outputs: outputs)
    assert check_agreement(small, engine) == 0
    rows = {tuple(sample.flatten().tolist()) for sample in task.train.example(64)[0]}
    assert {tuple(sample.ravel().tolist()) for sample in engine.seen[0]} <= rows


def test_a_task_given_is_what_the_file_is_checked_on(task: Any, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program.capture(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
    seen = []

    def check(program: Program, engine: Any) -> float:
        seen.append(program.example_inputs[0])
        return check_agreement(program, engine)

    monkeypatch.setattr(_export, "check_agreement", check)
    export(program, "onnx", tmp_path / "model.onnx", task=task)
    assert torch.equal(seen[0], task.train.example(2)[0])


def test_one_step_here_and_there_is_allowed_of_small_outputs_too(task: Any) -> None:
    """Of two numbers that are nearly the same the difference is not many steps."""
    first, last = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        first.weight.fill_(1)
        last.weight.copy_(torch.tensor([1.0, -0.95]).reshape(1, 2, 1, 1))
        first.get_parameter("bias").zero_()
        last.get_parameter("bias").zero_()
    model = nn.Sequential(first, last).eval()
    program = quantize(Program.capture(model, torch.zeros(1, 3, 8, 8)), task)
    step = max(cast(float, node.args[1]) for node in program.calls() if "quantize_per_tensor" in node.name)
    assert 0.05 < check_agreement(program, Changed(program, lambda y: y + step / 2)) < 0.2
    with pytest.raises(ParityError, match="relative error"):
        check_agreement(program, Changed(program, lambda y: y + 4 * step))


@pytest.mark.parametrize("change", [lambda y: y * 1.3, lambda y: y[:, ::-1].copy(),
                                    lambda y: y - y.min(), np.zeros_like])
def test_what_no_rounding_explains_is_refused(change: Any, small: Any) -> None:
    with pytest.raises(ParityError, match=r"relative error \S+ of output_0 of shape \(2, 64\), at "
                                          r"most 0\.\d+ is allowed; no file was written; on its "
                                          "example inputs, an operator is computed otherwise"):
        check_agreement(small, Changed(small, change))


def test_made_up_inputs_are_named_as_the_likely_cause() -> None:
    program = Program.capture(nn.Linear(4, 2), torch.zeros(1, 4))
    with pytest.raises(ParityError, match=r"the values of its inputs were made up, since its "
                                          "example inputs are constant, .*: give export a task"):
        check_agreement(program, Changed(program, lambda y: y * np.float32(1.01)))


def test_floats_agree_to_the_roundings_of_their_type() -> None:
    class Sine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sin()

    factor = 1.00005
    program = Program.capture(Sine(), torch.rand(2, 50))
    scaled = Changed(program, lambda y: y * np.float32(factor))
    assert check_agreement(program, scaled) == pytest.approx(factor - 1, rel=0.01)
    with pytest.raises(ParityError):
        check_agreement(program, Changed(program, lambda y: y * np.float32(1 + (factor - 1) * 3)))


class Indices(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {"classes": x.argmax(1), "logs": x.log()}


def test_the_worst_output_is_named_and_equal_infinities_agree(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 40)
    x[:, 0, 0] = 0
    program = Program.capture(Indices(), x)
    export(program, "onnx", tmp_path / "model.onnx")

    class Shifted(Changed):
        def run(self, inputs: Any) -> tuple[Any, ...]:
            classes, logs = (value.numpy() for value in self.program.run(
                torch.from_numpy(inputs[0])).values())
            return (classes + (np.arange(40) == 3)).astype(np.int32), logs

    with pytest.raises(ParityError, match=r"relative error 2.50e-02 of output_0 \(\['classes'\]\)"):
        check_agreement(program, Shifted(program, None))


def test_a_file_that_does_not_run_is_refused_with_the_reason(small: Any) -> None:
    class Broken(Changed):
        def run(self, inputs: Any) -> NoReturn:
            raise BundleError("no kernel for conv3d")

    with pytest.raises(ModelError, match=r"the exported file does not run on changed 1\.0: no "
                                         "kernel for conv3d; no file was written"):
        check_agreement(small, Broken(small, None))


def test_a_file_that_does_not_load_is_refused_with_the_reason() -> None:
    def refuse(model: bytes) -> NoReturn:
        raise BundleError("litert cannot load the model: Didn't find op STABLEHLO_IOTA")

    with pytest.raises(ModelError, match="the exported file does not load: litert cannot load .*"
                                         "STABLEHLO_IOTA; no file was written; the runtime has no "
                                         r"kernel for an operator"):
        load_file(refuse, b"")
