"""Allocating blocks, widths and bits under limits, by integer programming."""

from edgewright.allocation._allocate import (
    Allocation,
    allocate_channels,
    narrowest_widths,
    require_reachable,
    select_uniform,
    smallest,
    uniform,
)
from edgewright.allocation._choices import (
    ChoiceProblem,
    Solution,
    Table,
    find_nearest_miss,
    find_smallest,
    solve_choices,
)
from edgewright.allocation._cost_model import CostModel
from edgewright.allocation._joint import (
    Bits,
    Damages,
    JointAnswer,
    JointSpace,
    Keep,
    Width,
    make_joint_problem,
    read_answer,
    select_blocks,
)
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
    "Bits",
    "ChoiceProblem",
    "CostModel",
    "Damages",
    "JointAnswer",
    "JointSpace",
    "Keep",
    "LatencyTable",
    "LayerTimes",
    "PrecisionLimits",
    "PrecisionOption",
    "Solution",
    "Table",
    "Ties",
    "Width",
    "allocate_channels",
    "allocate_precisions",
    "channel_sizes",
    "find_layers",
    "find_nearest_miss",
    "find_smallest",
    "make_joint_problem",
    "narrowest_widths",
    "read_answer",
    "require_reachable",
    "select_blocks",
    "select_uniform",
    "smallest",
    "solve_choices",
    "uniform",
]
