"""Metrics and cost of a session on data with targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError
from edgewright.runtime._session import Session
from edgewright.runtime._stats import Counters
from edgewright.runtime.engines import Arrays

_WITH_CLASSES: Final = ("classification", "segmentation")  # goals with logits over axis 1


class OutputMetric(Protocol):
    """A metric of a session's outputs that collects batches."""

    def update(self, outputs: Arrays, targets: Any, /) -> None:
        """Add a batch: all outputs of the model, and its targets."""
        ...

    def compute(self) -> float:
        """The value over all batches."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Metrics and cost of a session on a split.

    Attributes:
        metrics: Value of each metric, by name.
        samples: Number of samples.
        exit_shares: Share of the samples that left after each segment, by segment number.
        macs: Mean multiply-accumulates per sample.
        energy_mj: Mean modelled energy per sample, in millijoules.
        computed: Samples that each segment ran on, by segment number.

    Example:
        >>> Evaluation(metrics={"accuracy": 0.9}, samples=10, exit_shares=(1.0,), macs=5e6,
        ...            energy_mj=0.1).metrics["accuracy"]
        0.9
    """

    metrics: Mapping[str, float]
    samples: int
    exit_shares: tuple[float, ...]
    macs: float
    energy_mj: float
    computed: tuple[int, ...] = ()


@final
class TopClassAccuracy:
    """Share of targets that are the top class of the first output.

    Example:
        >>> metric = TopClassAccuracy()
        >>> metric.update((np.eye(2, dtype=np.float32),), np.array([0, 0]))
        >>> metric.compute()
        0.5
    """

    def __init__(self) -> None:
        self._correct = self._total = 0

    def update(self, outputs: Arrays, targets: NDArray[Any], /) -> None:
        """Add a batch.

        Args:
            outputs: The first is logits (N, classes, ...).
            targets: Integers of shape (N, ...).

        Raises:
            DataError: They do not match.
        """
        hits = _top_class(outputs[0]) == _check_targets(targets, outputs[0])
        self._correct, self._total = self._correct + int(hits.sum()), self._total + hits.size

    def compute(self) -> float:
        """The share; NaN without samples."""
        return self._correct / self._total if self._total else float("nan")


def evaluate(session: Session, batches: Iterable[tuple[Arrays, Any]],
             metrics: Mapping[str, OutputMetric] | None = None) -> Evaluation:
    """Run every batch and measure metrics and costs.

    Args:
        session: The session; its `stats` include these calls.
        batches: Pairs of the model's inputs and the targets that the metrics take.
        metrics: Metrics by name; None measures the accuracy of a classifier with integer targets,
            of shape (N,), or the shape of the first output without axis 1.

    Raises:
        DataError: There are no batches, targets or inputs do not match the model, or there are no
            metrics and the model's goal has no classes.

    Example:
        >>> import onnx.parser
        >>> from pathlib import Path
        >>> from edgewright.bundle import Bundle
        >>> from edgewright.core import Manifest, ModelSpec, Segment, TensorSpec
        >>> relu = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 17]>
        ...     relu (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }''').SerializeToString()
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4,
        ...                   energy_mj=0.1, ram_bytes=8)
        >>> model = ModelSpec(name="relu", inputs=(spec,), outputs=(spec,), segments=(segment,))
        >>> manifest = Manifest.model_construct(model=model)
        >>> session = Session(Bundle(Path("relu.edge"), manifest, {segment.file: relu}))
        >>> images, labels = np.eye(2, dtype=np.float32), np.array([0, 0])
        >>> evaluate(session, [((images,), labels)]).metrics
        {'accuracy': 0.5}
    """
    counters = Counters(session.model.segments, session.points)
    numbers = {point.name: number for number, point in enumerate(session.points)}
    measured = _default_metrics(session) if metrics is None else metrics
    for inputs, targets in batches:
        prediction = session(*inputs)
        for metric in measured.values():
            metric.update(prediction.outputs, targets)
        counters.add(numbers[prediction.point], prediction.exit.tolist(), prediction.latency_ms,
                     computed=prediction.computed)
    cost = counters.stats()
    if cost.macs is None or cost.energy_mj is None:
        raise DataError("there is nothing to evaluate: no batches were given; check the split")
    return Evaluation(metrics={name: metric.compute() for name, metric in measured.items()},
                      samples=cost.samples, macs=cost.macs, exit_shares=cost.exit_shares,
                      energy_mj=cost.energy_mj, computed=cost.computed)


def _default_metrics(session: Session) -> dict[str, OutputMetric]:
    """Accuracy, if the outputs are logits of classes."""
    goal = session.model.goal
    if goal not in _WITH_CLASSES:
        raise DataError(f"the model's goal is {goal}, whose outputs have no accuracy; pass metrics")
    return {"accuracy": TopClassAccuracy()}


def _top_class(output: NDArray[Any]) -> NDArray[np.intp]:
    if output.ndim < 2 or output.shape[1] < 2 or output.dtype.kind != "f":
        raise DataError(f"the first output is {output.dtype} of shape {output.shape}, expected "
                        "floating point (N, classes, ...) with two classes or more; accuracy "
                        "needs a classifier's logits")
    top: NDArray[np.intp] = output.argmax(axis=1)
    return top


def _check_targets(targets: NDArray[Any], output: NDArray[Any]) -> NDArray[Any]:
    targets = np.asarray(targets)
    expected = output.shape[:1] + output.shape[2:]
    if targets.shape != expected or targets.dtype.kind not in "iu":
        raise DataError(f"targets are {targets.dtype} of shape {targets.shape}, expected integers "
                        f"of shape {expected}; give one class index per sample")
    if targets.min() < 0 or targets.max() >= output.shape[1]:
        raise DataError(f"targets are from {targets.min()} to {targets.max()}, expected 0 to "
                        f"{output.shape[1] - 1} for an output of {output.shape[1]} classes")
    return targets
