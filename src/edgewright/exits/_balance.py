"""Balance the gradients of several exits (gradient equilibrium)."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from torch.fx import Node

from edgewright.graph import ancestors
from edgewright.program import Program, outputs_of
from edgewright.task import Batch
from edgewright.training import Objective, WrappedObjective


@final
class SummedExitLoss(WrappedObjective):
    """The sum over the exits of a mean objective; use it with `balance_gradients`.

    Li et al. 2019, "Improved techniques for training adaptive deep networks", section 3.1
    (gradient equilibrium). After exit ``i`` of ``K`` (including the last one) there are ``K - i``
    more exits. There the gradient of the exit's head is scaled by ``1 / (K - i + 1)`` and that of
    the rest of the network by ``(K - i) / (K - i + 1)``, so that the gradient before the exit is ::

        g_i = 1 / (K - i + 1) * sum of dL_j / dx_i over the exits j >= i

    This is the mean over the following exits and does not grow with their number, while each head
    and the last part of the network get the full gradient of their own loss.

    Args:
        objective: An objective that is a mean over the outputs, as all built-in ones are.

    Example:
        >>> from edgewright.goals import Classification
        >>> from edgewright.training import GoalLoss
        >>> batch = Batch((), torch.tensor([0, 1, 1]), torch.arange(3))
        >>> logits = torch.zeros(3, 2)
        >>> objective = SummedExitLoss(GoalLoss(Classification()))
        >>> round(float(objective.loss((logits, logits), batch)), 4)
        1.3863
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)

    @property
    def name(self) -> str:
        """Identifies the balancing and the objective in a checkpoint."""
        return f"Equilibrium({self._objective.name})"

    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The objective's loss times the number of exits."""
        return self._objective.loss(outputs, batch) * len(outputs)


def balance_gradients(program: Program) -> Program:
    """Return an equivalent program whose gradients are scaled at the exits, for training.

    The scaling has no tensors and does not appear in exported files.

    Args:
        program: A program with exits; it is not modified.

    Example:
        >>> from edgewright.exits import EarlyExits, add_exits
        >>> from edgewright.task import Task
        >>> x, y = torch.randn(8, 4), torch.arange(8) % 3
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 3))
        >>> program = add_exits(Program.capture(model, x), Task((x, y), test=(x, y)),
        ...                     EarlyExits(places=1, training=None))
        >>> balanced = balance_gradients(program)
        >>> all(map(torch.equal, balanced.run(x), program.run(x)))
        True
    """
    balanced = program.copy()
    *early, final = outputs_of(balanced)
    trunk = ancestors([final])
    for index, cut in enumerate([_find_junction(logits, trunk) for logits in early]):
        to_come = len(early) - index
        readers = list(cut.users)
        _scale_readers(cut, [user for user in readers if user in trunk], to_come / (to_come + 1))
        _scale_readers(cut, [user for user in readers if user not in trunk], 1 / (to_come + 1))
    balanced.graph_module.recompile()
    return balanced


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return the tensor unchanged, but scale its gradient by ``factor``.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> scale_gradient(x, 0.25).sum().backward()
        >>> x.grad
        tensor([0.2500, 0.2500])
    """
    scaled: Tensor = _ScaledGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return scaled


@final
class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def _scale_readers(cut: Node, readers: list[Node], factor: float) -> None:
    """Scale the gradient that readers of a tensor pass back."""
    with cut.graph.inserting_after(cut):
        scaled = cut.graph.call_function(scale_gradient, (cut, factor))
    scaled.meta["val"] = cut.meta["val"]
    for reader in readers:
        reader.replace_input_with(cut, scaled)


def _find_junction(logits: Node, trunk: set[Node]) -> Node:
    """The node that a head is attached to: the one tensor of the network that it reads."""
    head = ancestors([logits]) - trunk
    return next(source for node in head for source in node.all_input_nodes if source in trunk)
