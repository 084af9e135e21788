"""A captured module takes what was captured, at any batch, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.channels import find_groups, remove_channels
from edgewright.errors import DataError
from edgewright.program import Program, fold_batch_norm
from edgewright.training._pickling import pickle_run, unpickle_run


class Averages(nn.Module):
    """The length is written into the graph: another one would run, and be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return self.head(x.sum(-1) / x.shape[-1])


@pytest.fixture(scope="module")
def program() -> Any:
    torch.manual_seed(0)
    return Program.capture(Averages().eval(), torch.zeros(1, 4, 20))


LONGER = torch.zeros(4, 4, 40)
REFUSAL = r"input 'x' has shape \(4, 4, 40\), expected \(N, 4, 20\)"


def test_another_size_is_refused_wherever_the_graph_runs(program: Any, tmp_path: Path) -> None:
    program.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    groups = find_groups(program)
    sliced = remove_channels(program, groups, groups.groups[0].channels[:3])
    for found in (program, loaded, program.copy(), fold_batch_norm(program), sliced):
        with pytest.raises(DataError, match=REFUSAL):
            found.run(LONGER)
        for mode in (False, True):
            module = found.module(mode)
            for twin in (module, copy.deepcopy(module), unpickle_run(pickle_run(module, {}))):
                with pytest.raises(DataError, match=REFUSAL):
                    twin(LONGER)
                assert twin(torch.zeros(5, 4, 20)).shape == (5, 3)


@pytest.mark.parametrize(("given", "message"), [
    (torch.zeros(4, 20), r"input 'x' has shape \(4, 20\), expected \(N, 4, 20\)"),
    (torch.zeros(1, 5, 20), r"input 'x' has shape \(1, 5, 20\), expected \(N, 4, 20\)"),
    (torch.zeros(2, 4, 20, dtype=torch.float64),
     r"input 'x' is torch\.float64, expected torch\.float32; use \.to\(torch\.float32\)"),
    (torch.zeros(2, 4, 20, dtype=torch.uint8), r"input 'x' is torch\.uint8, expected torch\.float"),
    (torch.zeros(0, 4, 20), r"input 'x' is empty \(shape \(0, 4, 20\)\)"),
    (torch.zeros(2, 4, 20).numpy(), r"input 'x' is a ndarray, expected a tensor"),
])
def test_what_is_off_is_named(program: Any, given: Any, message: str) -> None:
    for call in (program.run, program.module(), program.module(train=True)):
        with pytest.raises(DataError, match=message):
            call(given)


def test_a_module_in_another_precision_takes_it(program: Any) -> None:
    module = program.module().double()
    assert module(torch.zeros(2, 4, 20, dtype=torch.float64)).dtype == torch.float64


class Nested(nn.Module):
    def forward(self, x: Tensor, more: dict[str, Any], *rest: Tensor) -> Tensor:
        return x + more["a"] + more["b"][0] + rest[0]


@pytest.fixture(scope="module")
def nested() -> Any:
    one = torch.zeros(1, 4)
    return Program.capture(Nested(), (one, {"a": one, "b": [one]}, one))


def test_nested_inputs_are_taken_as_the_model_takes_them(nested: Any) -> None:
    x, y = torch.ones(3, 4), torch.full((3, 4), 2.0)
    for module in (nested.module(), nested.module(train=True)):
        assert module(x, {"b": [y], "a": x}, x).tolist() == [[5.0] * 4] * 3


@pytest.mark.parametrize(("change", "message"), [
    (lambda x: (x,), r"takes 4 inputs \(x, more_a, more_b_0, rest_0\), got 1 nested in another"),
    (lambda x: (x, {"a": x}, x), "got 3 nested in another way"),
    (lambda x: (x, {"a": x, "b": [x], "c": x}, x), "got 5"),
    (lambda x: (x, {"a": x, "b": [x, x]}, x), "got 5"),
    (lambda x: (x, {"a": x, "b": [x]}, x, x), "got 5"),
    (lambda x: (x, {"a": x, "b": [x[:2]]}, x), r"different batch sizes: \[2, 3\]"),
    (lambda x: (x, {"a": x, "b": [x[:, :3]]}, x),
     r"input 'more_b_0' has shape \(3, 3\), expected \(N, 4\)"),
    (lambda x: (x, {"a": x.int(), "b": [x]}, x), "input 'more_a' is torch.int32"),
    (lambda x: (x, {"a": x, "b": [None]}, x), "input 'more_b_0' is a NoneType"),
])
def test_other_nestings_are_refused(nested: Any, change: Callable[..., Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        nested.run(*change(torch.ones(3, 4)))


def test_a_module_that_is_compiled_in_one_piece_still_is(program: Any) -> None:
    module = program.module()
    compiled, x = torch.compile(module, fullgraph=True, backend="eager"), torch.randn(3, 4, 20)
    torch.testing.assert_close(compiled(x), module(x))
