"""State as explicit inputs and outputs: captured, kept by passes, and run as a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.errors import DataError, ModelError, UsageError
from edgewright.program import Program

COUNT, STEPS, WIDTH = 60, 5, 16
PAIRS = {"state.0": "state_0", "state.1": "state_1"}


class Recurrent(nn.Module):
    """An LSTM with its state, of (layers, N, width), as input and output, and a prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, WIDTH, num_layers=3)
        self.hidden = nn.Linear(WIDTH, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor, state: Any) -> Any:
        steps, state = self.lstm(x.transpose(0, 1), state)
        found = self.hidden(steps[-1]).relu()
        return {"logits": self.head(found), "auxiliary": found.mean(1), "state": state}


class Buffered(nn.Module):
    memory: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.memory.copy_(self.memory * 0.5 + x[:1])
        return x + self.memory


class Average(nn.Module):
    """`Buffered` with its memory made explicit."""

    def forward(self, x: Tensor, memory: Tensor) -> Any:
        memory = memory * 0.5 + x
        return {"y": x + memory, "memory": memory}


def zeros(batch: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(batch, 3, WIDTH), torch.zeros(batch, 3, WIDTH)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return Recurrent().eval()


@pytest.fixture(scope="module")
def program(model: Any) -> Program:
    state = torch.zeros(3, 2, WIDTH)
    return Program.capture(model, (torch.randn(2, STEPS, 4), (state, state)), states=PAIRS,
                           batch_dims={"state": 1})


@pytest.fixture(scope="module")
def task() -> Any:
    x = torch.randn(COUNT, STEPS, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, -1, 0] > 0).long()
    return ew.Task(((x, *zeros(COUNT)), y), test=((x + 0.1, *zeros(COUNT)), y),
                   goal=ew.Classification(output="logits"))


def test_a_state_with_the_batch_in_dimension_1_has_it_first_in_the_program(
        model: Any, program: Any) -> None:
    assert [spec.shape for spec in program.inputs] == [(None, STEPS, 4), *[(None, 3, WIDTH)] * 2]
    x, first, second = torch.randn(7, STEPS, 4), torch.randn(7, 3, WIDTH), torch.randn(7, 3, WIDTH)
    expected = model(x, (first.transpose(0, 1), second.transpose(0, 1)))
    found = program.run(x, (first, second))
    assert torch.allclose(found["logits"], expected["logits"], atol=1e-6)
    for mine, theirs in zip(found["state"], expected["state"], strict=True):
        assert torch.allclose(mine, theirs.transpose(0, 1), atol=1e-6)


def test_nested_inputs_may_be_given_flat(program: Any) -> None:
    x, state = torch.randn(3, STEPS, 4), zeros(3)
    assert torch.equal(program.run(x, *state)["logits"], program.run(x, state)["logits"])


def test_states_survive_saving(program: Any, tmp_path: Path) -> None:
    program.save(tmp_path / "recurrent.pt2")
    assert Program.load(tmp_path / "recurrent.pt2").states == program.states == PAIRS


@pytest.mark.parametrize("run", [
    lambda p, task: ew.prune(p, task, ew.ChannelPruning(ratio=0.05, target="params")),
    lambda p, task: ew.fit(p, task, ew.Training(epochs=1, compute="cpu")),
    ew.quantize,
])
def test_passes_keep_the_states(program: Any, task: Any, run: Any) -> None:
    assert run(program, task).states == PAIRS


def test_a_bundle_runs_a_stream(program: Any, task: Any, tmp_path: Path) -> None:
    result = ew.compress(program, task, recipe="fast", out=tmp_path / "run", quiet=True)
    manifest = result.manifest.model
    assert manifest.states == PAIRS
    assert [spec.name for spec in manifest.outputs] == ["logits", "state.0", "state.1"]
    stream = ew.load(result.bundle).stream()
    state = zeros(2)
    for step in torch.randn(4, 2, STEPS, 4):
        expected = result.program.run(step, *state)
        state = expected["state"]
        found = stream(step.numpy())
        assert np.allclose(found.output, expected["logits"].numpy(), atol=0.05)
        assert np.allclose(stream.states["state_0"], state[0].numpy(), atol=0.05)


@pytest.fixture
def stream(tmp_path: Path) -> Any:
    average = Program.capture(Average(), (torch.randn(2, 4), torch.zeros(2, 4)),
                              states={"memory": "memory"})
    x = torch.randn(20, 4)
    task = ew.Task(((x, torch.zeros(20, 4)), x * 2), test=((x + 1, torch.zeros(20, 4)), x * 2 + 2),
                   goal=ew.Regression(output="y"))
    recipe = ew.Recipe(prune=None, recover=None, quantize=None)
    result = ew.compress(average, task, recipe=recipe, out=tmp_path / "run", quiet=True)
    return ew.load(result.bundle).stream()


def test_a_stream_keeps_its_state_until_it_is_reset(stream: Any) -> None:
    one = np.ones((1, 4), np.float32)
    found = [float(stream(one).output[0, 0]) for _ in range(3)]
    assert found == [2.0, 2.5, 2.75]
    stream.reset()
    assert float(stream(np.ones((3, 4), np.float32)).output[2, 0]) == 2.0


def test_a_stream_refuses_another_batch_size_and_the_states(stream: Any) -> None:
    one = np.ones((1, 4), np.float32)
    stream(one)
    with pytest.raises(DataError, match="different batch sizes"):
        stream(np.ones((2, 4), np.float32))
    with pytest.raises(DataError, match=r"takes 1 inputs \(x\), got 2; it keeps memory itself"):
        stream(one, one)


def test_a_model_without_state_has_no_stream(tmp_path: Path) -> None:
    x = torch.randn(20, 4)
    task = ew.Task((x, torch.arange(20) % 2), test=(x + 1, torch.arange(20) % 2))
    result = ew.compress(nn.Linear(4, 2), task, recipe=ew.Recipe(quantize=None),
                         out=tmp_path / "run", quiet=True)
    with pytest.raises(UsageError, match="'Linear' has no state to keep; capture it with states="):
        ew.load(result.bundle).stream()


def test_a_buffer_that_is_written_is_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"memory.*states=\{output: input\}"):
        Program.capture(Buffered(), torch.randn(2, 4))


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"states": {"other": "memory"}}, UsageError,
     r"pairs the output 'other' with the input 'memory'; the outputs are y, memory_out, the inp"),
    ({"states": {"memory": "other"}}, UsageError, "the inputs x, memory"),
    ({"states": {"memory": "memory", "y": "memory"}}, UsageError, "feeds two outputs to one"),
    ({"batch_dims": {"other": 1}}, UsageError, "batch_dims names the input 'other'"),
    ({"batch_dims": {"memory": 2}}, UsageError, r"is 2; the input memory has 2 dimensions"),
])
def test_pairs_and_dimensions_that_do_not_fit_are_refused(arguments: Any, error: Any,
                                                          message: str) -> None:
    with pytest.raises(error, match=message):
        Program.capture(Average(), (torch.randn(2, 4), torch.zeros(2, 4)), **arguments)


def test_a_state_of_another_shape_than_its_input_is_refused() -> None:
    class Growing(nn.Module):
        def forward(self, x: Tensor, memory: Tensor) -> Any:
            return {"y": x, "memory": torch.cat([memory, x], 1)}

    with pytest.raises(UsageError, match=r"'memory' is torch.float32 \(N, 8\), but its input"):
        Program.capture(Growing(), (torch.randn(2, 4), torch.zeros(2, 4)),
                        states={"memory": "memory"})
