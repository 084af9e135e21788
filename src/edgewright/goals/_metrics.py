"""Metrics of a goal, in the shape of torchmetrics' ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from edgewright.core import MetricSpec
from edgewright.errors import DataError, EdgewrightError, MissingExtraError, UsageError


@runtime_checkable
class Metric(Protocol):
    """A metric that collects batches; every metric of torchmetrics is one.

    Example:
        >>> isinstance(Accuracy(), Metric)
        True
    """

    def update(self, predictions: Any, targets: Any, /) -> Any:
        """Add a batch: what the model returns for it, and the goal's targets."""
        ...

    def compute(self) -> Any:
        """The value over all batches, a number or a tensor with one element."""
        ...

    def reset(self) -> Any:
        """Forget all batches."""
        ...


@final
@dataclass(frozen=True)
class NamedMetric:
    """A metric with its name, unit and direction.

    Attributes:
        spec: Name, unit and direction.
        make: Makes a new metric without batches.
    """

    spec: MetricSpec
    make: Callable[[], Metric]


@final
class Accuracy:
    """Share of positions whose target is the top class.

    It is the metric of the most common goal, and needs no library to be loaded.

    Args:
        axis: Dimension of the classes.
        ignore_index: Target of positions that are not counted; None counts all.

    Example:
        >>> metric = Accuracy()
        >>> metric.update(torch.eye(4)[:, :3], torch.tensor([0, 1, 2, 1]))
        >>> metric.compute()
        0.75
    """

    def __init__(self, axis: int = 1, ignore_index: int | None = None) -> None:
        self._axis, self._ignored = axis, ignore_index
        self._correct = self._total = 0

    def update(self, predictions: Tensor, targets: Tensor, /) -> None:
        """Add a batch of logits (N, classes, ...) and class indices (N, ...)."""
        hits = predictions.argmax(self._axis) == targets
        counted = torch.ones_like(hits) if self._ignored is None else targets != self._ignored
        self._correct += int((hits & counted).sum())
        self._total += int(counted.sum())

    def compute(self) -> float:
        """The share; NaN without positions."""
        return self._correct / self._total if self._total else float("nan")

    def reset(self) -> None:
        """Forget all batches."""
        self._correct = self._total = 0


def torchmetric(name: str, **settings: Any) -> Metric:
    """Make a metric of torchmetrics, which is loaded only here because that takes seconds.

    Args:
        name: Path of the class inside the package, such as ``regression.MeanAbsoluteError``.
        settings: Its arguments.

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    module, _, kind = name.rpartition(".")
    try:
        found = import_module(f"torchmetrics.{module}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the metric {kind}", "compress") from error
    metric: Metric = getattr(found, kind)(**settings)
    return metric


@final
class Auroc:
    """Area under the ROC curve of scores of any size, which are higher for the positive samples.

    torchmetrics takes probabilities, and applies a sigmoid to each batch that has other values; the
    scores are mapped to 0..1 here, so that all batches are treated alike and order is kept.
    """

    def __init__(self) -> None:
        self._metric = torchmetric("classification.BinaryAUROC")
        self._found: set[int] = set()

    def update(self, predictions: Tensor, targets: Tensor, /) -> None:
        """Add a batch of scores (N,) and integers, 0 or 1, (N,)."""
        scores = predictions.double()  # float32 would make ties of large scores
        self._metric.update(0.5 + 0.5 * scores / (1 + scores.abs()), targets)
        self._found.update(set(targets.tolist()))

    def compute(self) -> Any:
        """The area.

        Raises:
            DataError: All samples have the same target, for which torchmetrics returns 0.
        """
        if len(self._found) == 1:
            only = next(iter(self._found))
            raise DataError("the area under the ROC curve (auroc) compares samples with target 0 "
                            f"and 1, but all have target {only}; give val and test splits with "
                            "both")
        return self._metric.compute()

    def reset(self) -> None:
        """Forget all batches."""
        self._metric.reset()
        self._found = set()


def name_metrics(metrics: Iterable[tuple[str, Any]], units: dict[str, str]) -> list[NamedMetric]:
    """Name a user's metrics and find their directions.

    Args:
        metrics: Name and metric; a metric of torchmetrics knows its direction.
        units: Unit of each metric that has one, by name.

    Raises:
        UsageError: One is not a metric, or does not say whether higher is better.
    """
    found = []
    for name, metric in metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise UsageError(f"the metric {name!r} is {metric!r}; expected an object with update, "
                             "compute and reset, such as torchmetrics.MeanAbsoluteError()")
        higher_is_better = getattr(metric, "higher_is_better", None)
        if not isinstance(higher_is_better, bool):
            raise UsageError(f"the metric {name!r} does not say whether a higher value is better; "
                             "set its attribute higher_is_better to True or False")
        spec = MetricSpec(name=name, unit=units.get(name, ""), higher_is_better=higher_is_better)
        found.append(NamedMetric(spec, _Renewed(metric)))
    if not found:
        raise UsageError("a goal needs at least one metric; its first one is what budgets and "
                         "epochs are compared by")
    return found


def read_metric(name: str, metric: Metric) -> float:
    """A metric's value as a number.

    Raises:
        UsageError: It raises, or returns anything but one number.
    """
    try:
        value = metric.compute()
    except EdgewrightError:
        raise
    except Exception as error:
        raise UsageError(f"the metric {name!r} cannot be computed: {type(error).__name__}: {error}"
                         ) from error
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"the metric {name!r} returned {value!r}; expected one number") from error


@final
@dataclass(frozen=True)
class _Renewed:
    """Makes a fresh copy of a user's metric."""

    metric: Any

    def __call__(self) -> Metric:
        twin: Metric = copy.deepcopy(self.metric)
        twin.reset()
        return twin
