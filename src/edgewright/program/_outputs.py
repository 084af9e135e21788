"""The outputs of a program: their names, and how they are nested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph
from torch.utils import _pytree as pytree

from edgewright.capture import name_output
from edgewright.graph import finalize_graph
from edgewright.program._cuts import outputs_of, set_outputs

if TYPE_CHECKING:
    from edgewright.program._program import Program


def output_names(program: Program) -> tuple[str, ...]:
    """The name of every output, flattened: its path of keys, or "output_0", "output_1", ...

    A name that an input has already gets the suffix "_out".

    Example:
        >>> from edgewright.program import Program
        >>> class Heads(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return {"age": super().forward(x), "more": (x + 1, x + 2)}
        >>> output_names(Program.capture(Heads(3, 1), torch.zeros(2, 3)))
        ('age', 'more.0', 'more.1')
    """
    count = len(outputs_of(program))
    inputs = {node.name for node in program.graph.nodes if node.op == "placeholder"}
    paths, _ = pytree.tree_flatten_with_path(_nested(program.graph, list(range(count))))
    names = [name_output(path) for path, _ in paths]
    names = [f"{name}_out" if name in inputs else name for name in names]
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name}_{number}"
                 for number, name in enumerate(names))


def output_structure(program: Program) -> Any:
    """The output names nested in dicts and lists as the model nests its outputs.

    Example:
        >>> from edgewright.program import Program
        >>> output_structure(Program.capture(torch.nn.ReLU(), torch.zeros(2, 3)))
        'output_0'
    """
    return _plain(_nested(program.graph, list(output_names(program))))


def keep_outputs(program: Program, keys: Sequence[str]) -> Program:
    """The program with some of its outputs; what only the others need is removed.

    Args:
        program: The program without exits, which returns a dict or a tuple; it is not modified.
        keys: Keys of the dict, or positions in the tuple. A single one is returned as it is,
            several as a dict.

    Example:
        >>> from edgewright.program import Program
        >>> class Heads(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return {"out": super().forward(x), "aux": x + 1}
        >>> program = Program.capture(Heads(3, 1), torch.zeros(2, 3))
        >>> keep_outputs(program, ["out"]).run(torch.zeros(2, 3)).shape
        torch.Size([2, 1])
    """
    copy = program.copy()
    nodes = outputs_of(copy)
    nested = _nested(copy.graph, list(range(len(nodes))))
    parts = nested if isinstance(nested, Mapping) else dict(enumerate(nested))
    kept = {str(key): part for key, part in parts.items() if str(key) in keys}
    example = next(iter(kept.values())) if len(kept) == 1 else kept
    set_outputs(copy.graph_module, tuple(nodes[leaf] for leaf in pytree.tree_leaves(example)),
                example)
    finalize_graph(copy.graph_module)
    return type(program)(copy.graph_module, copy.example_inputs)


def _nested(graph: Graph, leaves: list[Any]) -> Any:
    """The leaves nested as the graph's outputs are."""
    codegen = graph._codegen
    if isinstance(codegen, torch.fx.graph._PyTreeCodeGen):
        structure = codegen.pytree_info.out_spec
        if structure is not None:
            return pytree.tree_unflatten(leaves, structure)
    return leaves[0] if len(leaves) == 1 else tuple(leaves)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value
