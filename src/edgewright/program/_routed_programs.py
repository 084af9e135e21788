"""What a pass may ask about a program that chooses its path by the input."""

from __future__ import annotations

from edgewright.errors import ModelError
from edgewright.graph import ops
from edgewright.program._costs import macs_of
from edgewright.program._graph_outputs import output_nodes
from edgewright.program._program import Program
from edgewright.program._route_regions import count_branch_costs, index_of, is_per_sample


def decides_per_call(program: Program) -> bool:
    """Whether a program makes a decision for all samples of a call together."""
    return any(node.target is ops.ROUTE and not is_per_sample(index_of(node))
               for node in program.graph.nodes)


def check_no_routes(program: Program, what: str) -> None:
    """Check that a program does not choose its path by the input.

    Args:
        program: The program.
        what: What cannot be combined with routes, in the plural, for the message.

    Raises:
        ModelError: It does; the message names a route.
    """
    found = [node.name for node in program.graph.nodes if node.target is ops.ROUTE]
    if found:
        raise ModelError(f"{what} cannot be added to a program that chooses its path by the input "
                         f"({', '.join(found)}): both would decide what runs next; use one of them")


def count_branch_macs(program: Program) -> tuple[tuple[int, ...], ...]:
    """Multiply-accumulates per sample of each branch, of every route outside of others, in order.

    Of a branch with routes of its own, those of its most expensive path.

    Example:
        >>> import torch
        >>> class Choice(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(4, 4)
        ...     def forward(self, x):
        ...         return ops.ROUTE(x.argmax(1) // 2, [x * 2, self.layer(x)])
        >>> program = Program.capture(Choice(), torch.zeros(2, 4))
        >>> count_branch_macs(program), program.costs().longest_path_macs
        (((0, 16),), 16)
    """
    return count_branch_costs(program.graph, output_nodes(program.graph), macs_of)
