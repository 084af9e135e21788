from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

import edgewright as ew
from edgewright.exits import ExitCalibration
from edgewright.pipeline import Recipe, Result
from edgewright.task import Task
from edgewright.training import Training

SHORT = Training(epochs=2, batch_size=32, lr=0.02, augment=False)


@pytest.fixture(scope="session")
def whole_recipe() -> Recipe:
    """Every stage, briefly."""
    return Recipe(name="short", prune=ew.ChannelPruning(ratio=0.4), recover=SHORT,
                  exits=ew.EarlyExits(places=1, training=SHORT, keep="if_taken",
                                      calibration=ExitCalibration(max_drop=0.05)),
                  quantize=ew.Quantization(method=ew.QAT(training=SHORT), calibration_samples=64))


@pytest.fixture(scope="session")
def run_whole(trained_net: nn.Module, quadrant_task: Task,
              whole_recipe: Recipe) -> Callable[[Path], Result]:
    def run(out: Path) -> Result:
        return ew.compress(trained_net, quadrant_task, ew.Budget(size="90 %", max_drop="20 %"),
                           whole_recipe, out, quiet=True)
    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory,
             run_whole: Callable[[Path], Result]) -> Result:
    return run_whole(tmp_path_factory.mktemp("finished") / "run")
