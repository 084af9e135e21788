from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.distill import initialize
from edgewright.program import Program


class Everything(nn.Module):
    """Every kind of layer whose start is known, and a tensor that no layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 64)
        self.token = nn.Parameter(torch.full((1, 1, 64), 7.0))
        self.linear = nn.Linear(64, 64)
        self.prelu = nn.PReLU(64)
        self.norm = nn.LayerNorm(64)
        self.recurrent = nn.LSTM(64, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.convolution = nn.Conv1d(32, 64, 3)
        self.batch_norm = nn.BatchNorm1d(64)
        self.grouped = nn.GroupNorm(4, 64)
        self.transposed = nn.ConvTranspose1d(64, 32, 2)
        self.tied = nn.Linear(32, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x) + self.token
        x, _ = self.recurrent(self.norm(self.prelu(self.linear(x).transpose(1, 2)).transpose(1, 2)))
        x = self.grouped(self.batch_norm(self.convolution(x.transpose(1, 2))))
        return self.tied(self.tied(self.transposed(x).mean(2)) @ self.tied.weight)


@pytest.fixture(scope="module")
def spoilt() -> Any:
    torch.manual_seed(0)
    model = Everything()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(7)
    return Program.capture(model, torch.zeros(2, 8, dtype=torch.long))


def test_every_layer_is_initialized_as_in_torch(spoilt: Any) -> None:
    fresh = initialize(spoilt, seed=3).state_dict()
    torch.manual_seed(1)
    for name, want in Everything().state_dict().items():
        if name == "token" or name.endswith("num_batches_tracked"):
            continue
        have = fresh[name]
        assert have.shape == want.shape
        if want.min() == want.max():  # scales, shifts, statistics, slopes
            assert torch.equal(have, want), name
        else:
            assert float(have.std()) == pytest.approx(float(want.std()), rel=0.35), name
            assert float(have.abs().max()) == pytest.approx(float(want.abs().max()), rel=0.4), name
            assert abs(float(have.mean())) < 0.5 * float(want.std()), name


def test_other_tensors_keep_their_values(spoilt: Any) -> None:
    assert torch.equal(initialize(spoilt).state_dict()["token"], torch.full((1, 1, 64), 7.0))


def test_a_seed_gives_the_weights_of_the_models_own_constructor(pyramid: Program,
                                                                pyramid_of: Any) -> None:
    torch.manual_seed(11)
    want = pyramid_of().state_dict()
    have = initialize(pyramid, seed=11).state_dict()
    assert all(torch.equal(have[name], want[name]) for name in have)


def test_bounds_are_those_of_the_paper() -> None:
    program = Program.capture(nn.Conv2d(4, 64, 3), torch.zeros(2, 4, 8, 8))
    bound = 1 / math.sqrt(4 * 9)
    for tensor in initialize(program).state_dict().values():
        assert float(tensor.abs().max()) <= bound
        assert float(tensor.abs().max()) > 0.9 * bound


def test_weights_depend_on_the_seed_and_program_and_generator_are_unchanged(spoilt: Any) -> None:
    torch.manual_seed(5)
    one, again, other = (initialize(spoilt, seed).state_dict() for seed in (0, 0, 1))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["linear.weight"], other["linear.weight"])
    assert bool((spoilt.state_dict()["linear.weight"] == 7).all())


def test_tied_weights_stay_tied_and_are_those_of_the_first_layer_that_reads_them() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(40, 8)
            self.head = nn.Linear(8, 40)
            self.head.weight = self.embedding.weight
            self.head.bias = nn.Parameter(torch.full((40,), 7.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embedding(x).mean(1))

    state = initialize(Program.capture(Tied(), torch.zeros(2, 3, dtype=torch.long))).state_dict()
    weights = [tensor for name, tensor in state.items() if name.endswith("weight")]
    assert all(torch.equal(weights[0], weight) for weight in weights)
    assert float(weights[0].std()) == pytest.approx(1, rel=0.2)
    assert float(state["head.bias"].abs().max()) <= 1 / math.sqrt(8)
