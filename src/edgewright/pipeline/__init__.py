"""The compression pipeline: capture, baseline, stages, export, verify, bundle, report."""

from edgewright.pipeline._combine import cascade, combine
from edgewright.pipeline._directory import RunDirectory, checksum
from edgewright.pipeline._evaluate import TIMED_RUNS, evaluate_operating_point, time_sessions
from edgewright.pipeline._exit_choice import ExitChoice
from edgewright.pipeline._file_metric import nest_outputs
from edgewright.pipeline._identity import run_identity
from edgewright.pipeline._make_bundle import make_bundle
from edgewright.pipeline._overall import OverallProgress
from edgewright.pipeline._quiet_timer import ORIGINAL, QuietTimer, Timed
from edgewright.pipeline._recipe import RECIPES, Recipe
from edgewright.pipeline._run import Result, Run, RunSettings
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._run_recipe import capture_original, run_recipe
from edgewright.pipeline._verify import Check, verify
from edgewright.pipeline._write_measured import measure_on_test, write_measured

__all__ = [
    "ORIGINAL",
    "RECIPES",
    "TIMED_RUNS",
    "Check",
    "ExitChoice",
    "OverallProgress",
    "QuietTimer",
    "Recipe",
    "Result",
    "Run",
    "RunDirectory",
    "RunLog",
    "RunSettings",
    "Timed",
    "capture_original",
    "cascade",
    "checksum",
    "combine",
    "evaluate_operating_point",
    "make_bundle",
    "measure_on_test",
    "nest_outputs",
    "run_identity",
    "run_recipe",
    "time_sessions",
    "verify",
    "write_measured",
]
