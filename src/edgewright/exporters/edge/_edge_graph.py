"""Rewrites of a quantised graph into the forms that converters of edge runtimes read.

They know graphs as PT2E writes them: biases in floating point, which the runtime puts on the grid
of the products itself, and one dequantisation for each reader. The numbers stay the program's.
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

_WEIGHT_LIMITS: Final = -127, 127  # of the type, not of fewer bits stored in it


def one_sample(program: Program) -> tuple[Any, ...]:
    """Example inputs of a batch of one: edge runtimes plan their memory ahead.

    Raises:
        ModelError: A batch norm has no running statistics, so that samples depend on each other.
    """
    for node in program.calls():
        if node.target is ops.BATCH_NORM and argument(node, "running_mean") is None:
            raise ModelError(f"{node.name} is a batch norm without running statistics: it "
                             "normalizes by the batch, and the file takes one sample at a time; "
                             "use track_running_stats=True, or an instance norm")
    inputs: tuple[Any, ...] = pytree.tree_map(lambda leaf: leaf[:1], program.example_inputs)
    return inputs


def float_biases(module: GraphModule) -> None:
    """Store every bias of int32 in floating point; rounded to the grid, it is the same again."""
    for node in list(module.graph.nodes):
        if is_constant(node) and channel_grid(node).dtype is torch.int32:
            _to_float(module, node)


def float_weights(module: GraphModule) -> None:
    """Store weights in floating point where no kernel would read them as integers.

    Kernels of integers want the layer's input quantised, and its result too unless the input was
    quantised while running. Those of linear layers read floats with integer weights as well.
    """
    for node in list(module.graph.nodes):
        if is_constant(node) and not all(
                reader.target is ops.LINEAR or computes_integers(reader)
                for reader in node.users):
            _to_float(module, node)


def requantize_weights(module: GraphModule) -> None:
    """Store weights in floating point and quantise them in the graph, to the same integers."""
    for node in list(module.graph.nodes):
        if not is_constant(node) or channel_grid(node).dtype is not torch.int8:
            continue
        low, high = _WEIGHT_LIMITS
        grid = channel_grid(node)._replace(quant_min=low, quant_max=high)
        with module.graph.inserting_before(node):
            stored = module.graph.call_function(ops.QUANTIZE_CHANNELS,
                                                (_float_of(module, node), *grid))
        node.args = (stored, *grid)


def average_on_the_grid(module: GraphModule) -> None:
    """Put averages of integers back on the grid they note, as the runtime's kernels are.

    The program takes them off it to round as those kernels do.
    """
    for node in module.graph.nodes:
        fact = get_fact(node, "average_grid")
        if fact is None:
            continue
        scale, zero_point = fact
        for scaled in (*node.all_input_nodes, *node.users):
            grid = tensor_grid(scaled)._replace(scale=scale, zero_point=zero_point)
            scaled.args = (scaled.args[0], *grid)


def own_dequantizations(module: GraphModule) -> PassResult:
    """Give each reader of a dequantized value a dequantization of its own, in place.

    XNNPACK's partitioner chooses an order of the channels for the value, and would write it anew
    for one reader without telling the others.

    Args:
        module: Of torch's operators, or ExecuTorch's, to which this is a pass.
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
    """Whether a node dequantises a stored tensor."""
    return (isinstance(node, Node)
            and node.target is ops.DEQUANTIZE_CHANNELS
            and all(isinstance(arg, Node) and arg.op == "get_attr" for arg in _stored(node)))


def computes_integers(layer: Node) -> bool:
    """Whether a layer's input is quantised, and its result too unless the input is dynamically."""
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


def _stored(node: Node) -> tuple[Any, Any, Any]:
    """The integers that a dequantization reads, their scales and their zero points."""
    grid = channel_grid(node)
    return node.args[0], grid.scales, grid.zero_points


def _to_float(module: GraphModule, node: Node) -> None:
    with module.graph.inserting_before(node):
        value = _float_of(module, node)
    node.replace_all_uses_with(value)
    module.graph.erase_node(node)


def _float_of(module: GraphModule, node: Node) -> Node:
    """A stored tensor of the numbers that a dequantisation gives, read before it."""
    state = module.state_dict()
    integers, scales, zero_points = (state[str(arg.target)] for arg in _stored(node))
    grid = channel_grid(node)._replace(scales=scales, zero_points=zero_points)
    value = ops.DEQUANTIZE_CHANNELS(integers, *grid)
    name = f"{node.name}_float"
    module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return module.graph.get_attr(name)
