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


class Heard(nn.Module):
    """A stack of recurrent layers over time, after a convolution that halves it."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.stem = nn.Conv1d(4, 8, 3, stride=2, padding=1)
        self.cells = kind(8, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(self.stem(x).relu().transpose(1, 2))[0].mean(1))


@pytest.mark.parametrize("name", ["none", "prune", "make_student", "fit", "int8", "qat"])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_recurrent_layers_take_any_length(kind: Any, name: str, tmp_path: Path) -> None:
    model = Heard(kind).eval()
    program = Program.capture(model, X[:2], dynamic=DYNAMIC)
    x = torch.randn(3, 4, 33)
    assert torch.allclose(program.run(x), model(x), atol=1e-5)
    test_passes_and_files_keep_the_range(program, name, tmp_path)


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


class Hourglass(nn.Module):
    """Halves the length twice and doubles it again, with additions of equal lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.d, self.e = nn.Conv1d(4, 8, 1), nn.Conv1d(8, 8, 2, 2), nn.Conv1d(8, 8, 2, 2)
        self.u = nn.ConvTranspose1d(8, 8, 2, 2)
        self.first, self.second, self.head = nn.Conv1d(8, 2, 1), nn.Conv1d(8, 2, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        a = self.a(x).relu()
        b = self.d(a).relu()
        a = a + self.u(b + self.u(self.e(b)))
        return {"logits": self.head(a.relu().mean(2)), "whole": self.first(a),
                "half": self.second(b)}


@pytest.mark.parametrize(("limits", "lengths"), [
    ((16, 400, 4), (16, 64, 400)), ((24, 96, 8), (24, 56, 96))])
def test_lengths_may_have_a_step(limits: Any, lengths: Any, tmp_path: Path) -> None:
    model, x = Hourglass().eval(), torch.randn(2, 4, 24)
    program = Program.capture(model, x, dynamic={"x": {2: limits}})
    low, high, step = limits
    assert program.inputs[0].shape == (
        None, 4, SizeRange(low=low, high=high, step=step, name="x_2"))
    assert [spec.shape[2:] for spec in output_specs(program)] == [
        (), (SizeRange(low=low, high=high, step=step, name="x_2"),),
        (SizeRange(low=low // 2, high=high // 2, step=step // 2),)]
    program = ew.prune(program, None, ew.ChannelPruning(ratio=0.3, criterion="magnitude"))
    program.save(tmp_path / "hourglass.pt2")
    program = Program.load(tmp_path / "hourglass.pt2")
    ew.export(program, "onnx", tmp_path / "hourglass.onnx")
    engine = OnnxEngine((tmp_path / "hourglass.onnx").read_bytes())
    for length in lengths:
        x = torch.randn(3, 4, length)
        found = engine.run((x.numpy(),))
        for one, other in zip(found, program.run(x).values(), strict=True):
            assert np.allclose(one, other.numpy(), atol=1e-4)
    with pytest.raises(DataError, match=rf"\(1, 4, {high - 2}\), expected \(N, 4, {low}\.\.{high} "
                                        rf"in steps of {step}\)"):
        program.run(torch.randn(1, 4, high - 2))


def test_a_step_that_the_model_needs_is_named() -> None:
    with pytest.raises(ModelError, match=r"needs x_2 in steps of 4, but dynamic allows 17\.\.402; "
                                         r"give the step too: \(20, 400, 4\)$"):
        Program.capture(Hourglass(), torch.randn(2, 4, 24), dynamic={"x": {2: (17, 402)}})


def test_a_step_that_is_too_small_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Hourglass fails at the sizes x_2=18, .* widen its step"):
        Program.capture(Hourglass(), torch.randn(2, 4, 24), dynamic={"x": {2: (16, 400, 2)}})


def test_equal_lengths_with_a_step_become_one() -> None:
    masked = Net(lambda _, x, mask: x * mask)
    names = ("inputs_0", "inputs_1")
    program = Program.capture(masked, (torch.randn(2, 20), torch.ones(2, 20)),
                              dynamic={key: {1: (5, 41, 3)} for key in names})
    assert program.run(torch.ones(1, 41), torch.ones(1, 41)).shape == (1, 41)
    with pytest.raises(DataError, match=r"5\.\.41 in steps of 3"):
        program.run(torch.ones(1, 40), torch.ones(1, 40))


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
    (lambda _, x: x.reshape(len(x), -1, 8), "inputs_0_2 in steps of 2, but dynamic allows 16"),
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
    ({"x": {2: (16, 400, 0)}}, r"and the step between sizes if it is not 1: \(16, 400, 8\)"),
    ({"x": {2: (16, 400, 8, 1)}}, "expected the smallest and the largest size"),
    ({"x": {2: (16,)}}, "expected the smallest and the largest size"),
    ({"x": {2: (16, 400, 5)}}, "steps of 5 from 16 do not reach 400; give 396 as the largest"),
    ({"x": {2: (16, 400, 8)}}, "the size 20 there; give an example of 16 to 400 in steps of 8"),
    ({"x": {2: (20, 400, 20)}}, "the size 20 there; give an example of 40 to 400 in steps of 20"),
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
