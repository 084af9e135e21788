"""The outputs of a program: their names, and how they are nested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils import _pytree as pytree

from edgewright.graph import finalize_graph
from edgewright.program._cuts import outputs_of, set_outputs
from edgewright.program._graph_outputs import name_outputs, nest_outputs

if TYPE_CHECKING:
    from edgewright.program._program import Program


def output_names(program: Program) -> tuple[str, ...]:
    """The name of every output, flattened: its path of keys, or "output_0", "output_1", ...

    A name that an input has already gets the suffix "_out".

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> class Heads(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return {"age": super().forward(x), "more": (x + 1, x + 2)}
        >>> output_names(Program.capture(Heads(3, 1), torch.zeros(2, 3)))
        ('age', 'more.0', 'more.1')
    """
    return name_outputs(program.graph)


def output_structure(program: Program) -> Any:
    """The output names nested in dicts and lists as the model nests its outputs.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> output_structure(Program.capture(torch.nn.ReLU(), torch.zeros(2, 3)))
        'output_0'
    """
    return _plain(nest_outputs(program.graph, list(output_names(program))))


def keep_outputs(program: Program, keys: Sequence[str]) -> Program:
    """The program with some of its outputs; what only the others need is removed.

    Args:
        program: The program without exits, which returns a dict or a tuple; it is not modified.
        keys: Keys of the dict, or positions in the tuple. A single one is returned as it is,
            several as a dict.

    Example:
        >>> import torch
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
    nested = nest_outputs(copy.graph, list(range(len(nodes))))
    parts = nested if isinstance(nested, Mapping) else dict(enumerate(nested))
    kept = {str(key): part for key, part in parts.items() if str(key) in keys}
    example = next(iter(kept.values())) if len(kept) == 1 else kept
    set_outputs(copy.graph_module, tuple(nodes[leaf] for leaf in pytree.tree_leaves(example)),
                example)
    finalize_graph(copy.graph_module)
    return type(program)(copy.graph_module, copy.example_inputs)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value
