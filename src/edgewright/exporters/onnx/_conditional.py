"""Export to one ONNX file with early exits: each exit is an ``If`` around the next segment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from torch import nn

from edgewright.errors import ModelError, UsageError
from edgewright.exporters.onnx._nested_graphs import all_graphs, number_values
from edgewright.exporters.onnx._onnx import to_onnx
from edgewright.graph import shape_of
from edgewright.program import Program, outputs_of, split_at_exits

_THRESHOLD: Final = "threshold."  # not an identifier, so it cannot collide with an input's name
_TEMPERATURE: Final = "temperature."


def to_conditional_onnx(program: Program, thresholds: Sequence[float | None], *,
                        temperatures: Sequence[float] | None = None,
                        confidence: nn.Module | None = None) -> bytes:
    """Translate a program with early exits into one ONNX file that takes a single sample.

    Each exit is an ``If``: its then-branch returns the exit's output, its else-branch contains the
    next segment with the next ``If``. A sample exits where its score reaches the threshold: the
    result of ``confidence``, or else the top softmax probability of logits, divided by the
    temperature. That is computed in double precision like
    `edgewright.runtime.confidence`, but with a different order of summation, so a probability that
    equals the threshold up to its last bits may fall on either side.

    The inputs are the program's, with a batch of one. The outputs are ``output_0``, the logits
    (1, classes) or the exit's output (1, ...), and ``exit``, the index of the exit taken, int64
    (1,); the last exit is ``program.exits``. The initializers ``threshold.0`` and ``temperature.0``
    belong to the first exit, and so on; there is no temperature with ``confidence``.

    ONNX Runtime optimizes each branch like a separate file: integer layers of a quantized program
    are fused within it, and the logits are bit-identical to those of the segments run one by one.
    Nothing is fused across an exit, as with separate segments.

    Args:
        program: A program in floating point or quantized.
        thresholds: One per early exit; None for an exit that is never taken.
        temperatures: One per early exit, above 0; 1 by default. Only for logits.
        confidence: From an exit's output to how sure it is of each sample, (N,), as
            `edgewright.goals.make_exit_confidence` makes it; None for a classifier's logits.

    Raises:
        UsageError: The program has no early exits, temperatures are given with a confidence, or
            thresholds or temperatures do not fit the exits.
        ModelError: The exits do not all return the same shape, or no logits (N, classes) although
            there is no confidence, an exit is not attached to a cut, or an operator cannot be
            translated; the message names it.

    Example:
        >>> import torch
        >>> from edgewright.runtime import OnnxEngine
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return 9 * x, 2 * x.relu()
        >>> program = Program.capture(Net(), torch.zeros(1, 2))
        >>> program = Program(program.graph_module, program.example_inputs, exits=1)
        >>> engine = OnnxEngine(to_conditional_onnx(program, (0.9,)))
        >>> [array.tolist() for array in engine.run((np.array([[1, 0]], np.float32),))]
        [[[9.0, 0.0]], [0]]
        >>> [array.tolist() for array in engine.run((np.array([[1, 1]], np.float32),))]
        [[[2.0, 2.0]], [1]]
    """
    if confidence is not None and temperatures is not None:
        raise UsageError("temperatures divide logits of classes, but this goal's exits compute "
                         "their own score; pass thresholds alone")
    temperatures = (1.0,) * program.exits if temperatures is None else temperatures
    _check(program, thresholds, temperatures, scored=confidence is not None)
    models = [ir.from_proto(onnx.load_from_string(to_onnx(part)))
              for part in split_at_exits(program, confidence)]
    levels = [math.inf if threshold is None else threshold for threshold in thresholds]
    _nest([model.graph for model in models], list(zip(levels, temperatures, strict=True)))
    content: bytes = ir.to_proto(models[0]).SerializeToString(deterministic=True)
    return content


def replace_thresholds(model: bytes, thresholds: Sequence[float]) -> bytes:
    """Replace the thresholds in a file of `to_conditional_onnx`, one per early exit.

    Raises:
        UsageError: The file has a different number of early exits.
    """
    changed = ir.from_proto(onnx.load_from_string(model))
    stored = {name: value for graph in all_graphs(changed.graph)
              for name, value in graph.initializers.items()}
    names = [name for name in stored if name.startswith(_THRESHOLD)]
    _check_count("thresholds", thresholds, len(names))
    for index, threshold in enumerate(thresholds):
        stored[f"{_THRESHOLD}{index}"].const_value = _double(threshold)
    content: bytes = ir.to_proto(changed).SerializeToString(deterministic=True)
    return content


def _check(program: Program, thresholds: Sequence[float | None],
           temperatures: Sequence[float], *, scored: bool) -> None:
    if program.exits == 0:
        raise UsageError("the program has no early exits; add exits before exporting with "
                         "thresholds, or export without thresholds")
    for name, values in (("thresholds", thresholds), ("temperatures", temperatures)):
        _check_count(name, values, program.exits)
        if not all(value is None or math.isfinite(value) for value in values):
            raise UsageError(f"{name} must be finite numbers, got {list(values)}")
    if min(temperatures) <= 0:
        raise UsageError(f"temperatures must be above 0, got {list(temperatures)}")
    kinds = [(shape_of(node), node.meta["val"].dtype) for node in outputs_of(program)]
    is_classifier = len(kinds[0][0]) == 2 and kinds[0][0][1] > 1
    if len(set(kinds)) > 1 or not (scored or is_classifier):
        listed = ", ".join(f"{shape} in {str(dtype).removeprefix('torch.')}"
                           for shape, dtype in kinds)
        raise ModelError(f"the exits return {listed} for one sample, expected logits (1, classes) "
                         "of the same type from all; for other outputs pass the task, whose goal "
                         "says how sure an exit is")


def _check_count(name: str, values: Sequence[float | None], exits: int) -> None:
    if len(values) != exits:
        raise UsageError(f"{len(values)} {name} were given for {exits} early exits; pass one per "
                         "early exit, none for the last exit")


def _nest(graphs: Sequence[ir.Graph], rules: Sequence[tuple[float, float]]) -> None:
    """Nest each segment in the else-branch of the previous one, in place.

    Args:
        graphs: The graphs of the segments, in order; the first contains the result.
        rules: Threshold and temperature of each early exit.
    """
    first, last = graphs[0], graphs[-1]
    last.outputs[:] = _results(last, last.outputs[0], len(rules))
    for index in reversed(range(len(rules))):
        _nest_in_else_branch(graphs[index], graphs[index + 1], index, rules[index])
        first.opset_imports.update(graphs[index + 1].opset_imports)
    for value in first.inputs:
        value.shape = _single_sample_shape(value)
    number_values(first, (_THRESHOLD, _TEMPERATURE))
    first.outputs[0].name, first.outputs[1].name = "output_0", "exit"


def _nest_in_else_branch(graph: ir.Graph, rest: ir.Graph, index: int,
                         rule: tuple[float, float]) -> None:
    """Make a segment return the result of its exit or of the rest of the network."""
    output, *scores, features = graph.outputs
    entry, = rest.inputs
    entry.replace_all_uses_with(features)
    rest.inputs.clear()
    rest.name = f"after_exit_{index}"
    exit_branch = ir.Graph([], [], nodes=[], name=f"exit_{index}")
    passed = ir.tape.Tape(exit_branch).op("Identity", [output])
    passed.type, passed.shape = output.type, output.shape
    exit_branch.outputs[:] = _results(exit_branch, passed, index)
    chosen = ir.tape.Tape(graph).op_multi_out(
        "If", [_reaches(graph, scores[0], index, rule) if scores
               else _is_confident(graph, output, index, rule)],
        {"then_branch": exit_branch, "else_branch": rest}, num_outputs=2)
    for value, inner in zip(chosen, rest.outputs, strict=True):
        value.type, value.shape = inner.type, inner.shape
    graph.outputs[:] = chosen


def _reaches(graph: ir.Graph, score: ir.Value, index: int, rule: tuple[float, float]) -> ir.Value:
    """Whether the score (1,) of the one sample reaches the threshold, a scalar."""
    tape = ir.tape.Tape(graph)
    threshold = tape.initializer(_double(rule[0]), f"{_THRESHOLD}{index}")
    wide = tape.op("Cast", [score], {"to": ir.DataType.DOUBLE})
    return tape.op("GreaterOrEqual", [tape.op("ReduceMax", [wide], {"keepdims": 0}), threshold])


def _is_confident(graph: ir.Graph, logits: ir.Value, index: int,
             rule: tuple[float, float]) -> ir.Value:
    """Whether the top softmax probability of the one sample reaches the threshold, a scalar."""
    tape = ir.tape.Tape(graph)
    threshold, temperature = (tape.initializer(_double(value), f"{name}{index}") for name, value
                              in zip((_THRESHOLD, _TEMPERATURE), rule, strict=True))
    wide = tape.op("Cast", [logits], {"to": ir.DataType.DOUBLE})
    below_top = tape.op("Sub", [wide, tape.op("ReduceMax", [wide], {"keepdims": 0})])
    scaled = tape.op("Div", [below_top, temperature])
    total = tape.op("ReduceSum", [tape.op("Exp", [scaled])], {"keepdims": 0})
    return tape.op("GreaterOrEqual", [tape.op("Reciprocal", [total]), threshold])


def _double(value: float) -> ir.TensorProtocol:
    return ir.tensor(np.array(value, np.float64))


def _results(graph: ir.Graph, output: ir.Value, index: int) -> tuple[ir.Value, ir.Value]:
    """The output of one sample, and a new constant with the index of the exit."""
    number = ir.tape.Tape(graph).op("Constant", [],
                                    {"value": ir.tensor(np.array([index], np.int64))})
    number.type, number.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
    output.shape = _single_sample_shape(output)
    return output, number


def _single_sample_shape(value: ir.Value) -> ir.Shape:
    """The shape of a value with a batch of one."""
    assert value.shape is not None  # noqa: S101  (`to_onnx` declares inputs and outputs)
    return ir.Shape([1, *value.shape[1:]])
