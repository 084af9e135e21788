"""Biases finer than the products of few bits: in the program, and in the file, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.exporters import to_onnx
from edgewright.exporters._fine_biases import on_the_grid_of_products
from edgewright.runtime import OnnxEngine
from edgewright.task import Task


@pytest.fixture(scope="module")
def made() -> tuple[Any, ...]:
    torch.manual_seed(0)
    shared = nn.Conv2d(4, 4, 3, padding=1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), shared, nn.ReLU(), shared,
                        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    for name in ("0.bias", "2.bias", "8.bias"):
        nn.init.normal_(net.get_parameter(name), std=0.5)
    x, y = torch.randn(64, 3, 8, 8), torch.arange(64) % 3
    return ew.Program.capture(net, x[:2]), Task((x, y), test=(x[:3], y[:3])), x


def quantized(made: Any, bits: int) -> Any:
    program, task, _ = made
    return ew.quantize(program, task, ew.Quantization(weights=bits, activations=bits, first_last_bits=None))


@pytest.mark.parametrize(("bits", "factor"), [(4, 8), (3, 16), (2, 32)])
def test_the_file_is_the_program_and_biases_are_finer_than_products(made: Any, bits: int,
                                                                    factor: int) -> None:
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


def test_a_program_of_eight_bits_is_left_alone(made: Any) -> None:
    program = quantized(made, 8)
    assert on_the_grid_of_products(program) is program


def test_a_program_from_a_file_is_exported_to_the_same_bytes(made: Any, tmp_path: Path) -> None:
    program = quantized(made, 4)
    program.save(tmp_path / "p.pt2")
    assert to_onnx(ew.Program.load(tmp_path / "p.pt2")) == to_onnx(program)


@pytest.mark.parametrize("size", [1e-24, 1e12])
def test_how_much_finer_is_known_where_no_quotient_of_scales_would_tell(made: Any,
                                                                        size: float) -> None:
    """Products of minute weights and inputs underflow; of one channel there is no median."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 3)).eval()
    x = torch.randn(64, 4) * size
    with torch.no_grad():
        net.get_parameter("0.weight").mul_(size)
    task = Task((x, torch.arange(64) % 3), test=(x[:3], torch.arange(3)))
    config = ew.Quantization(weights=4, first_last_bits=None)
    program = ew.quantize(ew.Program.capture(net, x[:2]), task, config)
    stored = on_the_grid_of_products(program).state_dict()
    assert {name for name, value in stored.items() if value.dtype == torch.int8} == {
        "0.weight_x8", "1.weight_x8"}


def test_a_tensor_of_the_model_keeps_the_name_that_a_multiple_would_take(made: Any) -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.layer.weight_x8 = nn.Parameter(torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + self.layer.weight_x8

    x = torch.randn(64, 4)
    task = Task((x, torch.arange(64) % 3), test=(x[:3], torch.arange(3)))
    program = ew.quantize(ew.Program.capture(Net(), x[:2]), task, ew.Quantization(
        weights=4, first_last_bits=None))
    fine = on_the_grid_of_products(program)
    assert fine.state_dict()["layer.weight_x8"].shape == (3,)
    assert torch.equal(fine.run(x), program.run(x))
