"""The forms that edge runtimes read compute what the program does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgewright.exporters import _edge_graph as forms
from edgewright.exporters._strided_slices import convolve_slices
from edgewright.program import Program, settle
from edgewright.quantization import Quantization, quantize

quantized = torch.ops.quantized_decomposed


@pytest.fixture(scope="module")
def signed(blocks, images, as_task) -> Program:
    return quantize(blocks, as_task(images), Quantization(target="litert"))


def targets(module):
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("rewrite", [
    forms.float_biases, forms.float_weights, forms.requantize_weights, forms.own_dequantizations])
def test_a_rewrite_changes_no_number(signed, rewrite, images):
    module = copy.deepcopy(signed.graph_module)
    before = targets(module)
    rewrite(module)
    settle(module)
    assert targets(module) != before
    assert torch.equal(module(images), signed.run(images))


def test_means_go_back_on_the_grid_of_their_input(signed, images):
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


def test_biases_are_the_same_integers_again(signed):
    module = copy.deepcopy(signed.graph_module)
    stored = [(node, module.state_dict()) for node in module.graph.nodes
              if node.target is quantized.dequantize_per_channel.default
              and node.args[-1] is torch.int32]
    assert len(stored) == 6
    for node, state in stored:
        integers, scales = (state[arg.target] for arg in node.args[:2])
        assert torch.equal(torch.round(integers.float() * scales / scales).int(), integers)


def test_weights_that_no_kernel_of_integers_reads_become_floats(signed):
    module = copy.deepcopy(signed.graph_module)
    forms.float_biases(module)
    weights = targets(module).count(quantized.dequantize_per_channel.default)
    forms.float_weights(module)
    assert targets(module).count(quantized.dequantize_per_channel.default) == weights - 1  # head


def test_every_reader_has_a_dequantisation_of_its_own(signed):
    module = copy.deepcopy(signed.graph_module)
    forms.own_dequantizations(module)
    found = [node for node in module.graph.nodes
             if node.target is quantized.dequantize_per_tensor.default]
    assert found
    assert all(len(node.users) == 1 for node in found)


@pytest.mark.parametrize(("step", "dim", "size"), [(2, 2, 8), (2, 3, 7), (3, 2, 8)])
def test_slices_with_a_step_become_convolutions(step, dim, size):
    class Steps(nn.Module):
        def forward(self, x):
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
def test_other_slices_stay(part):
    class Part(nn.Module):
        def forward(self, x):
            return part(x)

    module = Program.capture(Part(), torch.randn(1, 4, 8, 8)).graph_module
    convolve_slices(module)
    assert torch.ops.aten.conv2d.default not in targets(module)
    assert torch.ops.aten.slice.Tensor in targets(module)
