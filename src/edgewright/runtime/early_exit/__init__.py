"""Early exit: scores, and running segments until a sample may leave. No torch."""

from edgewright.runtime.early_exit._policies import Streaks, confidence, exit_scores, gate_inputs
from edgewright.runtime.early_exit._walk import Walked, walk, walk_whole
from edgewright.runtime.early_exit._walk_one import MOST_CLASSES, walk_one

__all__ = [
    "MOST_CLASSES",
    "Streaks",
    "Walked",
    "confidence",
    "exit_scores",
    "gate_inputs",
    "walk",
    "walk_one",
    "walk_whole",
]
