"""Give metrics that take probabilities the probabilities of logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, final

from torch import Tensor, nn

from edgewright.goals._metrics import Metric, NamedMetric

_FAMILY: Final = "torchmetrics.classification"


def give_probabilities(metrics: Iterable[NamedMetric],
                       convert: Callable[[Tensor], Tensor | None]) -> tuple[NamedMetric, ...]:
    """Update metrics of ``torchmetrics.classification`` with probabilities instead of logits.

    They take logits as well, but only by a guess: a batch whose values all lie between 0 and 1 is
    taken for probabilities, any other batch goes through a sigmoid or a softmax. With logits near 0
    the guess differs from batch to batch, and the result is wrong without a sign of it.

    Args:
        metrics: The metrics; others than those are returned as they are.
        convert: From logits to probabilities; None for numbers that are no logits.

    Example:
        >>> import torch
        >>> from torchmetrics.classification import BinaryAccuracy
        >>> from edgewright.goals import Binary
        >>> metric = Binary(metric={"accuracy": BinaryAccuracy()}).metrics[0].make()
        >>> metric.update(torch.tensor([0.3, 0.4]), torch.tensor([1, 1]))
        >>> float(metric.compute())
        1.0
    """
    return tuple(NamedMetric(metric.spec, _Converted(metric.make, convert)) for metric in metrics)


def _takes_probabilities(metric: Any) -> bool:
    """Whether a metric, or one that it is made of, is of the family or a subclass of one."""
    parts = metric.modules() if isinstance(metric, nn.Module) else (metric,)
    return any(kind.__module__.startswith(_FAMILY) for part in parts for kind in type(part).__mro__)


@final
@dataclass(frozen=True)
class _Converted:
    """Makes a metric, wrapped if it takes probabilities."""

    make: Callable[[], Metric]
    convert: Callable[[Tensor], Tensor | None]

    def __call__(self) -> Metric:
        metric = self.make()
        return _OfProbabilities(metric, self.convert) if _takes_probabilities(metric) else metric


@final
class _OfProbabilities:
    """A metric that is updated with the probabilities of the logits it is given."""

    def __init__(self, metric: Metric, convert: Callable[[Tensor], Tensor | None]) -> None:
        self._metric, self._convert = metric, convert

    def update(self, predictions: Any, targets: Any, /) -> None:
        """Add a batch; predictions that are no floating-point logits are handed on as they are."""
        is_float = isinstance(predictions, Tensor) and predictions.is_floating_point()
        found = self._convert(predictions) if is_float else None
        self._metric.update(predictions if found is None else found, targets)

    def compute(self) -> Any:
        """The metric's value."""
        return self._metric.compute()

    def reset(self) -> None:
        """Forget all batches."""
        self._metric.reset()
