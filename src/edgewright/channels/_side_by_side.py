"""A program and the one that was sliced from it, run in step, call by call."""

from __future__ import annotations

from typing import Any

from torch.fx import Interpreter, Node

from edgewright.program import Program


class SideBySide(Interpreter):
    """Runs a program, and each call of the sliced one right after its own; for subclasses.

    Attributes:
        twins: The sliced program's node for each of the whole one's.
        sliced: Runs the sliced program; its values are freed as the whole one's are.

    Args:
        program: As it was.
        sliced: With the same nodes in the same order.
    """

    def __init__(self, program: Program, sliced: Program) -> None:
        super().__init__(program.graph_module)
        self.twins: dict[Node, Node] = dict(zip(program.graph.nodes, sliced.graph.nodes,
                                                strict=True))
        self.sliced = Interpreter(sliced.graph_module)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run both on tensors; the sliced one on copies, as calls may write into them."""
        self.sliced.args_iter = iter([arg.clone() for arg in args])
        return super().run(*args, **kwargs)

    def run_node(self, n: Node) -> Any:
        """Run a call of both; the whole program's result."""
        value = self.run_whole(n)
        if n.op == "output":
            return value
        self.before_sliced(n, value)
        have = self.run_sliced(self.twins[n])
        self.sliced.env[self.twins[n]] = have
        self.after_sliced(n, value, have)
        for used in self.user_to_last_uses.get(n, []):
            self.sliced.env.pop(self.twins[used], None)
        return value

    def run_whole(self, node: Node) -> Any:
        """Run a call of the whole program."""
        return super().run_node(node)

    def run_sliced(self, twin: Node) -> Any:
        """Run a call of the sliced program."""
        return self.sliced.run_node(twin)

    def before_sliced(self, node: Node, value: Any) -> None:
        """What is to be done once the whole program has computed ``value``."""

    def after_sliced(self, node: Node, value: Any, have: Any) -> None:
        """What is to be done once both have computed a node's value."""
