"""Probe inputs: real samples if there are any, else random values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import DataError
from edgewright.graph import draw_random_inputs
from edgewright.program import Program, probe_inputs
from edgewright.quantization import quantize
from edgewright.task import Task


def test_real_samples_are_used_unchanged() -> None:
    x = torch.rand(5, 3)
    program = Program.capture(nn.Linear(3, 2), x)
    probe, = probe_inputs(program)
    assert torch.equal(probe, x[[0, 4]])


def test_a_second_equal_sample_is_shuffled() -> None:
    x = torch.arange(6.0).reshape(1, 2, 3)
    probe, = probe_inputs(Program.capture(nn.ReLU(), x))
    assert torch.equal(probe[0], x[0])
    assert not torch.equal(probe[1], x[0])
    assert torch.equal(probe[1].flatten().sort().values, x.flatten())


def test_constant_inputs_become_noise() -> None:
    program = Program.capture(nn.ReLU(), torch.zeros(1, 40))
    probe, = probe_inputs(program)
    assert torch.equal(probe, draw_random_inputs(program.example_inputs, seed=0)[0])
    assert torch.equal(probe, probe_inputs(program)[0])


def test_constant_inputs_of_a_quantizer_become_values_in_its_range() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 40) * 4 + 10
    task = Task((x, torch.zeros(64).long()), test=(x, torch.zeros(64).long()))
    program = quantize(Program.capture(nn.Sequential(nn.Linear(40, 8), nn.ReLU(), nn.Linear(8, 2)),
                                       torch.zeros(1, 40)), task)
    blank = program.with_examples([torch.zeros(1, 40)])
    probe, = probe_inputs(blank)
    assert 0 <= probe.min() < 1 < 13 < probe.max() < 14.5


class Looked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(9, 4), nn.Embedding(3, 4)

    def forward(self, tokens: Tensor, flags: Tensor) -> Tensor:
        return self.words(tokens) + self.kinds(tokens.reshape(-1, 1, 5)[:, 0]) + flags[..., None]


def test_constant_indices_become_indices_below_the_embedding_rows() -> None:
    example = torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5, dtype=torch.bool)
    tokens, flags = probe_inputs(Program.capture(Looked(), example))
    assert set(tokens.flatten().tolist()) == {0, 1, 2}
    assert flags.all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_other_constant_integers_are_unchanged(dtype: Any) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float() / 255

    probe, = probe_inputs(Program.capture(Scaled(), torch.full((1, 4), 7, dtype=dtype)))
    assert (probe == 7).all()
    assert probe.dtype == dtype


class Nested(nn.Module):
    def forward(self, pair: dict[str, Tensor]) -> Tensor:
        return pair["a"] + pair["b"]


def test_other_examples_are_taken_in_the_order_of_the_inputs() -> None:
    program = Program.capture(Nested(), ({"a": torch.zeros(1, 2), "b": torch.zeros(1, 2)},))
    a, b = torch.rand(5, 2, dtype=torch.float64), torch.rand(5, 2)
    shown = program.with_examples([a, b])
    assert torch.equal(shown.example_inputs[0]["a"], a[[0, 4]].float())
    assert torch.equal(shown.example_inputs[0]["b"], b[[0, 4]])
    assert not program.example_inputs[0]["a"].any()


@pytest.mark.parametrize("samples", [
    [], [torch.zeros(1, 2)], [torch.zeros(1, 3), torch.zeros(1, 2)],
    [torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2)],
    [torch.zeros(0, 2), torch.zeros(0, 2)]])
def test_samples_of_another_kind_are_refused(samples: list[Any]) -> None:
    program = Program.capture(Nested(), ({"a": torch.zeros(1, 2), "b": torch.zeros(1, 2)},))
    with pytest.raises(DataError, match=r"the samples are .*, but the program takes "
                                        r"float32 \(2, 2\), float32 \(2, 2\)"):
        program.with_examples(samples)
