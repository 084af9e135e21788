"""A goal's metric, updated with the outputs of a file."""

from __future__ import annotations

import math
from typing import Any, final

import torch

from edgewright.core import ModelSpec
from edgewright.errors import UsageError
from edgewright.goals import Goal, NamedMetric, read_metric
from edgewright.runtime.engines import Arrays
from edgewright.training import update_metric


@final
class FileMetric:
    """Adapts a goal's metric to the arrays that a session returns.

    Args:
        goal: The goal.
        metric: One of its metrics.
        model: The bundle's model, which knows how its outputs are nested.
    """

    def __init__(self, goal: Goal, metric: NamedMetric, model: ModelSpec) -> None:
        self._goal, self._model = goal, model
        self._name, self._metric = metric.spec.name, metric.make()

    def update(self, outputs: Arrays, targets: Any, /) -> None:
        """Add a batch: all outputs of the file, and the task's targets."""
        nested = nest_outputs(self._model, outputs)
        update_metric(self._goal, self._metric, nested, targets)

    def compute(self) -> float:
        """The value over all batches.

        Raises:
            UsageError: It is not finite, so that neither reports nor budgets can use it.
        """
        value = read_metric(self._name, self._metric)
        if not math.isfinite(value):
            raise UsageError(f"the metric {self._name!r} of the exported file is {value}; expected "
                             "a finite number: check the metric, and the targets of the test split")
        return value


def nest_outputs(model: ModelSpec, outputs: Arrays) -> Any:
    """A file's outputs as tensors, nested as the captured model returned them."""
    return model.nest([torch.from_numpy(output) for output in outputs])
