"""The stages between capture and export."""

from edgewright.pipeline.stages._plan import Plan, StoredBits, plan_ratio
from edgewright.pipeline.stages._stored_bits import computed_costs, stored_bits

__all__ = [
    "Plan",
    "StoredBits",
    "computed_costs",
    "plan_ratio",
    "stored_bits",
]
