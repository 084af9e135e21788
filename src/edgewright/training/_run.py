"""All that makes a training run what it is."""

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
    """What is trained, on what, how, and toward what; see `train`.

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
