"""Convert fake quantizers to integers: weights and biases are stored as integers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgewright.graph import (
    choose_bias_name,
    finalize_graph,
    ops,
    set_argument,
    set_fact,
    stored_tensors,
)
from edgewright.program import Program, foldable_norm, foldable_output_dim, norm_as_affine
from edgewright.quantization.conversion._averages import lower_averages_to_integers
from edgewright.quantization.placement import ActivationPoint, Placement, WeightPoint, stored_bias
from edgewright.quantization.scheme import Grid, PoolRounding
from edgewright.quantization.simulation import (
    FakeQuantizer,
    InsertFunction,
    QuantizationSimulation,
    grid_arguments,
    insert_activations,
    insert_dynamic_quantization,
)

aten = torch.ops.aten
_INT32: Final = torch.iinfo(torch.int32)
_HEADROOM_LIMIT: Final = 64  # largest magnitude of weights that exporters multiply up


@torch.no_grad()
def convert(program: Program, placement: Placement, simulation: QuantizationSimulation, *,
            pool_rounding: PoolRounding | None = None) -> Program:
    """Convert a simulation to a program that computes the same result in integers.

    Batch norms of quantized layers are folded into the scales of the weights and into the biases,
    so that no weight is rounded again. Every bias is stored as int32 with the scale of the products
    (input scale times weight scale), which is where the runtime adds it. With fewer than 8 bits
    the bias has a finer scale, by the factor by which the weights can be multiplied within a byte;
    exporters apply that factor. A bias that the program computes is left unchanged. If other
    operators read a tensor in floating point, that tensor keeps its name and the integers get a
    numbered name.

    Args:
        program: The program that was simulated, in floating point.
        placement: Where it was quantized.
        simulation: The calibrated (and possibly trained) simulation.
        pool_rounding: As in `TargetRules`.
    """
    result = program.with_state(simulation.state())
    module = result.graph_module
    nodes = {node.name: node for node in module.graph.nodes}
    scales = _scales(nodes, placement, simulation)
    insert_activations(
        nodes, placement,
        lambda point: partial(insert_dynamic_quantization, module.graph, grid=point.grid)
        if point.dynamic else _make_inserter(module, point, simulation.activations[point.name]))
    floats = {name: value.clone() for name, value in result.state_dict().items()}
    for point in placement.weights:
        for name in point.layers:
            _Layer(module, nodes[name], point, floats).store(
                simulation.weights[point.tensor], scales.get(name))
        for name in point.readers:
            _Layer(module, nodes[name], point, floats).store_as_read(
                simulation.weights[point.tensor])
    lower_averages_to_integers(module, pool_rounding)
    finalize_graph(module)
    return result


def _scales(nodes: dict[str, Node], placement: Placement, simulation: QuantizationSimulation,
            ) -> dict[str, float]:
    """The scale of each layer's input, by the layer's call."""
    for_all = {place.value: point.name for point in placement.activations
               for place in point.uses if place.readers is None}
    own = {reader: point.name for point in placement.activations for place in point.uses
           for reader in place.readers or ()}
    layers = [name for point in placement.weights for name in point.layers]
    found = {name: own.get(name, for_all.get(str(nodes[name].args[0]))) for name in layers}
    return {name: float(simulation.activations[point].effective_scale())
            for name, point in found.items()
            if point is not None and point in simulation.activations}


def _make_inserter(module: GraphModule, point: ActivationPoint,
                   quantizer: FakeQuantizer) -> InsertFunction:
    """Return a function that inserts quantize and dequantize calls (1 bit: a comparison first)."""
    scale = float(quantizer.effective_scale())
    grid = (scale, int(quantizer.effective_zero_point()), *grid_arguments(point.grid))

    def write(source: Node) -> Node:
        with module.graph.inserting_before(source.next):
            if quantizer.shift is not None:
                above = module.graph.call_function(aten.ge.Scalar,
                                                   (source, float(quantizer.shift)))
                source = module.graph.call_function(aten.where.Scalar, (above, scale, -scale))
            stored = module.graph.call_function(ops.QUANTIZE, (source, *grid))
            return _mark_bits(module.graph.call_function(ops.DEQUANTIZE, (stored, *grid)),
                              point.grid)
    return write


@final
@dataclass(frozen=True)
class _Layer:
    """A layer whose weight and bias will be stored as integers."""

    module: GraphModule
    node: Node
    point: WeightPoint
    floats: Mapping[str, Tensor]  # all tensors before conversion

    def store(self, quantizer: FakeQuantizer, input_scale: float | None) -> None:
        """Replace weight and bias; ``input_scale`` is None for an input in floating point."""
        weight = self.floats[self.point.tensor]
        integers = quantizer.integers(weight)
        shape = quantizer.scale.shape or weight.shape[:1]
        scale, bias = self._fold_norm(quantizer.effective_scale().expand(shape).contiguous())
        headroom = _weight_headroom(quantizer.grid)
        if bias is not None and input_scale is not None:
            integers, scale = _coarsen_to_fit_int32(integers, scale, bias / input_scale * headroom)
        *_, dtype = grid_arguments(quantizer.grid)
        set_argument(self.node, "weight",
                     self._stored_weight(integers.to(dtype), scale, quantizer, 0))
        if bias is not None:
            self._store_bias(bias, scale, input_scale, headroom)

    def store_as_read(self, quantizer: FakeQuantizer) -> None:
        """Replace the weight of a call that computes in floating point."""
        weight, axis = self.floats[self.point.tensor], quantizer.grid.axis
        scale, bias = quantizer.effective_scale(), None
        outputs = foldable_output_dim(self.node, weight)
        if outputs is not None:
            axis = outputs
            scale, bias = self._fold_norm(scale.expand(weight.shape[axis]).contiguous())
        *_, dtype = grid_arguments(quantizer.grid)
        read = self._stored_weight(quantizer.integers(weight).to(dtype), scale, quantizer, axis)
        for value in self.node.all_input_nodes:
            if value.op == "get_attr" and value.target == self.point.tensor:
                self.node.replace_input_with(value, read)
        if bias is not None:
            self._store_bias(bias, scale, None, 1)

    def _fold_norm(self, scale: Tensor) -> tuple[Tensor, Tensor | None]:
        """Fold the layer's batch norm; return the scale of the weights and the bias."""
        name = stored_bias(self.node)
        bias = None if name is None else self.floats[name]
        norm = foldable_norm(self.node)
        if norm is None:
            return scale, bias
        gain, offset = norm_as_affine(norm, self.floats)
        norm.replace_all_uses_with(self.node)
        self.module.graph.erase_node(norm)
        return scale * gain, offset if bias is None else bias * gain + offset

    def _stored_weight(self, integers: Tensor, scale: Tensor, quantizer: FakeQuantizer,
                       axis: int | None) -> Node:
        """Store integers, their scales along ``axis`` and zero points; return the dequantize."""
        grid, graph = quantizer.grid, self.module.graph
        zero_point = quantizer.effective_zero_point().to(torch.int64).expand(scale.shape)
        kind = grid_arguments(grid)
        beside = () if axis is None else (scale, zero_point.contiguous())
        readers = (*self.point.layers, *self.point.readers)
        names = self._store_tensors(self.point.tensor, readers, integers, *beside)
        with graph.inserting_before(self.node):
            stored = [graph.get_attr(name) for name in names]
            if axis is None:
                read = graph.call_function(ops.DEQUANTIZE, (
                    *stored, float(scale), int(zero_point), *kind))
            elif grid.group is None:
                read = graph.call_function(ops.DEQUANTIZE_CHANNELS, (*stored, axis, *kind))
            else:
                read = graph.call_function(ops.DEQUANTIZE_GROUPS,
                                           (*stored, *kind, grid.group, torch.float32))
        return _mark_bits(read, grid)

    def _store_bias(self, bias: Tensor, scale: Tensor, input_scale: float | None,
                    finer_by: int) -> None:
        """Store the bias with the scale ``scale * input_scale / finer_by``."""
        name = stored_bias(self.node) or choose_bias_name(self.module, self.point.tensor)
        graph = self.module.graph
        if input_scale is None:
            (name,) = self._store_tensors(name, (self.node.name,),
                                nn.Parameter(bias, requires_grad=False))
            with graph.inserting_before(self.node):
                read = graph.get_attr(name)
        else:
            products = (scale.double() / finer_by * input_scale).float()
            integers = torch.clamp(torch.round(bias.double() / products.double()),
                                   _INT32.min, _INT32.max).to(torch.int32)
            names = self._store_tensors(name, (self.node.name,), integers, products,
                              torch.zeros(len(products), dtype=torch.int64))
            with graph.inserting_before(self.node):
                read = graph.call_function(
                    ops.DEQUANTIZE_CHANNELS,
                    (*(graph.get_attr(name) for name in names), 0, _INT32.min, _INT32.max,
                     torch.int32))
            if finer_by > 1:
                set_fact(read, "finer_by", finer_by)
        set_argument(self.node, "bias", read)

    def _store_tensors(self, name: str, mine: Collection[str], *values: Tensor) -> tuple[str, ...]:
        """Store a tensor, its scale and zero point for the calls ``mine``; return their names."""
        known = stored_tensors(self.module)
        taken = {node.target for node in self.module.graph.nodes if node.op == "get_attr"
                 and any(user.name not in mine for user in node.users)}
        stems = chain((name,), (f"{name}_{index}" for index in count(1)))
        named = (dict(zip((stem, f"{stem}_scale", f"{stem}_zero_point"), values, strict=False))
                 for stem in stems)
        free = next(tensors for tensors in named if all(
            name not in taken or _are_equal(known[name], value) for name, value in tensors.items()))
        for stored, value in free.items():
            _set_tensor(self.module, stored, value)
        return tuple(free)


def _mark_bits(dequantize: Node, grid: Grid) -> Node:
    """Record the number of bits with a call if its limits do not tell; return the call."""
    if grid.bits == 1:
        set_fact(dequantize, "bits", grid.bits)
    return dequantize


def _are_equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _weight_headroom(grid: Grid) -> int:
    """The largest power of two by which weights can be multiplied and stay within [-64, 64].

    With twice that, sums of two products with a byte would overflow int16 in older x86 kernels.
    """
    return 1 << max(0, (_HEADROOM_LIMIT // max(map(abs, grid.limits))).bit_length() - 1)


def _coarsen_to_fit_int32(integers: Tensor, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Make the scale of weights coarser where the bias, in product steps, does not fit into int32.

    This affects only weights that are tiny compared to their bias; the error it adds is far smaller
    than a step of the result. Scales that are powers of two stay powers of two.
    """
    factor = torch.exp2(torch.log2(bias.abs() / (scale * _INT32.max / 2)).clamp(min=0).ceil())
    by_row = factor.reshape(-1, *[1] * (integers.ndim - 1))
    return torch.round(integers / by_row), scale * factor


def _set_tensor(module: GraphModule, name: str, value: Tensor) -> None:
    owner_name, _, leaf = name.rpartition(".")
    if owner_name and owner_name not in dict(module.named_modules()):
        module.add_submodule(owner_name, nn.Module())
    owner: Any = module.get_submodule(owner_name)
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    if isinstance(value, nn.Parameter):
        owner.register_parameter(leaf, value)
    else:
        owner.register_buffer(leaf, value)
