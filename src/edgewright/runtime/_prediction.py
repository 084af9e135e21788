"""The result of one call of a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.runtime.engines import Arrays


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result of one call of a session.

    Attributes:
        outputs: The model's outputs, in order, each of shape (N, ...).
        exit: Step of the operating point's path after which each sample left, shape (N,).
        latency_ms: Wall time of the whole call, in milliseconds.
        point: Name of the operating point.
        cut_short: Whether a sample left early because of the deadline, with the best answer so
            far, shape (N,).
        computed: Of a model that chooses its path, on how many samples each segment ran, by segment
            number; empty for any other model.

    Example:
        >>> logits = np.zeros((1, 10), dtype=np.float32)
        >>> Prediction((logits,), np.zeros(1, dtype=np.int64), 0.2, "default",
        ...            np.zeros(1, dtype=np.bool_)).output.shape
        (1, 10)
    """

    outputs: Arrays
    exit: NDArray[np.int64]
    latency_ms: float
    point: str
    cut_short: NDArray[np.bool_]
    computed: tuple[int, ...] = ()

    @property
    def output(self) -> NDArray[Any]:
        """The first output; most models have only one."""
        return self.outputs[0]
