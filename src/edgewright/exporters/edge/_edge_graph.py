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
from edgewright.graph import fact_of
from edgewright.program import Program

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
_WEIGHT_LIMITS: Final = -127, 127  # of the type, not of fewer bits stored in it
_CLAMPS: Final = frozenset({aten.relu.default, aten.relu_.default, aten.relu6.default,
                            aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default})

_DEQUANTIZE: Final = quantized.dequantize_per_tensor.default


def one_sample(program: Program) -> tuple[Any, ...]:
    """Example inputs of a batch of one: edge runtimes plan their memory ahead.

    Raises:
        ModelError: A batch norm has no running statistics, so that samples depend on each other.
    """
    for node in program.calls():
        if node.target is aten.batch_norm.default and node.args[3] is None:
            raise ModelError(f"{node.name} is a batch norm without running statistics: it "
                             "normalizes by the batch, and the file takes one sample at a time; "
                             "use track_running_stats=True, or an instance norm")
    inputs: tuple[Any, ...] = pytree.tree_map(lambda leaf: leaf[:1], program.example_inputs)
    return inputs


def float_biases(module: GraphModule) -> None:
    """Store every bias of int32 in floating point; rounded to the grid, it is the same again."""
    for node in list(module.graph.nodes):
        if is_constant(node) and node.args[-1] is torch.int32:
            _to_float(module, node)


def float_weights(module: GraphModule) -> None:
    """Store weights in floating point where no kernel would read them as integers.

    Kernels of integers want the layer's input quantised, and its result too unless the input was
    quantised while running. Those of linear layers read floats with integer weights as well.
    """
    for node in list(module.graph.nodes):
        if is_constant(node) and not all(
                reader.target is aten.linear.default or computes_integers(reader)
                for reader in node.users):
            _to_float(module, node)


def requantize_weights(module: GraphModule) -> None:
    """Store weights in floating point and quantise them in the graph, to the same integers."""
    for node in list(module.graph.nodes):
        if not is_constant(node) or node.args[-1] is not torch.int8:
            continue
        grid = (*node.args[1:4], *_WEIGHT_LIMITS, torch.int8)
        with module.graph.inserting_before(node):
            stored = module.graph.call_function(quantized.quantize_per_channel.default,
                                                (_float_of(module, node), *grid))
        node.args = (stored, *grid)


def average_on_the_grid(module: GraphModule) -> None:
    """Put averages of integers back on the grid they note, as the runtime's kernels are.

    The program takes them off it to round as those kernels do.
    """
    for node in module.graph.nodes:
        grid = fact_of(node, "average_grid")
        for scaled in () if grid is None else (*node.all_input_nodes, *node.users):
            scaled.args = (scaled.args[0], *grid, *scaled.args[3:])


def own_dequantizations(module: GraphModule) -> PassResult:
    """Give each reader of a dequantized value a dequantization of its own, in place.

    XNNPACK's partitioner chooses an order of the channels for the value, and would write it anew
    for one reader without telling the others.

    Args:
        module: Of torch's operators, or ExecuTorch's, to which this is a pass.
    """
    for node in list(module.graph.nodes):
        if _DEQUANTIZE not in (node.target, getattr(node.target, "_op", None)):
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
            and node.target is quantized.dequantize_per_channel.default
            and all(isinstance(arg, Node) and arg.op == "get_attr" for arg in node.args[:3]))


def computes_integers(layer: Node) -> bool:
    """Whether a layer's input is quantised, and its result too unless the input is dynamically."""
    source = layer.args[0]
    if not isinstance(source, Node):
        return False
    if source.target is quantized.dequantize_per_tensor.tensor:
        return True
    readers = list(layer.users)
    while len(readers) == 1 and readers[0].target in _CLAMPS:
        readers = list(readers[0].users)
    return source.target is quantized.dequantize_per_tensor.default and all(
        reader.target is quantized.quantize_per_tensor.default for reader in readers)


def _to_float(module: GraphModule, node: Node) -> None:
    with module.graph.inserting_before(node):
        value = _float_of(module, node)
    node.replace_all_uses_with(value)
    module.graph.erase_node(node)


def _float_of(module: GraphModule, node: Node) -> Node:
    """A stored tensor of the numbers that a dequantisation gives, read before it."""
    state = module.state_dict()
    stored = [state[str(arg.target)] for arg in node.args[:3] if isinstance(arg, Node)]
    value = quantized.dequantize_per_channel.default(*stored, *node.args[3:])
    name = f"{node.name}_float"
    module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return module.graph.get_attr(name)
