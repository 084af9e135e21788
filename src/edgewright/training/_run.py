"""The definition of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import nn

from edgewright.task import Task
from edgewright.training._config import Training
from edgewright.training._objective import Objective


@final
@dataclass(frozen=True)
class Run:
    """The arguments of `train`, bundled.

    Attributes:
        exits: How many of the module's outputs are early exits.
    """

    module: nn.Module
    task: Task
    config: Training
    objective: Objective
    seed: int
    checkpoint: Path | None
    exits: int = 0
