"""Attach exits to a program's cuts and train them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import nn
from torch.fx import Node

from edgewright.capture import CapturedModule
from edgewright.errors import ModelError, UsageError
from edgewright.exits._balance import SummedExitLoss, balance_gradients
from edgewright.exits._config import EarlyExits, HeadTraining
from edgewright.exits._goal import check_goal
from edgewright.exits._names import name_heads_module
from edgewright.exits._placement import plan_exits
from edgewright.exits._places import ExitPlace
from edgewright.goals import Goal, named_outputs
from edgewright.graph import ops, refresh_shapes, set_argument
from edgewright.program import (
    Program,
    check_fixed_sizes,
    check_no_routes,
    insert_program,
    keep_outputs,
    outputs_of,
    set_outputs,
)
from edgewright.task import Task
from edgewright.training import (
    ConstrainedObjective,
    GoalLoss,
    Objective,
    Progress,
    StepHook,
    check_program,
    train,
)


def add_exits(program: Program, task: Task, config: EarlyExits | None = None, *,
              objective: Objective | None = None, seed: int = 0, checkpoint: Path | None = None,
              progress: Progress | None = None) -> Program:
    """Add early exits at cuts of the graph, and train them.

    `plan_exits` chooses the places. The tensors of the N-th head are called ``exits.N.*``, those of
    its last layer ``exits.N.weight`` and ``exits.N.bias``; if the model has a submodule ``exits``,
    ``exits_1`` or the next free number is used. The new program returns one tensor per exit, the
    final one last, all of the same shape.

    The goal says how sure an exit is of a sample, and what leaving costs
    (`edgewright.goals.Goal.exit_confidence`); a goal whose outputs do not tell is refused.

    Any objective can be used, also one that distills the last exit into the others
    (``self_weight`` of `edgewright.distill.Distillation`).

    Args:
        program: With one output that the goal predicts by, the batch first; the others are dropped.
            A quantized program gets floating-point heads, and only these are trained.
        task: The data.
        config: How many exits, which heads, and how they are trained.
        objective: What the training minimizes; None for the label loss.
        seed: Seed of the heads' initial weights and of the training.
        checkpoint: File of the training's state, to resume from.
        progress: Receives every step of the training.

    Raises:
        UsageError: The program is quantized but not only the heads are trained, it has exits
            already, the goal or the policy cannot have exits, or a name in the config is not a
            place for one.
        ModelError: The program does not have one output, it has fewer cuts than requested exits, a
            named tensor cannot feed a head, or, with ``auto``, no exit is expected to save
            anything.

    Example:
        >>> import torch
        >>> x, y = torch.randn(32, 4), torch.arange(32) % 3
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 3))
        >>> program = add_exits(Program.capture(model, x), Task((x, y), test=(x, y)),
        ...                     EarlyExits(places=1, training=None))
        >>> [tuple(logits.shape) for logits in program.run(x)]
        [(32, 3), (32, 3)]
    """
    config = config or EarlyExits()
    _check(program, config)
    check_goal(task.goal, config.calibration.policy)
    program = _keep_prediction(program, task.goal)
    places = plan_exits(program, config).places
    check_program(program, task)
    if not places:
        raise ModelError("no early exit is expected to save more than it costs on this network; "
                         "give their count or their places to add them anyway")
    attached = _attach(program, places, seed)
    if config.training is None:
        return attached
    training = config.training.settings
    objective = ConstrainedObjective(objective or GoalLoss(task.goal, training.label_smoothing),
                                     (RejectInitialHeads(),))
    if isinstance(config.training, HeadTraining):
        module = attached.module()
        heads = attached.state_dict().keys() - program.state_dict().keys()
        network: nn.Module = _TrainHeadsOnly(module, frozenset(heads))
    elif config.training.gradient_equilibrium:
        network = module = balance_gradients(attached).module(train=True)
        objective = SummedExitLoss(objective)
    else:
        network = module = attached.module(train=True)
    train(network, task, training, objective, seed=seed, checkpoint=checkpoint,
          progress=progress)
    return attached.with_state(module.state_dict())


@final
class RejectInitialHeads(StepHook):
    """Excludes the initial weights as a result: the heads are untrained."""

    @property
    def may_keep_initial_weights(self) -> bool:
        """False."""
        return False


@final
class _TrainHeadsOnly(nn.Module):
    """Trains only the heads; the rest, including running statistics, does not change.

    Args:
        body: The network with its exits.
        heads: Names of the heads' tensors.
    """

    def __init__(self, body: CapturedModule, heads: frozenset[str]) -> None:
        super().__init__()
        self.body = body.eval()
        self._heads = heads
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(name in heads)

    def forward(self, *inputs: Any) -> Any:
        return self.body(*inputs)

    def train(self, mode: bool = True) -> _TrainHeadsOnly:
        super().train(mode)
        self.body.eval()
        for node in self.body.graph.nodes:
            if node.target is ops.BATCH_NORM and self._belongs_to_head(node):
                set_argument(node, "training", mode)
        self.body.recompile()
        return self

    def _belongs_to_head(self, norm: Node) -> bool:
        return any(read.op == "get_attr" and read.target in self._heads
                   for read in norm.all_input_nodes)


def _check(program: Program, config: EarlyExits) -> None:
    check_fixed_sizes(program, "early exits")
    check_no_routes(program, "early exits")
    if program.is_quantized and not isinstance(config.training, HeadTraining):
        raise UsageError("exits cannot be added to a quantized program; add them before "
                         "quantizing, or with training=HeadTraining(), which trains the heads "
                         "alone")
    if program.exits:
        raise UsageError(f"the program has {program.exits} early exits already; add all of them "
                         "at once to the program without exits")


def _keep_prediction(program: Program, goal: Goal) -> Program:
    """The program without the outputs that the goal does not use; state is kept."""
    outputs = program.run(*program.example_inputs)
    prediction, *others = goal.predictions(outputs)
    if others or program.states or len(named_outputs(outputs)) == 1:
        return program
    return keep_outputs(program, (prediction.name,))


def _attach(program: Program, places: Sequence[ExitPlace], seed: int) -> Program:
    attached = program.copy()
    module = attached.graph_module
    final = outputs_of(attached)[0]
    cuts = {node.name: node for node in module.graph.nodes}
    owner = name_heads_module(module)
    module.add_submodule(owner, nn.Module())
    returned = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for index, place in enumerate(places):
            cut = cuts[place.name]
            head = place.head.make()
            example = torch.zeros(2, *place.head.features.shape, dtype=cut.meta["val"].dtype)
            captured = Program.capture(head.to(example.dtype), example)
            returned.append(insert_program(module, cut, captured, f"{owner}.{index}"))
    set_outputs(module, (*returned, final))
    module.recompile()
    refresh_shapes(module)
    return Program(module, attached.example_inputs, exits=len(places))
