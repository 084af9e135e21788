"""Running a program and a sliced copy of it side by side, call by call."""

from __future__ import annotations

from typing import Any

from torch.fx import Interpreter, Node

from edgewright.program import Program


class SideBySide(Interpreter):
    """Runs each call of a program, then the same call of the sliced program; a base class.

    Attributes:
        twins: For each node of the original program, the sliced program's node.
        sliced: Interpreter of the sliced program; it frees values when the original does.

    Args:
        program: The original program.
        sliced: The sliced program, with the same nodes in the same order.
    """

    def __init__(self, program: Program, sliced: Program) -> None:
        super().__init__(program.graph_module)
        self.twins: dict[Node, Node] = dict(zip(program.graph.nodes, sliced.graph.nodes,
                                                strict=True))
        self.sliced = Interpreter(sliced.graph_module)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run both on tensors; the sliced program on copies, because calls may write in place."""
        self.sliced.args_iter = iter([arg.clone() for arg in args])
        return super().run(*args, **kwargs)

    def run_node(self, n: Node) -> Any:
        """Run a call of both programs and return the original program's result."""
        value = self.run_whole(n)
        if n.op == "output":
            return value
        self.before_sliced(n, value)
        sliced_value = self.run_sliced(self.twins[n])
        self.sliced.env[self.twins[n]] = sliced_value
        self.after_sliced(n, value, sliced_value)
        for used in self.user_to_last_uses.get(n, []):
            self.sliced.env.pop(self.twins[used], None)
        return value

    def run_whole(self, node: Node) -> Any:
        """Run a call of the original program."""
        return super().run_node(node)

    def run_sliced(self, twin: Node) -> Any:
        """Run a call of the sliced program."""
        return self.sliced.run_node(twin)

    def before_sliced(self, node: Node, value: Any) -> None:
        """Hook that is called after the original program has computed ``value``."""

    def after_sliced(self, node: Node, value: Any, sliced_value: Any) -> None:
        """Hook that is called after both programs have computed a node's value."""
