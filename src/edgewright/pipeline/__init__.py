"""The compression pipeline: capture, baseline, stages, export, verify, bundle, report."""

from edgewright.pipeline._combine import cascade, combine
from edgewright.pipeline._compress import capture_original, compress
from edgewright.pipeline._make_bundle import make_bundle
from edgewright.pipeline._recipe import RECIPES, Recipe
from edgewright.pipeline._run import Result, Run, RunSettings
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._verify import Check, verify

__all__ = [
    "RECIPES",
    "Check",
    "Recipe",
    "Result",
    "Run",
    "RunLog",
    "RunSettings",
    "capture_original",
    "cascade",
    "combine",
    "compress",
    "make_bundle",
    "verify",
]
