"""The forms that edge runtimes read compute what the program does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.exporters.edge import _edge_graph as forms
from edgewright.exporters.edge._convolutions_of_ones import (
    convolve_pools,
    convolve_slices,
    write_out_pools,
)
from edgewright.exporters.edge._xnnpack_linears import split_biases
from edgewright.graph import settle
from edgewright.program import Program
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task

quantized = torch.ops.quantized_decomposed


@pytest.fixture(scope="module")
def signed(blocks: Program, images: Tensor, as_task: Callable[[Tensor], Task]) -> Program:
    return quantize(blocks, as_task(images), Quantization(target="litert"))


def targets(module: torch.fx.GraphModule) -> Any:
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("rewrite", [
    forms.float_biases, forms.requantize_weights, forms.own_dequantizations])
def test_a_rewrite_changes_no_number(signed: Program, rewrite: Any, images: Tensor) -> None:
    module = copy.deepcopy(signed.graph_module)
    before = targets(module)
    rewrite(module)
    settle(module)
    assert targets(module) != before
    assert torch.equal(module(images), signed.run(images))


def test_means_go_back_on_the_grid_of_their_input(signed: Program, images: Tensor) -> None:
    module = copy.deepcopy(signed.graph_module)
    mean, = (node for node in module.graph.nodes if node.target is torch.ops.aten.mean.dim)
    assert mean.args[0].args[1:3] == (1.0, 0)
    forms.average_on_the_grid(module)
    settle(module)
    result, = mean.users
    reader, = result.users
    assert mean.args[0].args[1:3] == result.args[1:3] == reader.args[1:3] != (1.0, 0)
    want = signed.run(images)
    assert torch.linalg.norm(module(images) - want) < 0.05 * torch.linalg.norm(want)


def test_biases_are_the_same_integers_again(signed: Program) -> None:
    module = copy.deepcopy(signed.graph_module)
    stored = [(node, module.state_dict()) for node in module.graph.nodes
              if node.target is quantized.dequantize_per_channel.default
              and node.args[-1] is torch.int32]
    assert len(stored) == 6
    for node, state in stored:
        integers, scales = (state[arg.target] for arg in node.args[:2])
        assert torch.equal(torch.round(integers.float() * scales / scales).int(), integers)


class Ends(nn.Module):
    """A convolution between quantised values, and one and a linear layer that end in floats."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.map = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.body(x).relu()
        return self.head(x.mean((2, 3))), self.map(x)


@pytest.fixture(scope="module")
def ends(images: Tensor, as_task: Callable[[Tensor], Task]) -> Program:
    program = Program.capture(Ends().eval(), images[:2])
    return quantize(program, as_task(images), Quantization(target="executorch"))


def test_weights_that_no_kernel_reads_as_integers_become_floats(ends: Program,
                                                                images: Tensor) -> None:
    module = copy.deepcopy(ends.graph_module)
    forms.float_biases(module)
    forms.float_weights(module)
    settle(module)
    left = [node.args[0].target for node in module.graph.nodes
            if node.target is quantized.dequantize_per_channel.default]
    assert left == ["body.weight", "head.weight"]
    assert all(map(torch.equal, module(images), ends.run(images)))


def test_a_bias_is_added_after_a_linear_layer_with_a_float_result(signed: Program,
                                                                  images: Tensor) -> None:
    module = copy.deepcopy(signed.graph_module)
    split_biases(module)
    settle(module)
    layers = [node for node in module.graph.nodes if node.target is torch.ops.aten.linear.default]
    assert [len(layer.args) for layer in layers] == [3, 2]  # hidden, head
    addition, = layers[1].users
    assert addition.target is torch.ops.aten.add.Tensor
    assert torch.allclose(module(images), signed.run(images), rtol=1e-6, atol=1e-6)


def test_every_reader_has_a_dequantisation_of_its_own(signed: Program) -> None:
    module = copy.deepcopy(signed.graph_module)
    forms.own_dequantizations(module)
    found = [node for node in module.graph.nodes
             if node.target is quantized.dequantize_per_tensor.default]
    assert found
    assert all(len(node.users) == 1 for node in found)


@pytest.mark.parametrize(("step", "dim", "size"), [(2, 2, 8), (2, 3, 7), (3, 2, 8)])
def test_slices_with_a_step_become_convolutions(step: int, dim: int, size: int) -> None:
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, ::step] if dim == 2 else x[:, :, :, ::step]

    x = torch.randn(5, 3, size, size)
    module = Program.capture(Steps(), x[:1]).graph_module
    want = module(x)
    convolve_slices(module)
    settle(module)
    assert torch.ops.aten.conv2d.default in targets(module)
    assert torch.ops.aten.slice.Tensor not in targets(module)
    assert torch.equal(module(x), want)


@pytest.mark.parametrize("part", [
    lambda x: x[:, :, 1::2], lambda x: x[:, :, :5:2], lambda x: x[:, ::2], lambda x: x[:, :, :5]])
def test_other_slices_stay(part: Callable[..., Any]) -> None:
    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return part(x)

    module = Program.capture(Part(), torch.randn(1, 4, 8, 8)).graph_module
    convolve_slices(module)
    assert torch.ops.aten.conv2d.default not in targets(module)
    assert torch.ops.aten.slice.Tensor in targets(module)


def pooled(pool: Any, images: Any, as_task: Any, target: Any) -> Any:
    """A quantised program in which a pooling lies between two convolutions."""
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(pool(self.before(x))).mean((2, 3))

    program = Program.capture(Pooled().eval(), images[:2])
    return quantize(program, as_task(images), Quantization(target=target))


POOLS = {
    "2": lambda x: nn.functional.avg_pool2d(x, 2),
    "3 by 2": lambda x: nn.functional.avg_pool2d(x, 3, 2),
    "padded": lambda x: nn.functional.avg_pool2d(x, 2, 2, padding=1),
    "adaptive": lambda x: nn.functional.adaptive_avg_pool2d(x, 2),
    "one after another": lambda x: nn.functional.avg_pool2d(nn.functional.avg_pool2d(x, 2), 2)}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("target", ["litert", "executorch"])
def test_pools_go_back_on_the_grid_that_is_read(pool: Any, target: str, images: Tensor,
                                                as_task: Callable[[Tensor], Task]) -> None:
    program = pooled(POOLS[pool], images, as_task, target)
    module = copy.deepcopy(program.graph_module)
    grids = {node.args[1:3] for node in module.graph.nodes
             if node.target is quantized.dequantize_per_tensor.default}
    forms.average_on_the_grid(module)
    settle(module)
    back = {node.args[1:3] for node in module.graph.nodes
            if node.target is quantized.dequantize_per_tensor.default}
    assert len(back) == len({grid for grid in grids if grid[0] != 1}) < len(grids)
    want = program.run(images)
    assert torch.linalg.norm(module(images) - want) < 0.05 * torch.linalg.norm(want)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("target", ["litert", "executorch"])
def test_a_program_from_a_file_takes_the_same_form(pool: Any, target: str, images: Tensor,
                                                   as_task: Callable[[Tensor], Task],
                                                   tmp_path: Path) -> None:
    program = pooled(POOLS[pool], images, as_task, target)
    program.save(tmp_path / "p.pt2")
    grids: list[list[Any]] = []
    for each in (program, Program.load(tmp_path / "p.pt2")):
        forms.average_on_the_grid(each.graph_module)
        grids.append([node.args[1:3] for node in each.calls() if node.target in (
            quantized.dequantize_per_tensor.default, quantized.quantize_per_tensor.default)])
    assert grids[0] == grids[1]
    assert all(scale < 0.99 for scale, _ in grids[0])


def test_an_average_whose_scale_is_one_is_on_its_grid_already() -> None:
    """A scale is a number of its own, and no sign that a pass has been there."""
    class Average(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first, second = ((1.0, zero, -128, 127, torch.int8) for zero in (-3, 5))
            x = quantized.dequantize_per_tensor.default(
                quantized.quantize_per_tensor.default(x, *first), *first)
            return quantized.dequantize_per_tensor.default(quantized.quantize_per_tensor.default(
                nn.functional.avg_pool2d(x, 2), *second), *second)

    x = 40 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    module = Program.capture(Average(), x).graph_module
    want = module(x)
    forms.average_on_the_grid(module)
    settle(module)
    assert torch.equal(module(x), want)


@pytest.mark.parametrize("pool", POOLS)
def test_pools_become_convolutions_of_ones(pool: Any, images: Tensor,
                                           as_task: Callable[[Tensor], Task]) -> None:
    program = pooled(POOLS[pool], images, as_task, "executorch")
    module = copy.deepcopy(program.graph_module)
    for rewrite in (forms.average_on_the_grid, write_out_pools, convolve_pools, settle):
        rewrite(module)
    assert not {torch.ops.aten.avg_pool2d.default,
                torch.ops.aten.adaptive_avg_pool2d.default} & set(targets(module))
    want = program.run(images)
    assert torch.linalg.norm(module(images) - want) < 0.05 * torch.linalg.norm(want)


@pytest.mark.parametrize("pool", [
    *POOLS.values(), lambda x: nn.functional.max_pool2d(x, 2),
    lambda x: nn.functional.avg_pool2d(x, 3, 2, ceil_mode=True),
    lambda x: nn.functional.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)])
def test_pools_in_floating_point_are_written_out(pool: Any) -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return pool(x)

    x = torch.randn(2, 4, 8, 8)
    module = Program.capture(Pool(), x).graph_module
    want = module(x)
    write_out_pools(module)
    convolve_pools(module)
    settle(module)
    assert all(len(node.args) >= 3 for node in module.graph.nodes if node.op == "call_function")
    assert torch.allclose(module(x), want)
