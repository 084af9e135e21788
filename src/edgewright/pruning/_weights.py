"""Pruning of single weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from edgewright.errors import UsageError
from edgewright.graph import argument, mark_sparse, match_tensors, ops, stored_tensors
from edgewright.program import Program
from edgewright.pruning._gradual_mask import (
    GradualMask,
    Sparsities,
    compute_masks,
    draw_random_scores,
)
from edgewright.pruning._weight_pruning import WeightPruning
from edgewright.task import Task
from edgewright.training import (
    ConstrainedObjective,
    GoalLoss,
    Objective,
    Progress,
    check_program,
    train,
)


def prune_weights(program: Program, task: Task | None = None, config: WeightPruning | None = None,
                  *, objective: Objective | None = None, seed: int = 0,
                  checkpoint: Path | None = None, progress: Progress | None = None) -> Program:
    """Set the least important weights to zero, and keep them zero in every later training.

    Weights of convolutions and linear layers are pruned. The zeros are kept through training,
    exits, slicing, folding and quantization, and are zeros in the exported file;
    `Program.sparsity` has their fraction. A frozen weight (``requires_grad=False``) is pruned like
    the others, and its remaining values do not change; use ``ignore`` to keep fixed constants
    unpruned. An N:M pattern applies to layers whose input channels are a multiple of M; other
    layers stay dense.

    Args:
        program: In floating point; it is not changed.
        task: The data; may be None if the config has no training.
        config: What to prune and how; None for half of the weights, gradually.
        objective: What the training minimizes; None for the label loss.
        seed: Seed of the training, and of ``random``.
        checkpoint: File for the training's state, from which it can be resumed.
        progress: Shows the training's progress.

    Raises:
        UsageError: The program is quantized, a pattern in ``ignore`` or ``layers`` matches nothing,
            no layer can be pruned, there is a training without a task, or ``movement`` is used with
            frozen weights.
        TrainingError: The loss is no longer finite.

    Example:
        >>> program = Program.capture(torch.nn.Linear(4, 4), torch.zeros(1, 4))
        >>> config = WeightPruning(sparsity=0.75, schedule="one_shot", training=None)
        >>> prune_weights(program, None, config).sparsity
        {'weight': 0.75}
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 2))
        >>> config = WeightPruning(criterion="random", layers={"0": 0.3}, schedule="one_shot",
        ...                        training=None)
        >>> prune_weights(Program.capture(model, torch.zeros(1, 4)), None, config).sparsity
        {'0.weight': 0.3}
    """
    config = config or WeightPruning()
    if program.is_quantized:
        raise UsageError("the weights of a quantized program cannot be pruned; prune before "
                         "quantizing")
    if config.training is not None:
        if task is None:
            raise UsageError("training the remaining weights needs data; give a task, or use "
                             "schedule='one_shot' and training=None")
        objective = objective or GoalLoss(task.goal, config.training.label_smoothing)
        check_program(program, task, objective)
    sparsities = find_prunable_weights(program, config)
    _check_movement(program, sparsities, config)
    is_gradual = config.schedule == "gradual"
    pruned = program if is_gradual else _prune_one_shot(program, sparsities, config, seed)
    if config.training is None or task is None or objective is None:  # the last two go with it
        return pruned
    if is_gradual:
        objective = ConstrainedObjective(objective, (GradualMask(sparsities, config, seed),))
    module = pruned.module(train=True)
    train(module, task, config.training, objective, seed=seed, checkpoint=checkpoint,
          progress=progress)
    result = pruned.with_state(module.state_dict())
    mark_sparse(result.graph_module, sparsities)
    return result


def _check_movement(program: Program, names: Iterable[str], config: WeightPruning) -> None:
    tensors = stored_tensors(program.graph_module)
    frozen = [name for name in names if not tensors[name].requires_grad]
    if config.criterion == "movement" and frozen:
        raise UsageError(f"criterion='movement' needs the changes of weights during training, but "
                         f"{', '.join(frozen)} are frozen (requires_grad=False); add them to "
                         "ignore, or use criterion='magnitude'")


def find_prunable_weights(program: Program, config: WeightPruning) -> dict[str, float | None]:
    """Find the weights that the config prunes, with the sparsity of each in ``layers``.

    The sparsity is None for weights that follow the config's ``sparsity``. Tied weights are
    included once.

    Raises:
        UsageError: A pattern in ``ignore`` or ``layers`` matches no layer, or there is no weight to
            prune.
    """
    tensors = stored_tensors(program.graph_module)
    found: dict[int, str] = {}
    for node in program.calls():
        weight = argument(node, "weight") if node.target in ops.OUTPUTS_FIRST else None
        if isinstance(weight, torch.fx.Node) and weight.op == "get_attr":
            found.setdefault(id(tensors[str(weight.target)]), str(weight.target))
    ignored = match_tensors(found.values(), config.ignore)
    names = [name for name in found.values() if name not in ignored]
    pattern_of = match_tensors(names, config.layers, "layers")
    sparsities = {name: config.layers[pattern_of[name]] if name in pattern_of else None
                  for name in names}
    names = [name for name in names if sparsities[name] is not None
             or (name not in pattern_of and config.sparsity is not None)]
    if config.block is not None:
        size = config.block[1]
        names = [name for name in names if tensors[name].shape[1] % size == 0]
    if not names:
        condition = ("" if config.block is None else
                     f" whose input channels are a multiple of {config.block[1]}")
        raise UsageError("there is no weight to prune: no convolution or linear layer remains"
                         f"{condition}; ignore fewer layers or choose another pattern")
    return {name: sparsities[name] for name in names}


def _prune_one_shot(program: Program, sparsities: Sparsities, config: WeightPruning,
                    seed: int) -> Program:
    """Prune by magnitude or at random, in one shot."""
    result = program.copy()
    tensors = stored_tensors(result.graph_module)
    weights = {name: tensors[name].detach() for name in sparsities}
    scores = (draw_random_scores(weights, seed) if config.criterion == "random" else
              {name: weight.abs() for name, weight in weights.items()})
    masks = compute_masks(scores, sparsities, config)
    with torch.no_grad():
        for name, mask in masks.items():
            tensors[name].masked_fill_(~mask, 0.0)
    mark_sparse(result.graph_module, sparsities)
    return result
