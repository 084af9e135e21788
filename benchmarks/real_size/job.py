"""What describes a job: its network, its data, how it is trained, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from torch import nn

import edgewright as ew


def no_figures(*_: Any) -> dict[str, float]:
    """For jobs without a simple method to compare with, or without figures of their own."""
    return {}


@final
@dataclass(frozen=True)
class Job:
    """A job at real size.

    Attributes:
        make_model: The untrained network.
        make_task: The data in a folder, and the goal.
        training: How the network is trained.
        ratio: Share of the multiply-accumulates that the row "pruned" removes.
        capture: Keyword arguments of `Program.capture`.
        simple_figures: The primary metric of simple methods on the test split, by their names;
            called with the folder of the data and the task.
        file_figures: Further figures of a bundle; called with a session that runs it, the folder of
            the data and the task.
    """

    make_model: Callable[[], nn.Module]
    make_task: Callable[[Path], ew.Task]
    training: ew.Training
    ratio: float = 0.4
    capture: Mapping[str, Any] = field(default_factory=dict)
    simple_figures: Callable[[Path, ew.Task], dict[str, float]] = no_figures
    file_figures: Callable[[ew.Session, Path, ew.Task], dict[str, float]] = no_figures

    @property
    def epochs(self) -> int:
        """Epochs of its training."""
        if self.training.epochs is None:
            raise ValueError("a job is trained for a number of epochs, so that rows are repeatable")
        return self.training.epochs

    def recipe(self, name: str) -> ew.Recipe:
        """``int8``: calibrated; ``pruned``: pruned, recovered in half the epochs, calibrated."""
        if name == "int8":
            return ew.Recipe(name=name, quantize=ew.Quantization())
        recover = self.training.replace(epochs=max(1, self.epochs // 2),
                                        lr=self.training.lr / 2)
        return ew.Recipe(name=name, prune=ew.ChannelPruning(ratio=self.ratio, ridge=1),
                         recover=recover, quantize=ew.Quantization())
