"""Metrics, costs and latency of a file, measured on its runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from edgewright.core import (
    CurvePoint,
    ExitProfile,
    Figures,
    Measurement,
    ModelSpec,
    OperatingPoint,
)
from edgewright.exits import (
    AcceptRules,
    CalibratedPoint,
    ExitCalibration,
    ExitPredictions,
    calibrate_exits,
    calibrate_scores,
    compute_exit_curve,
    predict_exits,
)
from edgewright.goals import Goal
from edgewright.measure import ENERGY_MODEL, Latency, compare_latency, pin_to_core
from edgewright.pipeline._file_metric import FileMetric, nest_outputs
from edgewright.runtime import Session, evaluate
from edgewright.task import Split, Task

_BATCH: Final = 256
_ROUNDS: Final = 40
_RUNS_IN_A_ROW: Final = 10
_QUIETEST: Final = 0.5
_WARMUP: Final = 20
TIMED_RUNS: Final = _WARMUP + _ROUNDS * (1 + _RUNS_IN_A_ROW)  # of each session, in all
_LATENCY_SAMPLES: Final = 200
COUNTED: Final = "counted on the graph"

Inputs = tuple[NDArray[Any], ...]


def numpy_batches(split: Split, batch_size: int = _BATCH) -> Iterator[tuple[Inputs, Any]]:
    """A split's inputs as NumPy arrays, and its targets as they are."""
    for batch in split.batches(batch_size):
        leaves = pytree.tree_leaves(batch.inputs)
        yield tuple(leaf.numpy() for leaf in leaves), batch.targets


def batch_size_of(model: ModelSpec) -> int:
    """The number of samples that figures are measured on at once.

    A model that decides once per call is measured sample by sample, as it runs on a device; a
    batch would take the branch that suits all of its samples together.
    """
    return 1 if model.decides_per_call else _BATCH


def choose_operating_points(session: Session, task: Task, config: ExitCalibration, seed: int,
                            accept: AcceptRules | None = None) -> tuple[CalibratedPoint, ...]:
    """Choose a session's operating points from the file's outputs on the validation split."""
    split, goal = task.val, task.goal
    macs = [session.model.segments[number].macs for number in session.points[0].path]
    if goal.scores_on_device:
        logits, targets = run_every_exit(session, split)
        return calibrate_exits(logits, targets, macs, config, split=split.name, seed=seed,
                               accept=accept)
    return calibrate_scores(score_every_exit(session, split, goal), macs, config,
                            split=split.name, seed=seed, accept=accept)


def run_every_exit(session: Session, split: Split) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """Logits of every exit of a file on a split, (N, classes) each, and the targets, (N,)."""
    parts: list[list[NDArray[Any]]] = []
    targets = []
    for inputs, labels in numpy_batches(split):
        parts.append([found.outputs[0] for found in session.run_all_exits(*inputs)])
        targets.append(labels.numpy())
    return _concatenate(parts), np.concatenate(targets)


def score_every_exit(session: Session, split: Split, goal: Goal) -> ExitPredictions:
    """Scores and quality of every exit of a file that computes its scores, on a split.

    The outputs, which may be large, are kept for one batch only.
    """
    scores: list[list[NDArray[Any]]] = []
    quality: list[list[NDArray[Any]]] = []
    for inputs, targets in numpy_batches(split):
        found = session.run_all_exits(*inputs)
        nested = [nest_outputs(session.model, one.outputs) for one in found]
        scores.append([one.scores for one in found[:-1] if one.scores is not None])
        quality.append([goal.exit_quality(outputs, nested[-1], targets).numpy()
                        for outputs in nested])
    found_scores, found_quality = (np.stack(_concatenate(parts)).astype(np.float64)
                                   for parts in (scores, quality))
    return ExitPredictions(found_scores, found_quality, goal.exit_measure)


def measure_exit_curve(split: Split, goal: Goal, point: OperatingPoint,
                       steps: Sequence[tuple[float | None, ...]],
                       session: Session) -> tuple[CurvePoint, ...]:
    """Mean MACs and quality of a point on a split, for each threshold vector.

    The session's default point must have the same path.
    """
    predictions = (
        predict_exits(*run_every_exit(session, split), point.rules, point.policy)
        if goal.scores_on_device else score_every_exit(session, split, goal))
    return compute_exit_curve(predictions, steps,
                              [session.model.segments[number].macs for number in point.path])


def evaluate_operating_point(session: Session, split: Split,
                             goal: Goal) -> tuple[Figures, ExitProfile]:
    """Evaluate a session's point on a split: metrics, costs, energy, and shares of the exits."""
    metrics = {metric.spec.name: FileMetric(goal, metric, session.model)
               for metric in goal.metrics}
    found = evaluate(session, numpy_batches(split, batch_size_of(session.model)), metrics)
    name = session.point or session.points[0].name
    path = next(point.path for point in session.points if point.name == name)
    figures = Figures.of(
        *(Measurement.of(metric.spec, found.metrics[metric.spec.name], split=split.name,
                         runtime=session.runtime, samples=found.samples)
          for metric in goal.metrics),
        _modelled_measurement("macs", found.macs, split, found.samples),
        Measurement(name="energy_mj", value=found.energy_mj, kind="modelled", split=split.name,
                    runtime=ENERGY_MODEL, samples=found.samples),
        Measurement(name="ram_bytes", kind="modelled", runtime="activations in graph order",
                    value=max(segment.ram_bytes for number, segment
                              in enumerate(session.model.segments)
                              if number in path or session.model.is_routed)),
    )
    return figures, ExitProfile(split=split.name, samples=found.samples,
                                shares=tuple(found.exit_shares[number] for number in path))


def time_sessions(sessions: dict[str, Session], split: Split) -> dict[str, tuple[Measurement, ...]]:
    """Median and mean latency of sessions at batch size 1 on one thread, measured in turn.

    All run the same samples on one pinned core, ten in a row and interleaved, so that their ratio
    is robust to changes of the machine's speed; the quieter half of the rounds counts.
    """
    count = min(_LATENCY_SAMPLES, len(split))
    samples = [inputs for inputs, _ in numpy_batches(split.sample(count), batch_size=1)]

    def run(session: Session) -> Any:
        return lambda index: session(*samples[index % count])

    with pin_to_core() as core:
        found = compare_latency({name: run(session) for name, session in sessions.items()},
                                rounds=_ROUNDS, warmup=_WARMUP, in_a_row=_RUNS_IN_A_ROW,
                                quietest=_QUIETEST)
    return {name: _latency_measurements(latency, sessions[name], core)
            for name, latency in found.items()}


def _concatenate(parts: list[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    """One array per exit, from one list of exits per batch."""
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _modelled_measurement(name: Any, value: float, split: Split, samples: int) -> Measurement:
    return Measurement(name=name, value=value, kind="modelled", split=split.name,
                       runtime=COUNTED, samples=samples)


def _latency_measurements(latency: Latency, session: Session,
                          core: int | None) -> tuple[Measurement, ...]:
    where = "" if core is None else " on one core"
    shared = {"kind": "measured", "samples": latency.runs,
              "runtime": f"{session.runtime}, test samples one by one, 1 thread{where}"}
    return (Measurement(name="latency_ms", value=latency.median_ms, low=latency.low_ms,
                        high=latency.high_ms, **shared),
            Measurement(name="mean_latency_ms", value=latency.mean_ms, **shared))
