"""To ONNX: one file whose integer parts ONNX Runtime fuses."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from edgewright.errors import ModelError
from edgewright.program import Program, export_graph

_OPERATOR: Final = re.compile(r"call_function\[target=torch\.ops\.([\w.]+)\]")
_FAILURES: Final = (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError)


def to_onnx(program: Program) -> bytes:
    """Translate a program into the bytes of an ONNX file (opset 20 or newer, dynamic batch).

    Names of inputs are the program's; outputs are ``output_0``, ``output_1``, ...

    Raises:
        ModelError: An operator has no translation; it is named.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = export_graph(program.graph_module, program.example_inputs)
            translated = torch.onnx.export(exported, (), dynamo=True, external_data=False,
                                           optimize=True, verbose=False)
    except _FAILURES as error:
        raise ModelError(f"the program has no ONNX translation: {_reason(error)}; "
                         "replace the operator in the model") from error
    finally:
        logger.setLevel(level)
    assert translated is not None  # noqa: S101  (returned whenever dynamo=True)
    model = translated.model
    drop_fused_rectifiers(model.graph)
    ClearMetadataAndDocStringPass()(model)
    names = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    _name_values(model.graph, names)
    content: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return content


def _reason(error: BaseException) -> str:
    """The innermost cause, and the operator it is about."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    operators = [found[1] for cause in causes if (found := _OPERATOR.search(str(cause)))]
    lines = str(causes[-1]).strip().splitlines() or [type(causes[-1]).__name__]
    return ": ".join([*operators[-1:], lines[0].rstrip(".")])


def drop_fused_rectifiers(graph: ir.Graph) -> None:
    """Remove a Relu whose result is only quantised with the type's minimum as zero point.

    The quantisation clips there anyway, and without it the runtime fuses the layer before.
    """
    for node in list(graph):
        if node.op_type != "Relu" or node.domain not in ("", "ai.onnx"):
            continue
        source, result = node.inputs[0], node.outputs[0]
        users = [use.node for use in result.uses()]
        if source is None or not users or result.is_graph_output():
            continue
        if all(map(_clips_at_zero, users)):
            for use in list(result.uses()):
                use.node.replace_input_with(use.idx, source)
            graph.remove(node, safe=True)


def _clips_at_zero(node: ir.Node) -> bool:
    if node.op_type != "QuantizeLinear" or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    constant = ir.convenience.get_const_tensor(node.inputs[2])
    if constant is None:
        return False
    zero_point = constant.numpy()
    return bool(np.all(zero_point == np.iinfo(zero_point.dtype).min))


def _name_values(graph: ir.Graph, inputs: Sequence[str]) -> None:
    """Name inner values by plain numbers, and drop what the exporter notes about them.

    In small files both are a good part of the bytes. A number cannot collide with the name of an
    input, which is an identifier. The exporter renames an input that is an output too.
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
    for index, value in enumerate(graph.outputs):
        value.name = f"output_{index}"
    for node in graph:
        node.name = ""
