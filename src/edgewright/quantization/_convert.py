"""From PT2E's converted graph to a program: names restored, biases on the integer grid."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgewright.program import Program, drop_unused_tensors, refresh_shapes
from edgewright.program import weight_of as stored_weight_of

quantized = torch.ops.quantized_decomposed
_INT32: Final = torch.iinfo(torch.int32)


def finish(module: GraphModule, original: Program) -> Program:
    """A program out of what ``convert_pt2e`` returns for ``original``'s graph.

    Quantised weights get their original names back, and every layer's bias is stored as int32 on
    the grid of its products (input scale times weight scale), where the runtime adds it. A tensor
    that others read too, in float or on another grid, leaves them its name and is numbered.
    """
    names = {node.name: weight.target for node in original.calls()
             if (weight := stored_weight_of(node)) is not None}
    for node in list(module.graph.nodes):
        if node.op == "call_function" and _is_quantized_layer(node):
            _rename_weight(module, node, str(names[node.name]))
            _quantize_bias(module, node)
    module.graph.eliminate_dead_code()
    drop_unused_tensors(module)
    module.recompile()
    refresh_shapes(module)
    return Program(module, original.example_inputs, original.exits)


def _is_quantized_layer(node: Node) -> bool:
    return (len(node.args) > 1 and isinstance(node.args[0], Node) and isinstance(node.args[1], Node)
            and node.args[0].target is quantized.dequantize_per_tensor.default
            and node.args[1].target is quantized.dequantize_per_channel.default)


def _read(module: GraphModule, node: Any) -> Tensor:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    tensor: Tensor = value
    return tensor.detach()


def _store(module: GraphModule, name: str, value: Tensor) -> None:
    owner_name, _, leaf = name.rpartition(".")
    if owner_name and owner_name not in dict(module.named_modules()):
        module.add_submodule(owner_name, nn.Module())
    owner = module.get_submodule(owner_name)
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    owner.register_buffer(leaf, value)


def _rename_weight(module: GraphModule, layer: Node, name: str) -> None:
    dequantize = layer.args[1]
    assert isinstance(dequantize, Node)  # noqa: S101  (checked by _is_quantized_layer)
    weight = dequantize.args[0]
    assert isinstance(weight, Node)  # noqa: S101
    value = _read(module, weight)
    for reader in _readers(module, name):
        stored = _read(module, reader)
        if stored.dtype != value.dtype or not torch.equal(stored, value):
            name = _free_name(module, name)
            break
    _store(module, name, value)
    weight.target = name


def _readers(module: GraphModule, name: str) -> list[Node]:
    return [node for node in module.graph.nodes
            if node.op == "get_attr" and node.target == name and node.users]


def _free_name(module: GraphModule, name: str) -> str:
    taken = module.state_dict()
    return next(free for index in count(1) if (free := f"{name}_{index}") not in taken)


def _quantize_bias(module: GraphModule, layer: Node) -> None:
    bias = layer.args[2] if len(layer.args) > 2 else None
    if not isinstance(bias, Node) or bias.op != "get_attr":
        return
    source, weight = layer.args[:2]
    assert isinstance(source, Node)  # noqa: S101  (checked by _is_quantized_layer)
    assert isinstance(weight, Node)  # noqa: S101
    scales = _read(module, weight.args[1]).double() * float(source.args[1])  # type: ignore[arg-type]
    scales = scales.float()
    value = _read(module, bias)
    grid = torch.clamp(torch.round(value.double() / scales.double()), _INT32.min, _INT32.max)
    name = str(bias.target)
    if len(bias.users) > 1 or len(_readers(module, name)) > 1:
        name = _free_name(module, name)
    _store(module, name, grid.to(torch.int32))
    _store(module, f"{name}_scale", scales)
    _store(module, f"{name}_zero_point", torch.zeros(len(scales), dtype=torch.int64))
    with module.graph.inserting_before(layer):
        stored = [module.graph.get_attr(f"{name}{suffix}") for suffix in ("", "_scale",
                                                                         "_zero_point")]
        dequantized = module.graph.call_function(
            quantized.dequantize_per_channel.default,
            (*stored, 0, _INT32.min, _INT32.max, torch.int32))
    layer.update_arg(2, dequantized)

