"""Weights of few bits multiplied, so that biases lie on the grid of the products.

Kernels of integers add a bias as it is stored: in steps of input scale times weight scale. With few
bits both scales are large, and biases would be coarse. A program stores them finer, by a power of
two; a kernel reads bytes, where weights of few bits have the room to be multiplied by as much and
their scale divided. The products, and so the function, are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgewright.program import Program, settle, stored_tensors

quantized = torch.ops.quantized_decomposed


def on_the_grid_of_products(program: Program) -> Program:
    """The program with weights multiplied wherever a bias is stored finer than the products.

    Returns:
        ``program`` itself where there is no such bias.
    """
    result = program.copy()
    tensors = stored_tensors(result.graph_module)
    layers = [(layer, factor) for layer in result.calls()
              if (factor := _factor(layer, tensors)) > 1]
    if not layers:
        return program
    for layer, factor in layers:
        _multiply(result.graph_module, layer, factor, tensors)
    settle(result.graph_module)
    return result


def _factor(layer: Node, tensors: dict[str, Tensor]) -> int:
    """How much finer than the products a layer's bias is stored; 1 where it has none."""
    operands: Any = (*layer.args[:3], None, None, None)[:3]
    source, weight, bias = operands
    if not (_is(source, quantized.dequantize_per_tensor.default)
            and _is(weight, quantized.dequantize_per_channel.default)
            and _is(bias, quantized.dequantize_per_channel.default)
            and bias.args[-1] is torch.int32):
        return 1
    products = float(source.args[1]) * tensors[str(weight.args[1].target)].double()
    return int((products / tensors[str(bias.args[1].target)]).median().round())


def _is(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and node.target is target


def _multiply(module: GraphModule, layer: Node, factor: int, tensors: dict[str, Tensor]) -> None:
    weight: Any = layer.args[1]
    integers, scale, zero_point, axis, low, high, dtype = weight.args
    changed = [(node.target, tensors[str(node.target)] * by)
               for node, by in ((integers, factor), (scale, 1 / factor), (zero_point, factor))]
    with module.graph.inserting_before(weight):
        stored = [_stored(module, f"{name}_x{factor}", value) for name, value in changed]
        multiplied = module.graph.call_function(
            weight.target, (*stored, axis, low * factor, high * factor, dtype))
    layer.update_arg(1, multiplied)


def _stored(module: GraphModule, name: str, value: Tensor) -> Node:
    owner, _, leaf = name.rpartition(".")
    module.get_submodule(owner).register_buffer(leaf, value)
    return module.graph.get_attr(name)
