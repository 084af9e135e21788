"""From a budget to an allocation: how much to remove, and where."""

from edgewright.search._allocate import (
    Allocation,
    allocate_channels,
    require_reachable,
    select_uniform,
    smallest,
)
from edgewright.search._cost_model import CostModel
from edgewright.search._latency_table import LatencyTable, LayerTimes
from edgewright.search._layer_timing import measure_layers
from edgewright.search._plan import Plan, StoredBits, plan_ratio
from edgewright.search._precision import (
    PrecisionLimits,
    PrecisionOption,
    Ties,
    allocate_precisions,
    total_cost,
)
from edgewright.search._precision_timing import PrecisionTimer, PrecisionTimes, measure_precisions
from edgewright.search._widths import LegalWidths, RoundTo, counts_of

__all__ = [
    "Allocation",
    "CostModel",
    "LatencyTable",
    "LayerTimes",
    "LegalWidths",
    "Plan",
    "PrecisionLimits",
    "PrecisionOption",
    "PrecisionTimer",
    "PrecisionTimes",
    "RoundTo",
    "StoredBits",
    "Ties",
    "allocate_channels",
    "allocate_precisions",
    "counts_of",
    "measure_layers",
    "measure_precisions",
    "plan_ratio",
    "require_reachable",
    "select_uniform",
    "smallest",
    "total_cost",
]
