"""Programs without their exits, and programs that end at one of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from edgewright.errors import UsageError
from edgewright.exits import cut_at, remove_exits
from edgewright.program import Program
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task


@pytest.fixture(scope="module", params=["float", "int8"])
def program(staged: Program, quadrant_task: Task, request: pytest.FixtureRequest) -> Program:
    """With two early exits."""
    if request.param == "float":
        return staged
    return quantize(staged, quadrant_task, Quantization(calibration_samples=64))


@pytest.mark.parametrize("number", [1, 2])
def test_a_cut_network_gives_what_its_exit_gave(program: Program, quadrant_task: Task, number: int,
                                                tmp_path: Path) -> None:
    short = cut_at(program, number)
    x, = quadrant_task.test.example(9)
    expected, found = program.run(x), short.run(x)
    assert short.exits == number - 1
    assert short.is_quantized == program.is_quantized
    outputs = found if number == 2 else [found]
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=False))
    short.save(tmp_path / "short.pt2")
    torch.testing.assert_close(Program.load(tmp_path / "short.pt2").run(x), found)


def test_each_cut_costs_less(program: Program) -> None:
    costs = [cut.costs() for cut in (cut_at(program, 1), cut_at(program, 2), program)]
    for less, more in itertools.pairwise(costs):
        assert less.macs < more.macs
        assert less.parameters < more.parameters
        assert less.packed_bytes < more.packed_bytes


def test_a_cut_has_no_tensor_of_what_came_after(program: Program) -> None:
    names = cut_at(program, 1).state_dict().keys()
    assert names < program.state_dict().keys()
    assert not any(name.startswith("exits.1.") for name in names)
    assert names & (program.state_dict().keys() - remove_exits(program).state_dict().keys())


def test_the_rest_of_the_exits_can_be_removed_too(program: Program, quadrant_task: Task) -> None:
    x, = quadrant_task.test.example(5)
    short = remove_exits(cut_at(program, 2))
    assert short.exits == 0
    assert torch.equal(short.run(x), program.run(x)[1])


def test_the_given_program_stays_whole(program: Program, quadrant_task: Task) -> None:
    x, = quadrant_task.test.example(3)
    before = program.run(x)
    cut_at(program, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, program.run(x), strict=True))


@pytest.mark.parametrize("number", [0, 3])
def test_an_exit_that_is_not_there_is_named(program: Program, number: int) -> None:
    with pytest.raises(UsageError, match=f"cannot be cut at exit {number}: it has 2 early exits"):
        cut_at(program, number)
