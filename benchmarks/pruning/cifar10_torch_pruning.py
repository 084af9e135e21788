"""Torch-Pruning on the CIFAR-10 ResNets, at its best: its own criteria, small steps, both scopes.

Its dependency graph cannot follow a shortcut that pads channels with zeros (option A of He et al.
2016): pruned through it, the model no longer runs ("mat1 and mat2 shapes cannot be multiplied").
So the tensors on the shortcuts are ignored, and every first convolution of a block is pruned.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.program import Program
from edgewright.task import Split, Task

PEERS: Final = ("group-norm-local", "group-norm-global", "taylor-local", "taylor-global")
_STEPS: Final = 400  # as its own reproduction scripts have it: stop at the first that is enough
_REFRESH: Final = 50  # steps on one gradient (its pruner slices it along): eight in all, as ours
_MOST: Final = {"local": 1.0, "global": 0.9}  # of a layer; the guard its documentation advises
_BATCH: Final = 64


def prune_with_peer(name: str, model: nn.Module, task: Task, kept: float, *, samples: int,
                    seed: int) -> Program:
    """The model pruned by one of `PEERS` until at most ``kept`` of its MACs are left, captured.

    Args:
        name: The criterion and the scope.
        model: A ResNet of ``examples/resnet.py``; it is changed.
        task: The Taylor criterion's gradients are of its training split.
        kept: Share of the multiply-accumulates.
        samples: How many samples a gradient is of.
        seed: Chooses the samples.
    """
    tp = importlib.import_module("torch_pruning")
    criterion, _, scope = name.rpartition("-")
    needs_gradients = criterion == "taylor"
    importance = (tp.importance.GroupTaylorImportance() if needs_gradients
                  else tp.importance.GroupMagnitudeImportance(p=2))
    example = task.train.example(1)[0]
    goal = kept * _macs(model, example)
    pruner = tp.pruner.BasePruner(
        model, example, importance, global_pruning=scope == "global", pruning_ratio=1.0,
        max_pruning_ratio=_MOST[scope], iterative_steps=_STEPS, ignored_layers=_unprunable(model))
    split = task.train.sample(samples, seed=seed)
    for step in range(_STEPS):
        if needs_gradients and step % _REFRESH == 0:
            _accumulate(model, split)
        pruner.step()
        if _macs(model, example) <= goal:
            break
    else:
        raise RuntimeError(f"{name} cannot reach {100 * kept:.1f} % of the multiply-accumulates")
    return Program.capture(model.eval(), example)


def _unprunable(model: nn.Module) -> list[nn.Module]:
    """The classifier, and what writes to a shortcut."""
    return [module for name, module in model.named_modules()
            if name in ("conv1", "linear") or name.endswith(".conv2")]


def _accumulate(model: nn.Module, split: Split) -> None:
    model.zero_grad()
    for batch in split.batches(_BATCH):
        torch.autograd.backward(F.cross_entropy(model(*batch.inputs), batch.targets))


def _macs(model: nn.Module, example: Tensor) -> int:
    """As `Program.costs` counts them, without a capture at every step."""
    counted: list[int] = []

    def count(layer: Any, inputs: Any, output: Tensor) -> None:
        del inputs
        counted.append(output[0].numel() * layer.weight[0].numel())

    hooks = [module.register_forward_hook(count) for module in model.modules()
             if isinstance(module, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return sum(counted)
