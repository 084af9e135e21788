"""Measuring what pruning for latency has to know."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch.utils import _pytree as pytree

from edgewright.allocation import LatencyTable
from edgewright.channels import ChannelGroups, find_groups
from edgewright.exporters import to_onnx
from edgewright.measure import measure_latency, pinned
from edgewright.program import Program, probe_inputs
from edgewright.runtime import OnnxEngine
from edgewright.timing._layer_timing import measure_layers

_RUNS: Final = 30


def layer_latencies(program: Program, groups: ChannelGroups | None = None,
                    path: str | Path | None = None) -> LatencyTable:
    """Time a program, and each of its layers at a grid of widths, on ONNX Runtime.

    In float32, for one sample, on one thread; see `measure_layers` for the grid and the scale.

    Args:
        program: In floating point.
        groups: Its channel groups, found here if left out.
        path: A file to keep the table in, from which it is read if it is there already.

    Raises:
        ModelError: An operator has no translation.
        StorageError: The file holds no table, or cannot be written.
        UsageError: The file's table is of another program, or there is no layer to time.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Linear(16, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> sorted(layer_latencies(program).layers)
        ['0.weight', '1.weight']
    """
    engine = OnnxEngine(to_onnx(program))
    leaves = pytree.tree_leaves(probe_inputs(program))
    inputs = tuple(leaf[:1].numpy() for leaf in leaves)
    with pinned():
        whole = measure_latency(lambda _: engine.run(inputs), runs=_RUNS)
    return measure_layers(program, groups or find_groups(program), whole.median_ms,
                          path=None if path is None else Path(path))
