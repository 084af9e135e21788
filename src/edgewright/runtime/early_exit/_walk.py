"""Through the segments of an operating point, each sample as far as it has to go."""

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
class Walked:
    """Where every sample left, and with what; in plain numbers, which are counted fastest.

    Attributes:
        outputs: Of the model, (N, ...) each.
        exits: Step of the path after which each sample left.
        cut_short: Whether it left because time was up.
        first: Top softmax probability of each sample at the first exit; none without exits.
    """

    outputs: Arrays
    exits: list[int]
    cut_short: list[bool]
    first: list[float]


def walk(point: OperatingPoint, takes_inputs: frozenset[int], inputs: Arrays, run: RunSegment,
         has_time: HasTime) -> Walked:
    """Run a point's segments in order, each on the samples that no exit before was sure of.

    Features go from one segment to the next as they are; only where some samples of a batch leave
    are the others gathered.

    Args:
        point: Has the path, and the rules that samples leave by: one at least.
        takes_inputs: Segments that take the model's inputs in place of features.
        inputs: Of the model, (N, ...) each.
        run: Runs a segment, given its number.
        has_time: Whether a segment may still be run on so many samples; the first always is.
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
        leaves = scores >= rule.threshold
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
    return Walked((_merge(left, samples),), exits.tolist(), cut_short.tolist(), first or [])


def walk_whole(point: OperatingPoint, inputs: Arrays, run: RunSegment, samples: int) -> Walked:
    """The walk of a point of one segment: nobody can leave it early.

    Args:
        point: Of a path of one segment.
        inputs: Of the model, of any shapes.
        run: Runs a segment, given its number.
        samples: In the inputs.
    """
    return Walked(run(point.path[0], inputs), [0] * samples, [False] * samples, [])


def _rows(inputs: Arrays, rows: NDArray[np.intp]) -> Arrays:
    """The inputs of some samples; the very arrays where these are all."""
    if len(rows) == len(inputs[0]):
        return inputs
    return tuple(array[rows] for array in inputs)


def _merge(left: list[tuple[NDArray[np.intp], NDArray[Any]]], samples: int) -> NDArray[Any]:
    if len(left) == 1:
        return left[0][1]   # all left together, in their order
    logits = left[0][1]
    merged = np.empty((samples, *logits.shape[1:]), dtype=logits.dtype)
    for rows, values in left:
        merged[rows] = values
    return merged
