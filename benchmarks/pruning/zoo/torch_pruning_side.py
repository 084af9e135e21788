"""Torch-Pruning's side of the zoo, used as its README shows, with no settings for single models."""

from __future__ import annotations

import importlib
import time
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmarks.pruning.zoo.models import ZooModel
from benchmarks.pruning.zoo.rows import Peer, emit
from edgewright.measure import peak_rss_bytes

_CLASSES: Final = 1000
_RATIO, _ROUND_TO = 0.5, 8


def run_peer(reference: str, seed: int) -> None:
    """Prune one model, and emit a row; a model that no longer runs, or is no smaller, fails."""
    tp = importlib.import_module("torch_pruning")
    _prune(tp, nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 3)),
           torch.randn(1, 3, 8, 8))  # imports are not timed, on either side
    model = ZooModel.parse(reference)
    module = model.build(seed)
    example = model.example(module)
    macs, parameters = tp.utils.count_ops_and_params(module, example)
    row = Peer(parameters=int(parameters), macs=int(macs))
    emit(row)
    since = time.perf_counter()
    _prune(tp, module, example)
    seconds = time.perf_counter() - since
    peak = peak_rss_bytes()
    with torch.no_grad():
        shape = tuple(module(example).shape)
    macs, parameters = tp.utils.count_ops_and_params(module, example)
    if shape != (1, _CLASSES):
        raise RuntimeError(f"outputs of shape {shape} after pruning, expected (1, {_CLASSES})")
    if parameters >= row.parameters:
        raise RuntimeError("nothing was pruned")
    emit(replace(row, seconds=round(seconds, 3), parameters_left=int(parameters),
                 macs_left=int(macs), peak_memory_mb=round(peak / 1e6, 1)))


def _prune(tp: Any, model: nn.Module, example: Tensor) -> None:
    pruner = tp.pruner.BasePruner(
        model, example, importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=_RATIO, ignored_layers=_classifiers(model), round_to=_ROUND_TO)
    pruner.step()


def _classifiers(model: nn.Module) -> list[nn.Module]:
    """What computes the classes, be it linear or, in SqueezeNet, a convolution."""
    return [layer for layer in model.modules()
            if (isinstance(layer, nn.Linear) and layer.out_features == _CLASSES)
            or (isinstance(layer, nn.Conv2d) and layer.out_channels == _CLASSES)]
