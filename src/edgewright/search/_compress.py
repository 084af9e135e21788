"""`compress`: a recipe, or a search for the best file under a budget."""

from __future__ import annotations

import shutil
import time as clock
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from torch import nn

from edgewright.bundle import read_bundle
from edgewright.core import Budget, Limit
from edgewright.errors import UsageError
from edgewright.pipeline import (
    Recipe,
    Result,
    RunDirectory,
    RunLog,
    RunSettings,
    capture_original,
    run_identity,
    run_recipe,
)
from edgewright.program import Program
from edgewright.search._builder import Builder
from edgewright.search._config import Search
from edgewright.search._damages import measure_damages
from edgewright.search._planner import Planner
from edgewright.search._recipes import write_recipe
from edgewright.search._searcher import Searcher
from edgewright.search._space import make_space
from edgewright.search._store import TrialStore, database_url
from edgewright.search._time_budget import TimeBudget, parse_time
from edgewright.task import Task
from edgewright.training import ExperimentTracker, open_experiment_tracker
