"""Edgewright: make a trained model fit an edge device, and prove it on the runtime that runs it.

Names are loaded on first use, so that ``import edgewright`` and running a bundle never import
torch; the names of the workshop need ``pip install 'edgewright[compress]'``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from edgewright._extras import missing_extra
from edgewright.errors import EdgewrightError

if TYPE_CHECKING:
    from edgewright.channels import apply_to, find_groups
    from edgewright.core import AudioPreprocessing, Budget, Manifest, Preprocessing
    from edgewright.distill import Distillation, fit, make_student
    from edgewright.exits import AtResolution, EarlyExits, add_exits
    from edgewright.exporters import export
    from edgewright.goals import (
        Binary,
        Classification,
        CustomGoal,
        Detection,
        Embedding,
        Goal,
        MultiLabel,
        MultiTask,
        Reconstruction,
        Regression,
        Segmentation,
    )
    from edgewright.pipeline import Recipe, Result, cascade, combine, make_bundle, verify
    from edgewright.program import Program
    from edgewright.pruning import (
        BlockPruning,
        ChannelPruning,
        StructureRegularization,
        WeightPruning,
        prune,
        prune_blocks,
        prune_weights,
        regularize,
        remove_vanished,
    )
    from edgewright.quantization import (
        BRECQ,
        MSE,
        PTQ,
        QAT,
        AdaRound,
        DynamicRange,
        Entropy,
        MinMax,
        MixedPrecision,
        Percentile,
        PerChannel,
        PerGroup,
        PerTensor,
        Precision,
        Quantization,
        StaticRange,
        quantize,
    )
    from edgewright.routing import Routing, route
    from edgewright.runtime import Session, load
    from edgewright.search import Search, compress
    from edgewright.task import Task
    from edgewright.training import Training

_HOME: Final[dict[str, str]] = {
    "AdaRound": "edgewright.quantization",
    "AtResolution": "edgewright.exits",
    "AudioPreprocessing": "edgewright.core",
    "BRECQ": "edgewright.quantization",
    "Binary": "edgewright.goals",
    "BlockPruning": "edgewright.pruning",
    "Budget": "edgewright.core",
    "ChannelPruning": "edgewright.pruning",
    "Classification": "edgewright.goals",
    "CustomGoal": "edgewright.goals",
    "Distillation": "edgewright.distill",
    "DynamicRange": "edgewright.quantization",
    "EarlyExits": "edgewright.exits",
    "Detection": "edgewright.goals",
    "Embedding": "edgewright.goals",
    "Entropy": "edgewright.quantization",
    "Goal": "edgewright.goals",
    "MSE": "edgewright.quantization",
    "Manifest": "edgewright.core",
    "MinMax": "edgewright.quantization",
    "MixedPrecision": "edgewright.quantization",
    "MultiLabel": "edgewright.goals",
    "MultiTask": "edgewright.goals",
    "PTQ": "edgewright.quantization",
    "PerChannel": "edgewright.quantization",
    "PerGroup": "edgewright.quantization",
    "PerTensor": "edgewright.quantization",
    "Percentile": "edgewright.quantization",
    "Precision": "edgewright.quantization",
    "Preprocessing": "edgewright.core",
    "Program": "edgewright.program",
    "QAT": "edgewright.quantization",
    "Quantization": "edgewright.quantization",
    "Recipe": "edgewright.pipeline",
    "Reconstruction": "edgewright.goals",
    "Regression": "edgewright.goals",
    "Result": "edgewright.pipeline",
    "Routing": "edgewright.routing",
    "Search": "edgewright.search",
    "Segmentation": "edgewright.goals",
    "Session": "edgewright.runtime",
    "StaticRange": "edgewright.quantization",
    "StructureRegularization": "edgewright.pruning",
    "Task": "edgewright.task",
    "Training": "edgewright.training",
    "WeightPruning": "edgewright.pruning",
    "add_exits": "edgewright.exits",
    "apply_to": "edgewright.channels",
    "cascade": "edgewright.pipeline",
    "combine": "edgewright.pipeline",
    "compress": "edgewright.search",
    "export": "edgewright.exporters",
    "find_groups": "edgewright.channels",
    "fit": "edgewright.distill",
    "load": "edgewright.runtime",
    "make_bundle": "edgewright.pipeline",
    "make_student": "edgewright.distill",
    "prune": "edgewright.pruning",
    "prune_blocks": "edgewright.pruning",
    "prune_weights": "edgewright.pruning",
    "quantize": "edgewright.quantization",
    "regularize": "edgewright.pruning",
    "remove_vanished": "edgewright.pruning",
    "route": "edgewright.routing",
    "verify": "edgewright.pipeline",
}
__version__: Final = "0.1.0"

__all__ = [
    "BRECQ",
    "MSE",
    "PTQ",
    "QAT",
    "AdaRound",
    "AtResolution",
    "AudioPreprocessing",
    "Binary",
    "BlockPruning",
    "Budget",
    "ChannelPruning",
    "Classification",
    "CustomGoal",
    "Detection",
    "Distillation",
    "DynamicRange",
    "EarlyExits",
    "EdgewrightError",
    "Embedding",
    "Entropy",
    "Goal",
    "Manifest",
    "MinMax",
    "MixedPrecision",
    "MultiLabel",
    "MultiTask",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "Percentile",
    "Precision",
    "Preprocessing",
    "Program",
    "Quantization",
    "Recipe",
    "Reconstruction",
    "Regression",
    "Result",
    "Routing",
    "Search",
    "Segmentation",
    "Session",
    "StaticRange",
    "StructureRegularization",
    "Task",
    "Training",
    "WeightPruning",
    "add_exits",
    "apply_to",
    "cascade",
    "combine",
    "compress",
    "export",
    "find_groups",
    "fit",
    "load",
    "make_bundle",
    "make_student",
    "prune",
    "prune_blocks",
    "prune_weights",
    "quantize",
    "regularize",
    "remove_vanished",
    "route",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgewright' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        missing = missing_extra(error, f"edgewright.{name}")
        if missing is None:
            raise
        raise missing from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
