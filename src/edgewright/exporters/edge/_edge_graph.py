"""Rewrite a quantized graph into the form that converters of edge runtimes expect.

They expect graphs in the form of PT2E: biases in floating point, which the runtime quantizes with
the scale of the products, and one dequantization per reader. The computed numbers do not change.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassResult
from torch.utils import _pytree as pytree

from edgewright.errors import ModelError
from edgewright.graph import argument, channel_grid, get_fact, ops, tensor_grid
from edgewright.program import Program

_WEIGHT_LIMITS: Final = -127, 127  # of the type, even if fewer bits are used


def make_single_sample_inputs(program: Program) -> tuple[Any, ...]:
    """Example inputs with a batch of one, because edge runtimes plan their memory in advance.

    Raises:
        ModelError: A batch norm has no running statistics, so that samples depend on each other.
    """
    for node in program.calls():
        if node.target is ops.BATCH_NORM and argument(node, "running_mean") is None:
            raise ModelError(f"{node.name} is a batch norm without running statistics: it "
                             "normalizes over the batch, but the file takes one sample at a time; "
                             "use track_running_stats=True, or an instance norm")
    inputs: tuple[Any, ...] = pytree.tree_map(lambda leaf: leaf[:1], program.example_inputs)
    return inputs


def convert_biases_to_float(module: GraphModule) -> None:
    """Store int32 biases in floating point; rounding them again gives the same integers."""
    for node in list(module.graph.nodes):
        if is_constant(node) and channel_grid(node).dtype is torch.int32:
            _to_float(module, node)


def convert_weights_to_float(module: GraphModule) -> None:
    """Store weights in floating point if the runtime has no kernel that reads them as integers.

    Integer kernels require a quantized input and a quantized result, except for dynamically
    quantized inputs. Linear layers also have kernels for floating-point inputs with integer
    weights.
    """
    for node in list(module.graph.nodes):
        if is_constant(node) and not all(
                reader.target is ops.LINEAR or computes_integers(reader)
                for reader in node.users):
            _to_float(module, node)


def requantize_weights(module: GraphModule) -> None:
    """Store weights in floating point, and quantize them in the graph to the same integers."""
    for node in list(module.graph.nodes):
        if not is_constant(node) or channel_grid(node).dtype is not torch.int8:
            continue
        low, high = _WEIGHT_LIMITS
        grid = channel_grid(node)._replace(quant_min=low, quant_max=high)
        with module.graph.inserting_before(node):
            stored = module.graph.call_function(ops.QUANTIZE_CHANNELS,
                                                (_dequantize_stored(module, node), *grid))
        node.args = (stored, *grid)


def restore_average_grids(module: GraphModule) -> None:
    """Restore the grids of averages from the fact ``average_grid``, as the runtime's kernels need.

    The program uses other scales there in order to round like those kernels.
    """
    for node in module.graph.nodes:
        fact = get_fact(node, "average_grid")
        if fact is None:
            continue
        scale, zero_point = fact
        for scaled in (*node.all_input_nodes, *node.users):
            grid = tensor_grid(scaled)._replace(scale=scale, zero_point=zero_point)
            scaled.args = (scaled.args[0], *grid)


def duplicate_dequantizations(module: GraphModule) -> PassResult:
    """Give each reader of a dequantized value its own dequantization, in place.

    XNNPACK's partitioner chooses a memory layout for the value and may rewrite it for one reader
    without updating the others.

    Args:
        module: A graph module with the operators of torch or ExecuTorch.
    """
    for node in list(module.graph.nodes):
        if ops.DEQUANTIZE not in (node.target, getattr(node.target, "_op", None)):
            continue
        for reader in list(node.users)[1:]:
            with module.graph.inserting_before(reader):
                own = module.graph.call_function(node.target, node.args)
            own.meta = dict(node.meta)
            reader.replace_input_with(node, own)
    return PassResult(module, modified=True)


def is_constant(node: Any) -> bool:
    """Whether a node dequantizes a stored tensor."""
    return (isinstance(node, Node)
            and node.target is ops.DEQUANTIZE_CHANNELS
            and all(isinstance(arg, Node) and arg.op == "get_attr"
                    for arg in _stored_operands(node)))


def computes_integers(layer: Node) -> bool:
    """Whether input and result of a layer are quantized, or its input is dynamically quantized."""
    source = layer.args[0]
    if not isinstance(source, Node):
        return False
    if source.target is ops.DYNAMIC_DEQUANTIZE:
        return True
    readers = list(layer.users)
    while len(readers) == 1 and readers[0].target in ops.CLAMPS:
        readers = list(readers[0].users)
    return source.target is ops.DEQUANTIZE and all(
        reader.target is ops.QUANTIZE for reader in readers)


def _stored_operands(node: Node) -> tuple[Any, Any, Any]:
    """The integers, scales and zero points that a dequantization reads."""
    grid = channel_grid(node)
    return node.args[0], grid.scales, grid.zero_points


def _to_float(module: GraphModule, node: Node) -> None:
    with module.graph.inserting_before(node):
        value = _dequantize_stored(module, node)
    node.replace_all_uses_with(value)
    module.graph.erase_node(node)


def _dequantize_stored(module: GraphModule, node: Node) -> Node:
    """Store the result of a dequantization as a float tensor, and return a node that reads it."""
    state = module.state_dict()
    integers, scales, zero_points = (state[str(arg.target)] for arg in _stored_operands(node))
    grid = channel_grid(node)._replace(scales=scales, zero_points=zero_points)
    value = ops.DEQUANTIZE_CHANNELS(integers, *grid)
    name = f"{node.name}_float"
    module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return module.graph.get_attr(name)
