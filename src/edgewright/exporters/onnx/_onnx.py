"""Export to an ONNX file that ONNX Runtime fuses into integer kernels."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from typing import Final

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from edgewright.capture import export_graph
from edgewright.exporters._bias_alignment import align_weight_scales_to_bias
from edgewright.exporters._converter_errors import ConverterErrors
from edgewright.exporters.onnx._attention_ranks import reshape_attention_to_rank_4
from edgewright.exporters.onnx._clamps import clamp_integers
from edgewright.exporters.onnx._float_layers import keep_float_layers
from edgewright.exporters.onnx._integer_pads import pad_integers
from edgewright.exporters.onnx._integer_products import multiply_integers
from edgewright.exporters.onnx._recurrences import RECURRENCES
from edgewright.exporters.onnx._routes import join_routes
from edgewright.exporters.onnx._stored_weights import store_weights
from edgewright.exporters.onnx._translations import TRANSLATIONS
from edgewright.graph import (
    keep_recurrent_layers_whole,
    ops,
    read_recurrent_layer,
    shape_of,
)
from edgewright.program import Program, output_names, split_at_routes

_OPERATOR: Final = re.compile(r"call_function\[target=torch\.ops\.([\w.]+)\]")
_OPSET: Final = 21  # the first opset with 4-bit types and groups


def to_onnx(program: Program) -> bytes:
    """Translate a program into the bytes of an ONNX file (opset 21, dynamic batch).

    Inputs keep the program's names; outputs are named as in `output_names`. Of a program that
    chooses its path by the input, every branch is inside an ``If``: see `join_routes`.

    Raises:
        ModelError: An operator cannot be translated; the message names it.
    """
    parts = [(_translate(part.program), part.wiring) for part in split_at_routes(program)]
    model = (join_routes(parts, _input_values(program), output_names(program)) if parts
             else _translate(program))
    content: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return content


def _translate(program: Program) -> ir.Model:
    """Translate a program without routes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with ConverterErrors("ONNX", _reason), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _reject_projected_lstm(program)
            module = align_weight_scales_to_bias(program).copy().graph_module
            reshape_attention_to_rank_4(module)
            exported = export_graph(module.requires_grad_(False), program.example_inputs)
            with keep_recurrent_layers_whole():
                translated = torch.onnx.export(
                    exported, (), dynamo=True, external_data=False, opset_version=_OPSET,
                    optimize=True, verbose=False,
                    custom_translation_table=TRANSLATIONS | RECURRENCES)
    finally:
        logger.setLevel(level)
    assert translated is not None  # noqa: S101  (returned whenever dynamo=True)
    model = translated.model
    for rewrite in (clamp_integers, pad_integers, multiply_integers, store_weights,
                    keep_float_layers):
        rewrite(model.graph)
    ClearMetadataAndDocStringPass()(model)
    names = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    _name_values(model.graph, names, output_names(program))
    return model


def _input_values(program: Program) -> list[ir.Value]:
    """New values for a program's inputs, with the batch as a dynamic dimension."""
    nodes = program.graph.find_nodes(op="placeholder")
    return [ir.Value(name=node.name, shape=ir.Shape(["batch", *shape_of(node)[1:]]),
                     type=ir.TensorType(ir.tensor(torch.empty(0, dtype=spec.dtype)).dtype))
            for node, spec in zip(nodes, program.inputs, strict=True)]


def _reject_projected_lstm(program: Program) -> None:
    """Reject LSTMs with projections: ONNX has none, and the file that torch writes does not run."""
    for node in program.calls():
        if node.target in ops.RECURRENT_LAYERS and read_recurrent_layer(node).is_projected:
            raise ValueError(f"{node.name} is an LSTM with proj_size, which ONNX does not support")


def _reason(error: BaseException) -> str:
    """The root cause, and the operator that it concerns."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    operators = [found[1] for cause in causes if (found := _OPERATOR.search(str(cause)))]
    lines = str(causes[-1]).strip().splitlines() or [type(causes[-1]).__name__]
    return ": ".join([*operators[-1:], lines[0].rstrip(".")])


def _name_values(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Name inner values by numbers, and remove the exporter's metadata about them.

    In small files names and metadata take a large part of the bytes. A number cannot collide with
    the name of an input, which is an identifier. The exporter renames inputs that are also outputs.
    """
    inner = [*graph.initializers.copy().values(), *(out for node in graph for out in node.outputs)]
    for value in (*graph.inputs, *inner):
        value.metadata_props.clear()
    for index, value in enumerate(inner):
        value.name = str(index)
        if not value.is_graph_output() and not value.is_initializer():
            value.shape = value.type = None  # the runtime infers them
    for name, value in zip(inputs, graph.inputs, strict=True):
        value.name = name
    for name, value in zip(outputs, graph.outputs, strict=True):
        value.name = name
    for node in graph:
        node.name = ""
