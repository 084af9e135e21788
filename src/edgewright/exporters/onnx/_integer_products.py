"""Convert layers with dynamically quantized inputs to integer products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.exporters.onnx._constants import add_constant, remove_unused
from edgewright.exporters.onnx._quantized_layers import QuantizedLayer, find_quantized_layers

DynamicQuantization = tuple[ir.Value, ir.Value, ir.Value]


def multiply_integers(graph: ir.Graph) -> None:
    """Convert layers with dynamically quantized inputs to MatMulInteger and ConvInteger.

    The integers are the same as in the program; they are summed exactly and scaled afterwards,
    whereas the program scales first. Layers with grouped weights and convolutions with zero points
    are not converted, because the runtime has no kernels for them.
    """
    for node in list(graph):
        if node.op_type == "QuantizeLinear" and (same := _find_dynamic_quantize(node)) is not None:
            node.outputs[0].replace_all_uses_with(same.outputs[0])
    for layer in find_quantized_layers(graph):
        chosen = _dynamic_quantization(layer.source)
        if chosen is None or layer.group or (layer.zero_points is not None and not layer.is_linear):
            continue
        _multiply(graph, layer, chosen)
    remove_unused(graph)


def _find_dynamic_quantize(quantize: ir.Node) -> ir.Node | None:
    """The DynamicQuantizeLinear that computes the same result as a QuantizeLinear, or None."""
    source, scale, zero_point = (*quantize.inputs, None)[:3]
    choice = scale.producer() if scale is not None else None
    if choice is None or choice.op_type != "DynamicQuantizeLinear":
        return None
    same = (choice.inputs[0] is source and choice.outputs[1] is scale
            and choice.outputs[2] is zero_point)
    return choice if same else None


def _dynamic_quantization(value: ir.Value) -> DynamicQuantization | None:
    """Integers, scale and zero point of a dynamically quantized value, or None."""
    dequantize = value.producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    choice = dequantize.inputs[0].producer() if dequantize.inputs[0] is not None else None
    if choice is None or choice.op_type != "DynamicQuantizeLinear":
        return None
    integers, scale, zero_point = choice.outputs
    return integers, scale, zero_point


def _weight(graph: ir.Graph, layer: QuantizedLayer) -> ir.Value:
    """A layer's integers in the layout of the product.

    A weight with other readers is kept and transposed by the runtime when it loads the file.
    """
    if not layer.is_linear:
        return add_constant(graph, ir.tensor(layer.weight), "weight")
    readers = [use for dequantize in layer.stored.uses()
               for use in dequantize.node.outputs[0].uses()]
    if len(readers) == 1:
        return add_constant(graph, ir.tensor(np.ascontiguousarray(layer.weight.T)), "weight")
    turned = ir.node("Transpose", [layer.stored], {"perm": [1, 0]})
    graph.insert_before(layer.node, turned)
    return turned.outputs[0]


def _multiply(graph: ir.Graph, layer: QuantizedLayer, chosen: DynamicQuantization) -> None:
    integers, scale, zero_point = chosen
    shape = (-1,) if layer.is_linear else (-1, *[1] * (layer.weight.ndim - 2))
    inputs = [integers, _weight(graph, layer), zero_point]
    if layer.zero_points is not None:
        inputs.append(add_constant(graph, ir.tensor(layer.zero_points), "zero_points"))
    attributes = () if layer.is_linear else layer.node.attributes.values()
    scales = add_constant(graph, ir.tensor(layer.scales.reshape(shape)), "scales")
    product = ir.node("MatMulInteger" if layer.is_linear else "ConvInteger", inputs)
    product.attributes.update({attribute.name: attribute for attribute in attributes})
    real = ir.node("Cast", product.outputs, {"to": int(ir.DataType.FLOAT)})
    step = ir.node("Mul", [scale, scales])
    nodes = [product, real, step, ir.node("Mul", [*real.outputs, *step.outputs])]
    bias = layer.node.inputs[2] if len(layer.node.inputs) > 2 else None
    if bias is not None:
        if not layer.is_linear:
            axes = add_constant(graph, ir.tensor(np.array(shape, np.int64)), "shape")
            nodes.append(ir.node("Reshape", [bias, axes]))
        nodes.append(ir.node("Add", [nodes[3].outputs[0],
                                     bias if layer.is_linear else nodes[4].outputs[0]]))
    graph.insert_before(layer.node, nodes)
    result = layer.node.outputs[0]
    last = nodes[-1].outputs[0]
    last.type, last.shape = result.type, result.shape
    result.replace_all_uses_with(last, replace_graph_outputs=True)
    graph.remove(layer.node, safe=True)
