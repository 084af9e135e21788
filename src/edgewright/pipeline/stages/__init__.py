"""The stages between capture and export."""

from edgewright.pipeline.stages._capture import Capture
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._exits import Exits
from edgewright.pipeline.stages._order import STAGES, adjust_recipe, check_recipe
from edgewright.pipeline.stages._plan import Plan, StoredBits, plan_ratio
from edgewright.pipeline.stages._quantize import Quantize
from edgewright.pipeline.stages._stage import AdjustedRecipe, Stage

__all__ = [
    "STAGES",
    "AdjustedRecipe",
    "Capture",
    "Exits",
    "Plan",
    "Quantize",
    "Stage",
    "StageContext",
    "StoredBits",
    "adjust_recipe",
    "check_recipe",
    "plan_ratio",
]
