"""Which tensors are quantised, and how: annotations for PT2E, after what ONNX Runtime fuses."""

from __future__ import annotations

from typing import Any, Final, final

import torch
from torch.fx import GraphModule, Node

from edgewright.quantization._torchao import (
    FusedMovingAvgObsFakeQuantize,
    HistogramObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)

aten = torch.ops.aten
ANNOTATION: Final = "quantization_annotation"
_EPS: Final = float(torch.finfo(torch.float32).eps)

_LAYERS: Final = frozenset({
    aten.conv1d.default, aten.conv2d.default, aten.conv1d.padding, aten.conv2d.padding,
    aten.linear.default,
})
_ARITHMETIC: Final = frozenset({
    aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor, aten.mul_.Tensor,
})
_RECTIFIERS: Final = frozenset({
    aten.relu.default, aten.relu_.default, aten.hardtanh.default, aten.hardtanh_.default,
    aten.relu6.default, aten.relu6_.default,
})
# Operators whose result lives on the grid of their input.
_SAME_GRID: Final = frozenset({
    aten.max_pool2d.default, aten.adaptive_avg_pool2d.default, aten.avg_pool2d.default,
    aten.mean.dim, aten.flatten.using_ints, aten.view.default, aten.reshape.default,
    aten.permute.default, aten.transpose.int, aten.slice.Tensor, aten.pad.default,
    aten.constant_pad_nd.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
    aten.contiguous.default, aten.clone.default, aten.dropout.default, aten.select.int,
})


def activation_spec(train: bool) -> QuantizationSpec:
    """Activations: uint8, affine, per tensor."""
    constructor: Any
    if train:
        constructor = FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAverageMinMaxObserver, averaging_constant=0.01, eps=_EPS)
    else:
        constructor = HistogramObserver.with_args(eps=_EPS)
    return QuantizationSpec(dtype=torch.uint8, quant_min=0, quant_max=255,
                            qscheme=torch.per_tensor_affine,
                            observer_or_fake_quant_ctr=constructor)


def weight_spec(train: bool) -> QuantizationSpec:
    """Weights: int8, symmetric, per output channel, -127 to 127."""
    constructor: Any
    if train:
        constructor = FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0, eps=_EPS)
    else:
        constructor = PerChannelMinMaxObserver.with_args(eps=_EPS)
    return QuantizationSpec(dtype=torch.int8, quant_min=-127, quant_max=127,
                            qscheme=torch.per_channel_symmetric, ch_axis=0,
                            observer_or_fake_quant_ctr=constructor)


@final
class EdgeQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates layers, additions and what moves data between them; the rest stays in float.

    A rectifier after a layer or an addition belongs to it, so that only its result is quantised.
    A value that is an output of the model stays in float.

    Args:
        train: Whether to insert fake quantisers that learn with the network.
    """

    def __init__(self, train: bool) -> None:
        super().__init__()
        self._activation = activation_spec(train)
        self._weight = weight_spec(train)

    def annotate(self, model: GraphModule) -> GraphModule:
        """Write an annotation into every node that is to be quantised."""
        for node in model.graph.nodes:
            if node.target in _LAYERS:
                self._annotate_layer(node)
            elif node.target in _ARITHMETIC and _is_two_tensors(node):
                inputs = dict.fromkeys(node.all_input_nodes, self._activation)
                self._annotate(node, inputs, self._output_spec(node))
            elif node.target in _RECTIFIERS and _is_fused(node):
                self._annotate(node, {}, self._output_spec(node))
        for node in model.graph.nodes:
            self._annotate_mover(node)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: every annotation is for what the runtime can run."""

    def _annotate_layer(self, node: Node) -> None:
        source, weight = node.args[0], node.args[1]
        assert isinstance(source, Node)  # noqa: S101  (operands of a layer)
        assert isinstance(weight, Node)  # noqa: S101
        inputs = {source: self._activation, weight: self._weight}
        self._annotate(node, inputs, self._output_spec(node))

    def _annotate_mover(self, node: Node) -> None:
        """Keep a moved tensor on its input's grid, where that is quantised already."""
        is_join = node.target is aten.cat.default
        if not is_join and node.target not in _SAME_GRID:
            return
        sources = node.all_input_nodes if is_join else [node.args[0]]
        if not all(isinstance(s, Node) and _has_output(s) for s in sources):
            return
        first = sources[0]
        assert isinstance(first, Node)  # noqa: S101
        shared = SharedQuantizationSpec((first, node))
        inputs: dict[Node, QuantizationSpecBase] = {first: self._activation}
        inputs.update({s: shared for s in sources[1:] if isinstance(s, Node) and s is not first})
        self._annotate(node, inputs, None if _is_output(node) else shared)

    def _output_spec(self, node: Node) -> QuantizationSpecBase | None:
        return None if _is_output(node) or _feeds_rectifier(node) else self._activation

    @staticmethod
    def _annotate(node: Node, inputs: dict[Node, Any], output: QuantizationSpecBase | None) -> None:
        node.meta[ANNOTATION] = QuantizationAnnotation(
            input_qspec_map=inputs, output_qspec=output, _annotated=True)


def _is_two_tensors(node: Node) -> bool:
    operands = node.args[:2]
    return all(isinstance(arg, Node) and arg.op != "get_attr"
               and arg.meta["val"].is_floating_point() for arg in operands)


def _is_output(node: Node) -> bool:
    return any(user.op == "output" for user in node.users)


def _feeds_rectifier(node: Node) -> bool:
    return len(node.users) == 1 and next(iter(node.users)).target in _RECTIFIERS


def _is_fused(node: Node) -> bool:
    source = node.args[0]
    return (isinstance(source, Node) and len(source.users) == 1
            and (source.target in _LAYERS or source.target in _ARITHMETIC))


def _has_output(node: Node) -> bool:
    annotation = node.meta.get(ANNOTATION)
    return annotation is not None and annotation.output_qspec is not None
