"""From a budget to an allocation: how much to remove, and where."""

from edgewright.search._allocate import (
    Allocation,
    allocate_channels,
    require_reachable,
    select_uniform,
    smallest,
)
from edgewright.search._latency_table import LatencyTable, LayerTimes
from edgewright.search._layer_timing import measure_layers
from edgewright.search._plan import Plan, plan_ratio

__all__ = [
    "Allocation",
    "LatencyTable",
    "LayerTimes",
    "Plan",
    "allocate_channels",
    "measure_layers",
    "plan_ratio",
    "require_reachable",
    "select_uniform",
    "smallest",
]
