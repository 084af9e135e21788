"""Remove early exits from a program."""

from __future__ import annotations

from edgewright.graph import finalize_graph
from edgewright.program import Program, outputs_of, set_outputs


def remove_exits(program: Program) -> Program:
    """Return the program with only its final output, and without the tensors of its heads.

    A program without exits is returned unchanged.

    Args:
        program: With or without exits, quantized or not; it is not modified.

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
