"""Remove early exits from a program, or the network behind one."""

from __future__ import annotations

from edgewright.errors import UsageError
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
    return _return_outputs(program, slice(-1, None)) if program.exits else program


def cut_at(program: Program, number: int) -> Program:
    """Return the program that ends at one of its early exits, whose head gives the output.

    The network behind the exit is removed with its tensors; the exits before it remain.

    Args:
        program: With exits, quantized or not; it is not modified.
        number: The exit, counted from 1.

    Raises:
        UsageError: The program has no exit of that number.

    Example:
        >>> import torch
        >>> from edgewright.exits import EarlyExits, add_exits
        >>> from edgewright.task import Task
        >>> x, y = torch.randn(8, 4), torch.arange(8) % 3
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 3))
        >>> program = add_exits(Program.capture(model, x), Task((x, y), test=(x, y)),
        ...                     EarlyExits(places=1, training=None))
        >>> short = cut_at(program, 1)
        >>> short.exits, bool(torch.equal(short.run(x), program.run(x)[0]))
        (0, True)
        >>> sorted(short.state_dict())
        ['0.bias', '0.weight', 'exits.0.bias', 'exits.0.weight']
    """
    if not 1 <= number <= program.exits:
        raise UsageError(f"the program cannot be cut at exit {number}: it has {program.exits} "
                         "early exits, counted from 1")
    return _return_outputs(program, slice(number))


def _return_outputs(program: Program, kept: slice) -> Program:
    """The program with some of its exits' outputs, and what these need."""
    plain = program.copy()
    outputs = outputs_of(plain)[kept]
    set_outputs(plain.graph_module, outputs)
    finalize_graph(plain.graph_module)
    return Program(plain.graph_module, plain.example_inputs, exits=len(outputs) - 1)
