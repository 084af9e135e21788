"""Take early exits off again."""

from __future__ import annotations

from edgewright.graph import finalize_graph
from edgewright.program import Program, outputs_of, set_outputs


def remove_exits(program: Program) -> Program:
    """The program with its final output alone, and without the tensors of its heads.

    One that has no exits is given back itself.

    Args:
        program: With exits or without, quantized or not; it is left as it is.

    Example:
        >>> import torch
        >>> from edgewright.exits import EarlyExits, add_exits
        >>> from edgewright.task import Task
        >>> x, y = torch.randn(8, 4), torch.arange(8) % 3
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 3))
        >>> program = add_exits(Program.capture(model, x), Task((x, y), test=(x, y)),
        ...                     EarlyExits(places=1, training=None))
        >>> plain = remove_exits(program)
        >>> plain.exits, bool(torch.equal(plain.run(x), program.run(x)[-1]))
        (0, True)
        >>> sorted(plain.state_dict())
        ['0.bias', '0.weight', '2.bias', '2.weight']
    """
    if not program.exits:
        return program
    plain = program.copy()
    set_outputs(plain.graph_module, outputs_of(plain)[-1:])
    finalize_graph(plain.graph_module)
    return Program(plain.graph_module, plain.example_inputs)
