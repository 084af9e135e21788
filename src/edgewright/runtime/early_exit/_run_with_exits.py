"""Run the segments of an operating point; each sample stops at the first exit that accepts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import OperatingPoint
from edgewright.runtime.early_exit._scorers import FileScorer, LogitScorer
from edgewright.runtime.engines import Arrays

RunSegment = Callable[[int, Arrays], Arrays]
HasTime = Callable[[int, int], bool]


class ExitOutputs(NamedTuple):
    """What one exit returns for a batch.

    Attributes:
        outputs: The model's outputs, (N, ...) each.
        scores: How sure the exit is of each sample, (N,), if the segment computes it.
    """

    outputs: Arrays
    scores: NDArray[Any] | None = None


@final
@dataclass(eq=False, slots=True)
class ExitResult:
    """The outputs of a batch and where each sample left; lists, which are fastest to count.

    Attributes:
        outputs: The model's outputs, (N, ...) each.
        exits: Step of the path after which each sample left.
        cut_short: Whether it left because of the deadline.
        first_confidence: Confidence of the first exit in each sample: the top softmax probability,
            or the score that the segment returned; empty without exits.
    """

    outputs: Arrays
    exits: list[int]
    cut_short: list[bool]
    first_confidence: list[float]


def run_with_exits(point: OperatingPoint, takes_inputs: frozenset[int], inputs: Arrays,
                   run: RunSegment, has_time: HasTime, *, scored: bool = False) -> ExitResult:
    """Run a point's segments in order, each on the samples that no previous exit accepted.

    Features are passed on without a copy unless some samples of the batch leave.

    Args:
        point: Operating point with at least one early exit.
        takes_inputs: Segments that take the model's inputs instead of features.
        inputs: The model's inputs, (N, ...) each.
        run: Runs a segment, given its number.
        has_time: Whether the deadline allows a segment to run on so many samples; not asked for the
            first segment.
        scored: Whether the segments return scores, between the exit's output and the features; else
            the outputs are logits, which the point's policy scores.
    """
    samples = len(inputs[0])
    exits = np.full(samples, len(point.rules), dtype=np.int64)
    cut_short = np.zeros(samples, dtype=np.bool_)
    left: list[tuple[NDArray[np.intp], NDArray[Any]]] = []
    staying, current = np.arange(samples), inputs
    scorer = FileScorer() if scored else LogitScorer(point.policy)
    first: list[float] = []
    for step, rule in enumerate(point.rules):
        outputs = run(point.path[step], current)
        output, features = outputs[0], outputs[-1]
        scores = scorer.score(rule, outputs)
        if step == 0:
            first = scorer.find_confidence(rule, outputs, scores).tolist()
        leaves = (np.zeros(len(scores), dtype=np.bool_) if rule.threshold is None
                  else scores >= rule.threshold)
        after = point.path[step + 1]
        if not (leaves.all() or has_time(after, int(np.count_nonzero(~leaves)))):
            cut_short[staying[~leaves]] = True
            leaves = np.ones_like(leaves)
        if leaves.any():
            left.append((staying[leaves], output[leaves]))
            exits[staying[leaves]] = step
            scorer.keep(~leaves)
            staying, features = staying[~leaves], features[~leaves]
            if not staying.size:
                break
        current = _rows(inputs, staying) if after in takes_inputs else (features,)
    if staying.size:
        left.append((staying, run(point.path[-1], current)[0]))
    return ExitResult((_merge(left, samples),), exits.tolist(), cut_short.tolist(), first)


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
    output = left[0][1]
    merged = np.empty((samples, *output.shape[1:]), dtype=output.dtype)
    for rows, values in left:
        merged[rows] = values
    return merged
