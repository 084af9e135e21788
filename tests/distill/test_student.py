from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.channels import find_branches
from edgewright.distill import make_student
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.quantization import quantize
from edgewright.task import Task
from edgewright.training import Training, evaluate_module


def widths(program: Program) -> Any:
    return {name: tensor.shape[0] for name, tensor in program.state_dict().items()
            if name.endswith("weight")}


def blocks(program: Program) -> Any:
    return sorted({".".join(name.split(".")[:3]) for name in program.state_dict()
                   if name.startswith("stages")})


def test_the_widths_are_halved_and_the_ends_stay(deep_pyramid: Program) -> None:
    small = ew.make_student(deep_pyramid, width=0.5)
    inner = {name: width for name, width in widths(deep_pyramid).items() if name != "head.weight"}
    assert {name: 2 * widths(small)[name] for name in inner} == inner
    assert widths(small)["head.weight"] == 4
    assert small.run(torch.randn(3, 1, 8, 8)).shape == (3, 4)
    assert small.costs().macs < 0.3 * deep_pyramid.costs().macs


@pytest.mark.parametrize(("teacher", "depth", "kept"), [
    ("deep_pyramid", 0.75, 3), ("deep_pyramid", 0.01, 1), ("projecting", 0.5, 2)])
def test_every_stage_keeps_the_share_of_its_blocks(request: pytest.FixtureRequest, teacher: str,
                                                   depth: float, kept: int) -> None:
    program = request.getfixturevalue(teacher)
    small = make_student(program, width=1.0, depth=depth)
    found = blocks(small)
    assert [sum(name.startswith(f"stages.{stage}") for name in found)
            for stage in range(3)] == [kept] * 3
    assert {"stages.0.0", "stages.1.0", "stages.2.0"} <= set(found)
    assert small.run(torch.randn(3, 1, 8, 8)).shape == (3, 4)


def test_a_transformer_loses_whole_layers(tokens: Program) -> None:
    small = make_student(tokens, width=0.5, depth=2 / 3)
    layers = {".".join(name.split(".")[:2]) for name in small.state_dict() if "layers" in name}
    assert layers == {"layers.0", "layers.1"}
    assert small.state_dict()["position"].shape == (1, 16, 4)


def test_weights_are_seeded_or_taken_from_the_teacher(deep_pyramid: Program) -> None:
    one, again, other = (make_student(deep_pyramid, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.state_dict()["stem.weight"], again.state_dict()["stem.weight"])
    assert not torch.equal(one.state_dict()["stem.weight"], other.state_dict()["stem.weight"])
    kept = make_student(deep_pyramid, init="teacher").state_dict()["stem.weight"]
    rows = {tuple(row.flatten().tolist()) for row in deep_pyramid.state_dict()["stem.weight"]}
    assert all(tuple(row.flatten().tolist()) in rows for row in kept)


def test_a_full_size_student_is_a_copy_of_the_teacher(pyramid: Program) -> None:
    whole = make_student(pyramid, width=1.0, init="teacher")
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(whole.run(x), pyramid.run(x))
    assert whole is not pyramid
    drawn = make_student(pyramid, width=1.0, seed=1)
    assert drawn.costs() == pyramid.costs()
    assert not torch.equal(drawn.run(x), pyramid.run(x))


def test_ignored_layers_keep_their_width(captured: Any, perceptron: Any) -> None:
    teacher = captured(perceptron(4, 8, 8, 3), 4)
    small = make_student(teacher, width=0.5, ignore=("0",))
    assert widths(small) == {"0.weight": 8, "2.weight": 4, "4.weight": 3}


def test_the_student_learns(halved: Program, quadrant_task: Task) -> None:
    trained = ew.fit(halved, quadrant_task, Training(epochs=3, batch_size=32, augment=False,
                                                     compute="cpu"))
    assert evaluate_module(trained.module(), quadrant_task.val, quadrant_task.goal)[0].value > 0.8


def test_the_teacher_is_unchanged(pyramid: Program) -> None:
    before = {name: tensor.clone() for name, tensor in pyramid.state_dict().items()}
    graph = str(pyramid.graph)
    make_student(pyramid, width=0.5, depth=0.5)
    assert str(pyramid.graph) == graph
    torch.testing.assert_close(pyramid.state_dict(), before, rtol=0, atol=0)


def test_the_student_can_be_exported(halved: Program, tmp_path: Path) -> None:
    path = ew.export(halved, "onnx", tmp_path / "small.onnx")
    session = onnxruntime.InferenceSession(path)
    x = torch.randn(3, 1, 8, 8)
    have = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(have), halved.run(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["width", "depth"])
@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan")])
def test_shares_out_of_range_raise(pyramid: Program, name: str, share: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name}={share} of a student is out of range; expected "):
        make_student(pyramid, **{name: share})


def test_programs_that_cannot_be_made_smaller_raise(pyramid: Program, captured: Any,
                                                    perceptron: Any) -> None:
    with pytest.raises(UsageError, match="unknown init='old'; expected 'fresh' or 'teacher'"):
        make_student(pyramid, init="old")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"width=0\.5: no channel of this program can be removed: "):
        make_student(captured(nn.Linear(4, 3), 4))
    flat = captured(perceptron(4, 8, 3), 4)
    assert not find_branches(flat)
    with pytest.raises(UsageError, match=r"depth=0\.5: no residual block of this program can be re"):
        make_student(flat, depth=0.5)
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    with pytest.raises(UsageError, match="a student cannot be made from a quantized program"):
        make_student(quantize(flat, Task((x, y), test=(x, y))))
