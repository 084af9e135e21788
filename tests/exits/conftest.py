"""The small trained network with two early exits."""

from __future__ import annotations

import pytest

from edgewright.exits import EarlyExits, add_exits
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import Training


@pytest.fixture(scope="session")
def staged(trained_program: Program, quadrant_task: Task) -> Program:
    return add_exits(trained_program, quadrant_task, EarlyExits(places=2, training=Training(
        epochs=4, batch_size=32, lr=0.05, augment=False)))
