"""The stages between capture and export."""

from edgewright.pipeline.stages._capture import Capture
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._exits import Exits
from edgewright.pipeline.stages._order import STAGES, check_recipe, fit_recipe
from edgewright.pipeline.stages._plan import Plan, StoredBits, plan_ratio
from edgewright.pipeline.stages._quantize import Quantize
from edgewright.pipeline.stages._stage import FittedRecipe, Stage

__all__ = [
    "STAGES",
    "Capture",
    "Exits",
    "FittedRecipe",
    "Plan",
    "Quantize",
    "Stage",
    "StageContext",
    "StoredBits",
    "check_recipe",
    "fit_recipe",
    "plan_ratio",
]
