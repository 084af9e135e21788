"""Run the segments of an operating point; each sample stops at the first exit that accepts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import OperatingPoint
from edgewright.runtime.early_exit._policies import Streaks, confidence, exit_scores
from edgewright.runtime.engines import Arrays

RunSegment = Callable[[int, Arrays], Arrays]
HasTime = Callable[[int, int], bool]


@final
@dataclass(eq=False, slots=True)
class ExitResult:
    """The outputs of a batch and where each sample left; lists, which are fastest to count.

    Attributes:
        outputs: The model's outputs, (N, ...) each.
        exits: Step of the path after which each sample left.
        cut_short: Whether it left because of the deadline.
        first_confidence: Top softmax probability of each sample at the first exit; empty without
            exits.
    """

    outputs: Arrays
    exits: list[int]
    cut_short: list[bool]
    first_confidence: list[float]


def run_with_exits(point: OperatingPoint, takes_inputs: frozenset[int], inputs: Arrays,
                   run: RunSegment, has_time: HasTime) -> ExitResult:
    """Run a point's segments in order, each on the samples that no previous exit accepted.

    Features are passed on without a copy unless some samples of the batch leave.

    Args:
        point: Operating point with at least one early exit.
        takes_inputs: Segments that take the model's inputs instead of features.
        inputs: The model's inputs, (N, ...) each.
        run: Runs a segment, given its number.
        has_time: Whether the deadline allows a segment to run on so many samples; not asked for the
            first segment.
    """
    samples = len(inputs[0])
    exits = np.full(samples, len(point.rules), dtype=np.int64)
    cut_short = np.zeros(samples, dtype=np.bool_)
    left: list[tuple[NDArray[np.intp], NDArray[Any]]] = []
    staying, current, streaks = np.arange(samples), inputs, None
    first: list[float] | None = None
    for step, rule in enumerate(point.rules):
        outputs = run(point.path[step], current)
        logits, features = outputs[0], outputs[-1]
        streaks = Streaks.begin(logits) if streaks is None else streaks.then(logits)
        scores = exit_scores(point.policy, rule, logits, streaks)
        if first is None:
            first = (scores if point.policy == "confidence"
                     else confidence(logits, rule.temperature)).tolist()
        leaves = (np.zeros(len(scores), dtype=np.bool_) if rule.threshold is None
                  else scores >= rule.threshold)
        after = point.path[step + 1]
        if not (leaves.all() or has_time(after, int(np.count_nonzero(~leaves)))):
            cut_short[staying[~leaves]] = True
            leaves = np.ones_like(leaves)
        if leaves.any():
            left.append((staying[leaves], logits[leaves]))
            exits[staying[leaves]] = step
            staying, streaks, features = staying[~leaves], streaks.of(~leaves), features[~leaves]
            if not staying.size:
                break
        current = _rows(inputs, staying) if after in takes_inputs else (features,)
    if staying.size:
        left.append((staying, run(point.path[-1], current)[0]))
    return ExitResult((_merge(left, samples),), exits.tolist(), cut_short.tolist(), first or [])


def run_without_exits(point: OperatingPoint, inputs: Arrays, run: RunSegment,
                      samples: int) -> ExitResult:
    """Run a point that has a single segment and so no early exits.

    Args:
        point: Operating point whose path is one segment.
        inputs: The model's inputs, of any shapes.
        run: Runs a segment, given its number.
        samples: Number of samples in the inputs.
    """
    return ExitResult(run(point.path[0], inputs), [0] * samples, [False] * samples, [])


def _rows(inputs: Arrays, rows: NDArray[np.intp]) -> Arrays:
    """The inputs of some samples; without a copy if these are all samples."""
    if len(rows) == len(inputs[0]):
        return inputs
    return tuple(array[rows] for array in inputs)


def _merge(left: list[tuple[NDArray[np.intp], NDArray[Any]]], samples: int) -> NDArray[Any]:
    if len(left) == 1:
        return left[0][1]   # all left at the same exit, still in order
    logits = left[0][1]
    merged = np.empty((samples, *logits.shape[1:]), dtype=logits.dtype)
    for rows, values in left:
        merged[rows] = values
    return merged
