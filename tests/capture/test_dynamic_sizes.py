"""Further dynamic dimensions: captured with ranges, kept by passes, and never silently wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.programs import Net
from torch import Tensor, nn

import edgewright as ew
from edgewright.core import SizeRange
from edgewright.distill import make_student
from edgewright.errors import DataError, ModelError, UsageError
from edgewright.pipeline._segments import output_specs
from edgewright.program import Program
from edgewright.runtime import OnnxEngine

LENGTHS = (16, 33, 400)
DYNAMIC = {"x": {2: (16, 400)}}
X, Y = torch.randn(40, 4, 20), torch.arange(40) % 3
TASK = ew.Task((X, Y), test=(X + 1, Y))
SHORT = ew.Training(epochs=1, compute="cpu")


class Sound(nn.Module):
    """A residual convolution over time, pooled to one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(4, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm1d(16)
        self.inner = nn.Conv1d(16, 16, 3, padding=1)
        self.outer = nn.Conv1d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.outer(self.norm(self.inner(x)).relu())
        return self.head(x.relu().mean(2))


class Steps(nn.Module):
    """One answer per pair of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(4, 8, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Any:
        return {"steps": self.layer(x), "same": x * 2}


@pytest.fixture(scope="module")
def model() -> Any:
    return Sound().eval()


@pytest.fixture(scope="module")
def sound(model: Any) -> Program:
    return Program.capture(model, X[:2], dynamic=DYNAMIC)


def test_every_length_in_the_range_is_computed_as_the_model_does(model: Any, sound: Any) -> None:
    assert sound.inputs[0].shape == (None, 4, SizeRange(low=16, high=400, name="x_2"))
    for length in LENGTHS:
        for batch in (1, 3):
            x = torch.randn(batch, 4, length)
            assert torch.allclose(sound.run(x), model(x), atol=1e-5)


@pytest.mark.parametrize("length", [15, 401])
def test_another_length_is_refused_by_name_and_range(sound: Any, length: int) -> None:
    x = torch.randn(1, 4, length)
    for run in (sound.run, sound.module(), sound.module(train=True)):
        with pytest.raises(DataError, match=rf"input 'x' has shape \(1, 4, {length}\), expected "
                                            r"\(N, 4, 16\.\.400\)"):
            run(x)


def test_costs_are_those_of_the_example_length(sound: Any, model: Any) -> None:
    assert sound.costs().macs == Program.capture(model, X[:2]).costs().macs


def test_a_saved_program_keeps_the_range(sound: Any, model: Any, tmp_path: Path) -> None:
    sound.save(tmp_path / "sound.pt2")
    loaded = Program.load(tmp_path / "sound.pt2")
    assert loaded.inputs == sound.inputs
    x = torch.randn(2, 4, 77)
    assert torch.allclose(loaded.run(x), model(x), atol=1e-5)
    with pytest.raises(DataError, match=r"16\.\.400"):
        loaded.run(x[:, :, :9])


PASSES: dict[str, Any] = {
    "none": lambda p: p,
    "prune": lambda p: ew.prune(p, TASK, ew.ChannelPruning(ratio=0.3)),
    "prune_blocks": lambda p: ew.prune_blocks(p, TASK, ew.BlockPruning(count=1)),
    "prune_weights": lambda p: ew.prune_weights(p, TASK),
    "make_student": lambda p: make_student(p, 0.5),
    "fit": lambda p: ew.fit(p, TASK, SHORT, p),
    "int8": lambda p: ew.quantize(p, TASK),
    "dynamic": lambda p: ew.quantize(p, TASK, ew.Quantization(activations="dynamic")),
    "weights": lambda p: ew.quantize(p, TASK, ew.Quantization(activations=None)),
    "adaround": lambda p: ew.quantize(
        p, TASK, ew.Quantization(method=ew.PTQ(rounding=ew.AdaRound(2)))),
    "brecq": lambda p: ew.quantize(p, TASK, ew.Quantization(method=ew.PTQ(rounding=ew.BRECQ(2)))),
    "qat": lambda p: ew.quantize(p, TASK, ew.Quantization(method=ew.QAT(training=SHORT))),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_and_files_keep_the_range(sound: Any, name: str, tmp_path: Path) -> None:
    result = PASSES[name](sound)
    result.save(tmp_path / "result.pt2")
    result = Program.load(tmp_path / "result.pt2")
    assert result.inputs == sound.inputs
    ew.export(result, "onnx", tmp_path / "result.onnx")
    engine = OnnxEngine((tmp_path / "result.onnx").read_bytes())
    for length in LENGTHS:
        x = torch.randn(3, 4, length)
        found, = engine.run((x.numpy(),))
        assert np.allclose(found, result.run(x).numpy(), atol=0.05)


def test_passes_that_need_one_size_refuse_by_name(sound: Any, tmp_path: Path) -> None:
    message = r"need inputs of one size, but 'x' has shape \(N, 4, 16\.\.400\); capture the model"
    with pytest.raises(ModelError, match=f"early exits {message}"):
        ew.add_exits(sound, TASK)
    with pytest.raises(ModelError, match=f"LiteRT files {message}"):
        ew.export(sound, "litert", tmp_path / "sound.tflite")
    with pytest.raises(ModelError, match=f"ExecuTorch files {message}"):
        ew.export(sound, "executorch", tmp_path / "sound.pte")


def test_the_bundle_has_the_ranges_and_the_session_checks_them(sound: Any, tmp_path: Path) -> None:
    result = ew.compress(sound, TASK, recipe="fast", out=tmp_path / "run", quiet=True)
    assert result.manifest.model.inputs[0].shape == sound.inputs[0].shape
    session = ew.load(result.bundle)
    for length in LENGTHS:
        x = torch.randn(2, 4, length)
        assert np.allclose(session(x.numpy()).output, result.program.run(x).numpy(), atol=0.05)
    with pytest.raises(DataError, match=r"input 'x' has shape \(1, 4, 8\), expected "
                                        r"\(N, 4, 16\.\.400\)"):
        session(np.zeros((1, 4, 8), np.float32))


def test_outputs_state_the_sizes_that_follow() -> None:
    program = Program.capture(Steps(), X[:2], dynamic=DYNAMIC)
    steps, same = output_specs(program)
    assert steps.shape == (None, 8, SizeRange(low=8, high=200))
    assert same.shape == (None, 4, SizeRange(low=16, high=400, name="x_2"))


def test_sizes_that_must_be_equal_become_one() -> None:
    masked = Net(lambda _, x, mask: x * mask)
    inputs = (torch.randn(2, 20), torch.ones(2, 20))
    names = ("inputs_0", "inputs_1")
    program = Program.capture(masked, inputs, dynamic={key: {-1: (4, 40)} for key in names})
    assert program.run(torch.ones(1, 7), torch.ones(1, 7)).shape == (1, 7)
    with pytest.raises(DataError, match="'inputs_1' has size 8 in dimension 1, but 'inputs_0' has 7"
                                        " in dimension 1; the two must be equal"):
        program.run(torch.ones(1, 7), torch.ones(1, 8))
    with pytest.raises(UsageError, match=r"inputs_0_1.* be equal, but dynamic gives .*4\.\.4"):
        Program.capture(masked, inputs, dynamic={names[0]: {1: (4, 40)}, names[1]: {1: (4, 41)}})


def test_keyword_inputs_may_vary_too() -> None:
    class Padded(nn.Module):
        def forward(self, ids: Tensor, mask: Any = None) -> Tensor:
            return (ids * mask).sum(1, keepdim=True)

    ids = torch.ones(2, 9)
    program = Program.capture(Padded(), kwargs={"mask": ids, "ids": ids},
                              dynamic={"ids": {1: (1, 64)}, "mask": {1: (1, 64)}})
    assert program.run(torch.ones(3, 1), torch.ones(3, 1)).tolist() == [[1.0]] * 3


@pytest.mark.parametrize(("forward", "message"), [
    (lambda _, x: x.reshape(len(x), 2, 40), r"dynamic allows for inputs_0_2 \(specialized"),
    (lambda _, x: x * 2 if x.shape[2] > 30 else x, r"inputs_0_2 \(16 <= inputs_0_2 and "
                                                   r"inputs_0_2 <= 30\); narrow the range"),
    (lambda _, x: x.reshape(len(x), -1, 8), "every size that dynamic allows for inputs_0_2"),
])
def test_models_that_do_not_accept_every_size_are_refused(forward: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Program.capture(Net(forward), X[:2], dynamic={"inputs_0": {2: (16, 400)}})


@pytest.mark.parametrize(("dynamic", "message"), [
    ({"y": {2: (16, 400)}}, r"dynamic names the input 'y'; the model's inputs are x"),
    ({"x": (16, 400)}, "gives no dimensions by input"),
    ({"x": {0: (1, 9)}}, r"dynamic\['x'\]\[0\] is the batch, which may have any size already"),
    ({"x": {3: (1, 9)}}, "is no dimension of the input, which has 3 dimensions"),
    ({"x": {2: 400}}, r"is 400; expected the smallest and the largest size"),
    ({"x": {2: (400, 16)}}, "expected the smallest and the largest size"),
    ({"x": {2: (30, 400)}}, "the example input has the size 20 there; give an example of 30 to"),
])
def test_ranges_that_do_not_fit_are_refused(dynamic: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Program.capture(Sound(), X[:2], dynamic=dynamic)


def test_a_task_may_pad_each_batch_to_another_length(sound: Any) -> None:
    def pad(samples: list[Any]) -> Any:
        longest = max(x.shape[1] for x, _ in samples)
        return (torch.stack([nn.functional.pad(x, (0, longest - x.shape[1])) for x, _ in samples]),
                torch.tensor([y for _, y in samples]))

    samples = [(torch.randn(4, 16 + i), i % 3) for i in range(30)]
    task = ew.Task(samples, test=samples[::-1], collate_fn=pad)
    trained = ew.fit(sound, task, ew.Training(epochs=1, batch_size=4, compute="cpu"))
    assert ew.quantize(trained, task).inputs == sound.inputs
