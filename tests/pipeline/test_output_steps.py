"""The step of an output, by hand; and the errors of files in steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.exits import ExitCalibration
from edgewright.graph import ops
from edgewright.pipeline._compare import compare_with_program
from edgewright.pipeline._draft import draft_bundle
from edgewright.pipeline._output_steps import find_last_dequantizations, measure_output_steps
from edgewright.program import Program
from edgewright.runtime import Session

X = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A value after two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body, self.head = nn.Linear(6, 64), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"value": self.head(self.body(x).relu())}


@pytest.fixture(scope="module")
def task() -> ew.Task:
    return ew.Task((X, {"value": X.sum(1)}), test=(X[:200], {"value": X[:200].sum(1)}),
                   goal={"value": ew.Regression()})


@pytest.fixture(scope="module")
def quantized(task: ew.Task) -> Program:
    return ew.quantize(Program.capture(Net().eval(), X[:2]), task)


def test_the_step_after_a_layer_is_the_quantizers_times_the_weights(quantized: Program,
                                                                    task: ew.Task) -> None:
    (output,) = quantized.graph.output_node().all_input_nodes
    (last,) = find_last_dequantizations(output)
    scale = float(last.args[1])  # type: ignore[arg-type]
    weights = next(quantized.state_dict()[name].float() * quantized.state_dict()[f"{name}_scale"][:, None]
                   for name in quantized.state_dict() if name == "head.weight")
    ((found,),) = measure_output_steps(quantized, (X,), task.goal)
    assert found == pytest.approx(scale * float(weights.norm()), rel=0.15)


def test_a_scale_that_is_found_at_run_time_gives_a_step(task: ew.Task) -> None:
    program = Program.capture(Net().eval(), X[:2])
    dynamic = ew.quantize(program, task, ew.Quantization(activations="dynamic"))
    ((step,),) = measure_output_steps(dynamic, (X,), task.goal)
    ((static,),) = measure_output_steps(ew.quantize(program, task), (X,), task.goal)
    assert step == pytest.approx(static, rel=0.5)
    weights_alone = ew.quantize(program, task, ew.Quantization(activations=None))
    assert measure_output_steps(weights_alone, (X,), task.goal) == ((0.0,),)


class Passed(nn.Module):
    """A quantized value that leaves as it is, and one after a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.layer(x)


def test_an_output_of_quantized_values_has_the_step_of_their_quantizer(task: ew.Task) -> None:
    """The placement leaves outputs alone, so the quantized value is made the output here."""
    two = ew.Task((X, {"0": X, "1": X[:, :2]}), test=(X, {"0": X, "1": X[:, :2]}),
                  goal={"0": ew.Regression(), "1": ew.Regression()})
    program = ew.quantize(Program.capture(Passed(), X[:2]), two).copy()
    (dequantized,) = [node for node in program.calls() if node.target in (ops.DEQUANTIZE,)]
    output = program.graph.output_node()
    output.args = ((dequantized, output.all_input_nodes[1]),)
    program.graph_module.recompile()
    ((first, second),) = measure_output_steps(program, (X,), two.goal)
    assert first == pytest.approx(float(dequantized.args[1]), rel=1e-6)  # type: ignore[arg-type]
    assert second > 0


def compare(program: Program, file: Program, task: ew.Task) -> Any:
    session = Session(draft_bundle(file, "net", task))
    return compare_with_program(program, session, task.test, task.goal).parity


def test_a_file_states_its_error_in_steps(quantized: Program, task: ew.Task) -> None:
    (step,), = measure_output_steps(quantized, (X[:64],), task.goal)
    (exact,) = compare(quantized, quantized, task).outputs
    assert exact.mean_steps < 0.5  # integer kernels may round a sum differently
    state = quantized.state_dict()
    unit = float(state["head.bias_scale"])
    shift = round(0.25 * step / unit)
    state["head.bias"] = state["head.bias"] + shift
    (apart,) = compare(quantized.with_state(state), quantized, task).outputs
    assert apart.mean_steps == pytest.approx(shift * unit / step, abs=exact.mean_steps + 1e-3)
    assert apart.max_steps == pytest.approx(shift * unit / step, abs=exact.max_steps + 1e-3)
    assert f"at most {apart.max_steps:.3g} steps (mean {apart.mean_steps:.3g})" in str(apart)


def test_an_output_in_floating_point_has_no_steps(task: ew.Task) -> None:
    program = Program.capture(Net().eval(), X[:2])
    (output,) = compare(program, program, task).outputs
    assert output.max_steps is None
    assert output.mean_steps is None
    assert output.relative_error < 1e-5
    assert "nothing before it is quantized" in str(output)


def test_every_exit_has_its_step(quadrant_task: ew.Task, trained_program: Program) -> None:
    short = ew.Training(epochs=1, batch_size=32, augment=False)
    with_exit = ew.add_exits(trained_program, quadrant_task, ew.EarlyExits(
        places=1, training=short, calibration=ExitCalibration(max_drop=0.1)))
    program = ew.quantize(with_exit, quadrant_task)
    (x,) = next(quadrant_task.test.batches(32)).inputs
    first, last = measure_output_steps(program, (x,), quadrant_task.goal)
    assert first[0] > 0
    assert last[0] > 0
    assert first != last
    (output,) = compare(program, program, quadrant_task).outputs
    assert output.max_steps >= output.mean_steps >= 0
