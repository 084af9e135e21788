"""The compression pipeline: capture, baseline, stages, export, verify, bundle, report."""

from edgewright.pipeline._combine import cascade, combine
from edgewright.pipeline._compress import Result, compress
from edgewright.pipeline._make_bundle import make_bundle
from edgewright.pipeline._recipe import RECIPES, Recipe
from edgewright.pipeline._verify import Check, verify

__all__ = [
    "RECIPES",
    "Check",
    "Recipe",
    "Result",
    "cascade",
    "combine",
    "compress",
    "make_bundle",
    "verify",
]
