"""Join the segments of a routed program into one ONNX graph: every branch is inside an ``If``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import onnx_ir as ir

from edgewright.core import Fork, Wiring
from edgewright.exporters.onnx._nested_graphs import number_values

_Values = dict[str, ir.Value]


def join_routes(parts: Sequence[tuple[ir.Model, Wiring]], inputs: Sequence[ir.Value],
                outputs: Sequence[str]) -> ir.Model:
    """Join segments into one model, in which a branch runs only if a sample takes it.

    Where a call has one index, branches are nested ``If`` nodes. Where each sample has its own,
    every branch is an ``If`` on whether any sample takes it: inside, its samples are gathered, and
    its results are scattered to their places in the batch. So a single sample runs one branch, and
    a batch those that it needs, each once.

    Args:
        parts: Models of the segments and their wiring, the start first; they are changed.
        inputs: The program's inputs, with names, types and shapes.
        outputs: Names of the program's outputs.
    """
    main = ir.Graph(inputs, [], nodes=[], name="main", opset_imports={})
    joiner = _Joiner(parts)
    values = joiner.add(0, main, {str(value.name): value for value in inputs})
    for name in outputs:
        value = values[name]
        if value.is_graph_output() or value.is_graph_input():
            value = _copy(main, value)
        main.outputs.append(value)
    for model, _ in parts:
        main.opset_imports.update(model.graph.opset_imports)
    number_values(main)
    for name, value in zip(outputs, main.outputs, strict=True):
        value.name = name
    return ir.Model(main, ir_version=parts[0][0].ir_version)


@final
class _Joiner:
    """Adds segments to graphs.

    Args:
        parts: As in `join_routes`.
    """

    def __init__(self, parts: Sequence[tuple[ir.Model, Wiring]]) -> None:
        self._parts = parts

    def add(self, number: int, graph: ir.Graph, known: _Values) -> _Values:
        """Add a segment and everything that it leads to; the values known after it."""
        model, wiring = self._parts[number]
        given = _move(model.graph, graph, [known[name] for name in wiring.takes], number)
        values = known | dict(zip(wiring.gives, given, strict=True))
        fork = wiring.fork
        if fork is None:
            return values
        results = (self._choose_per_sample(graph, fork, values) if fork.per_sample
                   else self._choose(graph, fork, values, 0))
        values |= dict(zip(fork.results, results, strict=True))
        return values if fork.after is None else self.add(fork.after, graph, values)

    def _branch(self, fork: Fork, number: int, values: _Values) -> tuple[ir.Graph, list[ir.Value]]:
        """The graph of a branch, and its results."""
        branch = ir.Graph([], [], nodes=[], name=f"branch_{fork.branches[number]}")
        found = self.add(fork.branches[number], branch, values)
        return branch, [_own(branch, found[name], values) for name in fork.results]

    def _choose(self, graph: ir.Graph, fork: Fork, values: _Values,
                first: int) -> Sequence[ir.Value]:
        """The results of the branch with the call's index, one of those from ``first`` on."""
        branch, results = self._branch(fork, first, values)
        if first == len(fork.branches) - 1:
            graph.extend(_take_nodes(branch))
            _adopt_initializers(branch, graph)
            return results
        branch.outputs.extend(results)
        others = ir.Graph([], [], nodes=[], name=f"not_{branch.name}")
        rest = self._choose(others, fork, values, first + 1)
        others.outputs.extend(_own(others, value, values) for value in rest)
        is_taken = ir.tape.Tape(graph).op("Equal", [values[fork.index], _number(graph, first)])
        return _if(graph, is_taken, branch, others)

    def _choose_per_sample(self, graph: ir.Graph, fork: Fork,
                           values: _Values) -> Sequence[ir.Value]:
        """The results of all branches, each scattered to the samples that take it."""
        tape = ir.tape.Tape(graph)
        results: Sequence[ir.Value] | None = None
        for number in range(len(fork.branches)):
            taken = tape.op("Equal", [values[fork.index], _number(graph, number)])
            rows = tape.op("Transpose", [tape.op("NonZero", [taken])], {"perm": [1, 0]})
            flat = tape.op("Squeeze", [rows, _number(graph, [1])])
            branch = ir.Graph([], [], nodes=[], name=f"branch_{fork.branches[number]}")
            parts = {name: ir.tape.Tape(branch).op("Gather", [values[name], flat])
                     for name in self._reads(fork.branches[number], values)}
            found = self.add(fork.branches[number], branch, values | parts)
            given = [found[name] for name in fork.results]
            if results is None:
                results = [_zeros(graph, values[fork.index], value) for value in given]
            scattered = [_typed(ir.tape.Tape(branch).op("ScatterND", [before, rows, value]), value)
                         for before, value in zip(results, given, strict=True)]
            branch.outputs.extend(scattered)
            others = ir.Graph([], [], nodes=[], name=f"not_{branch.name}")
            others.outputs.extend(_typed(_copy(others, before), value)
                                  for before, value in zip(results, given, strict=True))
            some = tape.op("Greater", [tape.op("Size", [flat]), _number(graph, 0)])
            results = _if(graph, some, branch, others)
        assert results is not None  # noqa: S101  (a fork has branches)
        return results

    def _reads(self, number: int, values: _Values) -> list[str]:
        """The known values that a segment, and everything it leads to, takes."""
        wiring = self._parts[number][1]
        found = [*wiring.takes]
        if wiring.fork is not None:
            after = () if wiring.fork.after is None else (wiring.fork.after,)
            for following in (*wiring.fork.branches, *after):
                found += self._reads(following, values)
        return [name for name in dict.fromkeys(found) if name in values]


def _move(source: ir.Graph, graph: ir.Graph, taken: Sequence[ir.Value],
          number: int) -> list[ir.Value]:
    """Move a segment's calls and constants to a graph; the values that it returns."""
    for value in source.initializers.copy().values():
        del source.initializers[str(value.name)]
        value.name = f"{number}.{value.name}"
        graph.initializers.add(value)
    replaced = dict(zip(source.inputs, taken, strict=True))
    outputs = [replaced.get(value, value) for value in source.outputs]
    source.outputs.clear()
    for value, other in replaced.items():
        value.replace_all_uses_with(other)
    graph.extend(_take_nodes(source))
    return outputs


def _take_nodes(graph: ir.Graph) -> list[ir.Node]:
    nodes = list(graph)
    graph.remove(nodes)
    return nodes


def _adopt_initializers(source: ir.Graph, graph: ir.Graph) -> None:
    for value in source.initializers.copy().values():
        del source.initializers[str(value.name)]
        graph.initializers.add(value)


def _own(graph: ir.Graph, value: ir.Value, outer: _Values) -> ir.Value:
    """A value as an output of a branch, which must be computed in it."""
    if value in outer.values() or value.is_initializer() or value.is_graph_output():
        return _copy(graph, value)
    return value


def _copy(graph: ir.Graph, value: ir.Value) -> ir.Value:
    return _typed(ir.tape.Tape(graph).op("Identity", [value]), value)


def _typed(value: ir.Value, like: ir.Value) -> ir.Value:
    value.type, value.shape = like.type, like.shape
    return value


def _if(graph: ir.Graph, condition: ir.Value, branch: ir.Graph,
        others: ir.Graph) -> Sequence[ir.Value]:
    results = ir.tape.Tape(graph).op_multi_out(
        "If", [condition], {"then_branch": branch, "else_branch": others},
        num_outputs=len(branch.outputs))
    return [_typed(value, inner) for value, inner in zip(results, branch.outputs, strict=True)]


def _zeros(graph: ir.Graph, index: ir.Value, like: ir.Value) -> ir.Value:
    """Zeros for a whole batch, of the type and shape that a branch gives for its samples."""
    assert like.shape is not None  # noqa: S101  (`to_onnx` declares shapes and types of outputs)
    assert like.dtype is not None  # noqa: S101
    sizes: Any = [int(size) for size in like.shape[1:]]  # type: ignore[arg-type]
    tape = ir.tape.Tape(graph)
    shape = tape.op("Concat", [tape.op("Shape", [index]), _number(graph, sizes)], {"axis": 0})
    zero = ir.tensor(np.zeros(1, like.dtype.numpy()))
    return _typed(tape.op("ConstantOfShape", [shape], {"value": zero}), like)


def _number(graph: ir.Graph, value: Any) -> ir.Value:
    return ir.tape.Tape(graph).op(
        "Constant", [], {"value": ir.tensor(np.array(value, np.int64))})
