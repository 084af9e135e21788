"""Allocating widths and bits to layers under limits, by integer programming."""

from edgewright.allocation._allocate import (
    Allocation,
    allocate_channels,
    narrowest_widths,
    require_reachable,
    select_uniform,
    smallest,
    uniform,
)
from edgewright.allocation._cost_model import CostModel
from edgewright.allocation._latency_table import (
    LatencyTable,
    LayerTimes,
    channel_sizes,
    find_layers,
)
from edgewright.allocation._precisions import (
    PrecisionLimits,
    PrecisionOption,
    Ties,
    allocate_precisions,
)

__all__ = [
    "Allocation",
    "CostModel",
    "LatencyTable",
    "LayerTimes",
    "PrecisionLimits",
    "PrecisionOption",
    "Ties",
    "allocate_channels",
    "allocate_precisions",
    "channel_sizes",
    "find_layers",
    "narrowest_widths",
    "require_reachable",
    "select_uniform",
    "smallest",
    "uniform",
]
