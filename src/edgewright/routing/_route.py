"""`route`: train a gate that chooses a branch per sample, with its branches."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from edgewright.errors import EdgewrightWarning, UsageError
from edgewright.program import Program, count_branch_macs
from edgewright.routing._candidates import CandidateModel, RoutedModel, check_candidates
from edgewright.routing._config import Routing
from edgewright.routing._objective import RouteObjective
from edgewright.task import Task
from edgewright.training import (
    GoalLoss,
    Progress,
    check_program,
    run_batches,
    sample_batch,
    train,
)


def route(gate: nn.Module, branches: Sequence[nn.Module], task: Task,  # noqa: PLR0913 - public
          config: Routing | None = None, *, trunk: nn.Module | None = None, seed: int = 0,
          checkpoint: Path | None = None, progress: Progress | None = None) -> Program:
    """Train a gate that chooses, per sample, which of several branches computes the outputs.

    The result is a program like any other: it can be pruned, distilled, quantized, compressed and
    bundled. Deployed, the gate takes the branch with the highest logit, sample by sample, and a
    session runs that branch alone. Pruning keeps the gate's own layers, whose effect on the loss
    has no gradient once the choice is hard.

    Gate and branches are trained together by `RouteObjective`: the task's loss of the branches'
    outputs, mixed by the gate with noise that decreases to a choice; the expected
    multiply-accumulates; and a balance that keeps all branches in use while they learn. Then the
    choice is fixed to the highest logit, and the branches are fine-tuned on the samples that they
    get. A gate may settle on a worse division of the work than the best one; if it matters, train
    longer, or compare several seeds of the gate's initial weights. The modules themselves are not
    changed.

    Args:
        gate: Takes what the branches take; returns logits (N, K), floating point.
        branches: K modules, two or more, with outputs of one nesting, shape and dtype.
        task: The data and the goal.
        config: Weights of cost and balance, and the trainings.
        trunk: Computes the features that gate and branches take from the model's inputs; None
            gives them the inputs.
        seed: Seed of all random numbers.
        checkpoint: File of the first training's state, to resume from.
        progress: Receives every step.

    Raises:
        UsageError: Fewer than two branches, or a training that mixes samples.
        ModelError: Gate and branches do not fit each other or the goal, or cannot be captured.
        DataError: The task's samples cannot be used.
        TrainingError: The loss is not finite.

    Example:
        >>> from edgewright.training import Training
        >>> x = torch.randn(64, 4)
        >>> y = (x[:, 0] > 0).long()
        >>> small, large = nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 32), nn.ReLU(),
        ...                                               nn.Linear(32, 2))
        >>> program = route(nn.Linear(4, 2), [small, large], Task((x, y), test=(x, y)),
        ...                 Routing(training=Training(epochs=2), finetuning=None))
        >>> program.run(x).shape
        torch.Size([64, 2])
    """
    config = config or Routing()
    _check(branches, config)
    model = CandidateModel(copy.deepcopy(RoutedModel(gate, branches, trunk)).cpu())
    batch = sample_batch(task)
    with torch.no_grad():
        check_candidates(model.eval()(*batch.inputs), batch.size)
    program = _capture(model.routed, task)
    check_program(program, task)
    objective = RouteObjective(task.goal, count_branch_macs(program)[-1], config)
    train(model, task, config.training, objective, seed=seed, checkpoint=checkpoint,
          progress=progress)
    _warn_if_unused(model, task)
    program = _capture(model.routed, task)
    if config.finetuning is None:
        return program
    module = program.module(train=True)
    train(module, task, config.finetuning,
          GoalLoss(task.goal, config.finetuning.label_smoothing), seed=seed, progress=progress)
    return program.with_state(module.state_dict())


def _check(branches: Sequence[nn.Module], config: Routing) -> None:
    if len(branches) < 2:
        raise UsageError(f"{len(branches)} branches leave a gate no choice; give two or more")
    if min(config.temperature) <= 0:
        raise UsageError(f"temperatures must be above 0, got {config.temperature}")
    if mixing := config.training.augment.mixing_names:
        raise UsageError(f"{' and '.join(mixing)} cannot be used while a gate learns, because a "
                         "mixed sample belongs to no branch; leave it at 0")


def _capture(model: RoutedModel, task: Task) -> Program:
    return Program.capture(model.eval(), task.train.example(2))


def _warn_if_unused(model: CandidateModel, task: Task) -> None:
    """Warn of branches that no validation sample takes."""
    counts = torch.zeros(len(model.routed.branches), dtype=torch.int64)
    for outputs, _ in run_batches(model, task.val):
        index = outputs[-1].scores.argmax(dim=1).cpu()
        counts += index.bincount(minlength=len(counts))
    unused = [str(number) for number, count in enumerate(counts.tolist()) if not count]
    if unused:
        warnings.warn(f"no validation sample takes the branch {', '.join(unused)}; give the "
                      "balance more weight (Routing(balance_weight=...)), the cost less, or train "
                      "longer", EdgewrightWarning, stacklevel=3)
