"""Edgewright's side of the zoo: capture, prune half of every group, prove, translate, compare."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from typing import Final, Literal

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

import edgewright as ew
from benchmarks.pruning.zoo.models import ZooModel
from benchmarks.pruning.zoo.rows import Ours, emit
from edgewright.allocation import select_uniform
from edgewright.channels import ChannelGroups, remove_and_measure
from edgewright.channels._channels import find_groups
from edgewright.exporters import to_onnx
from edgewright.graph import draw_random_inputs
from edgewright.measure import peak_rss_bytes
from edgewright.pruning.criteria import score_channels
from edgewright.runtime import OnnxEngine

Stage = Literal["capture", "prune", "onnx"]
_CONFIG: Final = ew.ChannelPruning(criterion="magnitude", ratio=0.5, round_to=8,
                                   least_width=0)
_NODE: Final = re.compile(r"\b(\w+?)(?:_\d+|__\w+)\b")  # add_3 is as good as add
_REASONS: Final = 5


def run_ours(reference: str, stage: Stage, seed: int) -> None:
    """Take one model as far as ``stage``, and emit a row after every step."""
    _warm_up()
    model = ZooModel.parse(reference)
    module = model.build(seed)
    example = model.example(module)
    since = time.perf_counter()
    program = ew.Program.capture(module, example)
    seconds = time.perf_counter() - since
    costs = program.costs()
    row = Ours(parameters=costs.parameters, macs=costs.macs, capture_seconds=round(seconds, 3))
    emit(row)
    if stage == "capture":
        return
    row, program = _prune(row, program, seed)
    emit(row)
    if stage == "onnx":
        emit(_compare(row, program))


def _warm_up() -> None:
    """Let the first use of `torch.export`, which imports much, be of a network that is small."""
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 3))
    program = ew.Program.capture(net, torch.zeros(1, 3, 8, 8))
    _prune(Ours(), program, seed=0)


def _prune(row: Ours, program: ew.Program, seed: int) -> tuple[Ours, ew.Program]:
    since = time.perf_counter()
    groups = find_groups(program)
    removed = _weakest_half(program, groups, seed)
    pruned, error = (remove_and_measure(program, groups, removed) if removed
                     else (program, None))
    seconds = time.perf_counter() - since
    peak = peak_rss_bytes()
    costs = pruned.costs()
    kept = Counter(_NODE.sub(r"\1", reason) for reason in groups.kept.values())
    return replace(
        row, groups=len(groups.groups), kept=dict(kept.most_common(_REASONS)),
        channels_removed=len(removed), prune_seconds=round(seconds, 3),
        parameters_left=costs.parameters, macs_left=costs.macs,
        peak_memory_mb=round(peak / 1e6, 1),
        masked_error=error,
        failure=None if removed else "no channel can be removed"), pruned


def _weakest_half(program: ew.Program, groups: ChannelGroups, seed: int) -> list[int]:
    """Half of every group that is large enough for a multiple of 8, by magnitude."""
    scores = score_channels(program, None, groups, _CONFIG, seed)
    counted = set(select_uniform(groups, _CONFIG.ratio, _CONFIG.legal_widths))
    removed: list[int] = []
    for group in groups.groups:
        count = len(counted.intersection(group.channels))
        removed += sorted(group.channels, key=scores.__getitem__)[:count]
    return removed


def _compare(row: Ours, program: ew.Program) -> Ours:
    since = time.perf_counter()
    model = to_onnx(program)
    seconds = time.perf_counter() - since
    inputs = draw_random_inputs(program.example_inputs, seed=1)
    want = pytree.tree_leaves(program.run(*inputs))[0].double().numpy()
    have = OnnxEngine(model).run(tuple(leaf.numpy() for leaf in pytree.tree_leaves(inputs)))[0]
    error = float(np.linalg.norm(want - have) / np.linalg.norm(want))
    return replace(row, onnx_seconds=round(seconds, 3), onnx_error=error)
