"""State is refused by its name; a caller's inputs stay as they are."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import Tensor, nn

from edgewright.capture import export_graph
from edgewright.capture._mutations import settle_writes
from edgewright.errors import EdgewrightWarning, ModelError
from edgewright.program import Program
from edgewright.program._archive import save_archive

INDEX = torch.tensor([0, 1])


def copies(m: Any, x: Any) -> Any:
    y = m.layer(x) + m.state
    m.state.copy_(y[:1])
    return y


def adds(m: Any, x: Any) -> Any:
    m.state += 1
    return m.layer(x) + m.state


def fills(m: Any, x: Any) -> Any:
    y = m.layer(x) + m.state
    m.state[:] = y[:1]
    return y


def assigns(m: Any, x: Any) -> Any:
    y = m.layer(x) + m.state
    m.state = y[:1].detach()
    return y


def writes_a_view(m: Any, x: Any) -> Any:
    part = m.state[:, :2]
    y = m.layer(x) + m.state
    part.mul_(0.5)
    return y


def writes_reshaped(m: Any, x: Any) -> Any:
    y = m.layer(x) + m.state
    m.state.reshape(2, 2).mul_(0.5)
    return y


def puts(m: Any, x: Any) -> Any:
    y = m.layer(x) + m.state
    m.state[:, INDEX] = y[:1, :2]
    return y


def writes_out(m: Any, x: Any) -> Any:
    y = m.layer(x) + m.state
    torch.add(m.state, 1, out=m.state)
    return y


def without_gradients(m: Any, x: Any) -> Any:
    y = m.layer(x) + m.state
    with torch.no_grad():
        m.state.mul_(0.9)
    return y


def gathers_statistics(m: Any, x: Any) -> Any:
    return F.batch_norm(m.layer(x), m.state[0], m.state[0] + 1, training=True)


def shifts_a_cache(m: Any, x: Any) -> Any:
    m.state.copy_(torch.roll(m.state, 1, 1))
    m.state[:, :1] = x[:1, :1]
    return m.layer(x) + m.state


WRITERS = [copies, adds, fills, assigns, writes_a_view, writes_reshaped, puts, writes_out,
           without_gradients, gathers_statistics, shifts_a_cache]


def model(net: Any, forward: Any, *, buffer: bool = True) -> Any:
    made = net(forward, layer=nn.Linear(4, 4)).eval()
    if buffer:
        made.register_buffer("state", torch.zeros(1, 4))
    else:
        made.state = torch.zeros(1, 4)
    return made


@pytest.mark.parametrize("buffer", [True, False])
@pytest.mark.parametrize("forward", WRITERS)
def test_state_is_refused_by_its_name(net: type[Net], forward: Any, buffer: bool) -> None:
    with pytest.raises(ModelError, match=r"\bstate\b.*take it as an input and return its new value"):
        Program.capture(model(net, forward, buffer=buffer), torch.zeros(1, 4))


def test_a_layer_that_counts_is_named_in_full(net: type[Net]) -> None:
    class Counts(nn.Module):
        calls: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1  # written, and read by nobody
            return x.relu()

    with pytest.raises(ModelError, match=r"the model writes into 0\.1\.calls in its forward pass at "
                                         r".*test_mutations\.py:\d+ \(self\.calls \+= 1"):
        Program.capture(nn.Sequential(nn.Sequential(nn.Linear(4, 4), Counts())), torch.zeros(1, 4))


@pytest.mark.parametrize("layer", [
    nn.BatchNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True), nn.InstanceNorm1d(4),
    nn.BatchNorm1d(4, track_running_stats=False), nn.ReLU(inplace=True)])
def test_layers_that_write_in_training_alone_are_taken(layer: Any) -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), layer).eval()
    x = torch.randn(3, 2, 9)
    torch.testing.assert_close(Program.capture(model, x).run(x), model(x))


def test_state_as_input_and_output_is_taken(net: type[Net]) -> None:
    def forward(m: Any, x: Any, state: Any) -> tuple[Any, ...]:
        y = torch.tanh(m.layer(x) + state)
        return y, y

    model = net(forward, layer=nn.Linear(4, 4)).eval()
    program = Program.capture(model, (torch.zeros(1, 4), torch.zeros(1, 4)))
    state = want = torch.zeros(3, 4)
    for seed in range(3):
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        y, state = program.run(x, state)
        expected, want = model(x, want)
        torch.testing.assert_close(y, expected)


def test_a_literal_that_is_written_starts_anew_in_every_call(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        counts = torch.tensor([1.0, 2.0])
        counts += x.mean(0)
        return x + counts

    program, x = Program.capture(net(forward).eval(), torch.ones(1, 2)), torch.ones(3, 2)
    module = program.module()
    for _ in range(3):
        assert module(x).tolist() == [[3.0, 4.0]] * 3


@pytest.mark.parametrize("forward", [
    lambda m, x: m.layer(x.add_(1)),
    lambda m, x: (x[:, 0].zero_(), m.layer(x))[1],
    lambda m, x: (x.view(-1, 2, 2).mul_(2), m.layer(x), x)[1:],
])
def test_an_input_that_the_model_writes_into_is_left_to_the_caller(net: type[Net],
                                                                   forward: Callable[..., Any]) -> None:
    model = net(forward, layer=nn.Linear(4, 4)).eval()
    with pytest.warns(EdgewrightWarning, match=r"writes into its input \w+ in place"):
        program = Program.capture(model, torch.zeros(1, 4))
    x = torch.randn(3, 4)
    before = x.clone()
    for _ in range(2):
        torch.testing.assert_close(program.run(x), model(before.clone()))
        assert torch.equal(x, before)


def test_a_stored_graph_that_writes_is_refused_too(net: type[Net], tmp_path: Path) -> None:
    exported = export_graph(model(net, copies), (torch.zeros(2, 4),))
    for name, graph in (("as_is", exported), ("functional", exported.run_decompositions({}))):
        save_archive(graph, tmp_path / name, {})
        with pytest.raises(ModelError, match=r"writes into state in its forward pass"):
            Program.load(tmp_path / name)


def test_a_graph_without_writes_stays_as_it_is(small_program: Program) -> None:
    module = small_program.copy().graph_module
    code = module.code
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settle_writes(module)
    assert re.sub(r"\s", "", module.code) == re.sub(r"\s", "", code)
