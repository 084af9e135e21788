"""Biases finer than the products of few bits: in the program, and in the file, exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.exporters import to_onnx
from edgewright.exporters._fine_biases import on_the_grid_of_products
from edgewright.runtime import OnnxEngine
from edgewright.task import Task


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    shared = nn.Conv2d(4, 4, 3, padding=1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), shared, nn.ReLU(), shared,
                        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    for layer in (net[0], shared, net[8]):
        nn.init.normal_(layer.bias, std=0.5)
    x, y = torch.randn(64, 3, 8, 8), torch.arange(64) % 3
    return ew.Program.capture(net, x[:2]), Task((x, y), test=(x[:3], y[:3])), x


def quantized(made, bits):
    program, task, _ = made
    return ew.quantize(program, task, ew.Quantization(weights=bits, activations=bits, ends=None))


@pytest.mark.parametrize(("bits", "factor"), [(4, 8), (3, 16), (2, 32)])
def test_the_file_is_the_program_and_biases_are_finer_than_products(made, bits, factor):
    _, _, x = made
    program = quantized(made, bits)
    fine = on_the_grid_of_products(program)
    assert torch.equal(fine.run(x), program.run(x))
    stored = fine.state_dict()
    weights = [name for name, value in stored.items() if value.dtype == torch.int8]
    assert {name.rpartition("_")[2] for name in weights} == {f"x{factor}"}
    for name in weights:
        assert int(stored[name].abs().max()) <= 64
        assert not (stored[name] % factor).any()
    have, = OnnxEngine(to_onnx(program)).run((x.numpy(),))
    assert float((torch.from_numpy(have) - program.run(x)).norm() / program.run(x).norm()) < 0.01
    biases = {name: stored[f"{name}_scale"] * value for name, value in stored.items()
              if value.dtype == torch.int32}
    floats = made[0].state_dict()
    assert len(biases) == 4  # the shared layer's once for each input
    for name, value in biases.items():
        wanted = floats[name.rstrip("_1").removesuffix("_x") if name.endswith("_1") else name]
        assert float((value - wanted).abs().max()) <= float(stored[f"{name}_scale"].max()) / 2


def test_a_program_of_eight_bits_is_left_alone(made):
    program = quantized(made, 8)
    assert on_the_grid_of_products(program) is program
