"""Early exit: confidence scores, and running segments until a sample may leave. No torch."""

from edgewright.runtime.early_exit._policies import Streaks, confidence, exit_scores, gate_inputs
from edgewright.runtime.early_exit._run_single_sample import MAX_CLASSES, run_single_sample
from edgewright.runtime.early_exit._run_with_exits import (
    ExitOutputs,
    ExitResult,
    run_with_exits,
    run_without_exits,
)
from edgewright.runtime.early_exit._scorers import find_scores

__all__ = [
    "MAX_CLASSES",
    "ExitOutputs",
    "ExitResult",
    "Streaks",
    "confidence",
    "exit_scores",
    "find_scores",
    "gate_inputs",
    "run_single_sample",
    "run_with_exits",
    "run_without_exits",
]
