"""How far one step of the last quantizers moves each prediction of a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.goals import Goal
from edgewright.graph import ops
from edgewright.program import Program, output_names, output_structure
from edgewright.training import split_exits

_DEQUANTIZERS: Final = (ops.DEQUANTIZE, ops.DYNAMIC_DEQUANTIZE)


def measure_output_steps(program: Program, inputs: Sequence[Any],
                         goal: Goal) -> tuple[tuple[float, ...], ...]:
    """The step of each prediction: what a step of the last quantized tensors before it changes.

    Model outputs stay in floating point. So the last tensors before an output that have a quantizer
    are moved by one step each, every value up or down at random, and the step of the output is the
    root mean square of its change. An output that only moves quantized values has the step of their
    quantizer; after a layer it is that step times the norm of the layer's weights.

    Args:
        program: The program, with or without exits.
        inputs: A batch of inputs.
        goal: Says which outputs are predictions.

    Returns:
        For each exit, the final one last, the step of each prediction in its unit; 0 if nothing
        before it is quantized.

    Example:
        >>> from edgewright.goals import Regression
        >>> program = Program.capture(torch.nn.Linear(4, 1), torch.zeros(2, 4))
        >>> measure_output_steps(program, (torch.randn(8, 4),), Regression())
        ((0.0,),)
    """
    flat = pytree.tree_leaves(tuple(inputs))
    nodes = [node for node in pytree.tree_leaves(program.graph.output_node().args)
             if isinstance(node, Node)]
    sources = [find_last_dequantizations(node) for node in nodes]
    with torch.no_grad():
        runs = {moved: _run(program, moved, flat) for moved in {frozenset(), *sources}}
    exact, moved = (_predictions(program, goal, leaves) for leaves in (
        runs[frozenset()], [runs[found][index] for index, found in enumerate(sources)]))
    return tuple(tuple(map(_root_mean_square, one, other))
                 for one, other in zip(exact, moved, strict=True))


def find_last_dequantizations(output: Node) -> frozenset[Node]:
    """The last dequantizations of activations on all paths to a node."""
    found, seen, waiting = set[Node](), set[Node](), [output]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.target not in _DEQUANTIZERS:
            waiting.extend(node.all_input_nodes)
        elif node.all_input_nodes[0].op != "get_attr":  # else a weight
            found.add(node)
    return frozenset(found)


def _run(program: Program, moved: frozenset[Node], inputs: list[Any]) -> list[Tensor]:
    return pytree.tree_leaves(_Stepped(program, moved).run(*inputs))


def _predictions(program: Program, goal: Goal, leaves: Sequence[Tensor]) -> list[list[Tensor]]:
    """The predictions of each exit, from the tensors that the graph returns."""
    by_name = dict(zip(output_names(program), leaves, strict=True))
    nested = pytree.tree_map(by_name.__getitem__, output_structure(program))
    return [[prediction.tensor for prediction in goal.predictions(outputs)]
            for outputs in split_exits(nested, program.exits)]


def _root_mean_square(one: Tensor, other: Tensor) -> float:
    """Of the finite differences; 0 if there is none."""
    change = other.double() - one.double()
    change = change[change.isfinite()]
    return math.sqrt(float(change.square().mean())) if change.numel() else 0.0


@final
class _Stepped(Interpreter):
    """Runs a program with some dequantized tensors moved by one step, up or down at random."""

    def __init__(self, program: Program, moved: frozenset[Node]) -> None:
        super().__init__(program.graph_module)
        self._moved, self._generator = moved, torch.Generator().manual_seed(0)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n not in self._moved:
            return result
        scale = self.fetch_args_kwargs_from_env(n)[0][1]
        signs = torch.randint(0, 2, result.shape, generator=self._generator) * 2 - 1
        return result + (scale * signs).to(result.dtype)  # a dynamic scale is in float64
