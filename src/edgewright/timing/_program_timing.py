"""Measuring the latency table of a program, for pruning by latency."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch.utils import _pytree as pytree

from edgewright.allocation import LatencyTable
from edgewright.channels import ChannelGroups, find_groups
from edgewright.exporters import to_onnx
from edgewright.measure import measure_latency, pin_to_core
from edgewright.program import Program, probe_inputs
from edgewright.runtime import OnnxEngine
from edgewright.timing._layer_timing import measure_layers

_RUNS: Final = 30


def measure_layer_latencies(program: Program, groups: ChannelGroups | None = None,
                            path: str | Path | None = None) -> LatencyTable:
    """Time a program, and each of its layers at a grid of widths, on ONNX Runtime.

    This is in float32, for one sample, on one thread; see `measure_layers` for the grid and the
    scaling. Measure on the device where the model is going to run, if possible.

    Args:
        program: In floating point.
        groups: Its channel groups; None to find them.
        path: A file to store the table in; it is read from there if it exists.

    Raises:
        ModelError: An operator cannot be exported.
        StorageError: The file is not a table, or cannot be written.
        UsageError: The file has the table of another program, or there is no layer to time.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Linear(16, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> sorted(measure_layer_latencies(program).layers)
        ['0.weight', '1.weight']
    """
    engine = OnnxEngine(to_onnx(program))
    leaves = pytree.tree_leaves(probe_inputs(program))
    inputs = tuple(leaf[:1].numpy() for leaf in leaves)
    with pin_to_core():
        whole = measure_latency(lambda _: engine.run(inputs), runs=_RUNS)
    return measure_layers(program, groups or find_groups(program), whole.median_ms,
                          path=None if path is None else Path(path))
