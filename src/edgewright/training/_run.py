"""The definition of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import nn

from edgewright.task import Task
from edgewright.training._config import Training
from edgewright.training._objective import Objective
from edgewright.training._time_limit import TimeLimit


@final
@dataclass(frozen=True)
class Run:
    """The arguments of `train`, bundled.

    Attributes:
        exits: How many of the module's outputs are early exits.
        limit: The limit on its time, if there is one.
    """

    module: nn.Module
    task: Task
    config: Training
    objective: Objective
    seed: int
    checkpoint: Path | None
    exits: int = 0
    limit: TimeLimit | None = None
