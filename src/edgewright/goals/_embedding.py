"""The goal of embeddings: samples of one class lie close to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.core import DecodeStep, MetricSpec, UnitVector
from edgewright.errors import UsageError
from edgewright.goals._goal import SinglePrediction
from edgewright.goals._kinds import Direction, PredictionKind
from edgewright.goals._metrics import Metric, NamedMetric
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import check_prediction
from edgewright.goals._targets import as_indices, check_indices

_QUERIES: Final = 256  # at a time


@final
@dataclass(frozen=True)
class Embedding(SinglePrediction):
    """Vectors whose directions are close for samples of one class: faces, products, speakers.

    The model returns (N, dimensions), the targets are class indices (N,), which may differ between
    the splits. The metric is recall at 1: the share of samples whose nearest other sample of the
    split, by cosine, has the same class.

    The loss is the supervised contrastive loss (Khosla et al. 2020, eq. 2), the mean over the
    anchors that have another sample of their class in the batch. Distillation needs no pairs of
    samples; prefer it if classes have few samples.

    Args:
        temperature: Temperature of the loss.
        cosine: Smallest cosine at which the file's and the program's vectors count as equal.
        output: Name or position of the vector, if the model has several outputs.
        metric: Other metrics by name, the primary one first.
        unit: Their unit; ``fraction`` is shown as a percentage.

    Example:
        >>> goal = Embedding()
        >>> vectors, classes = torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 1])
        >>> float(goal.loss(vectors, classes)) < float(goal.loss(vectors, classes.sort().values))
        True
    """

    temperature: float = 0.1
    cosine: float = 0.99
    output: str | int | None = None
    metric: Mapping[str, Metric] | None = None
    unit: str = ""
    name: ClassVar[str] = "embedding"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"temperature must be above 0, got {self.temperature}")

    @property
    def kind(self) -> PredictionKind:
        """A direction."""
        return Direction(self.cosine)

    @property
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        """Recall at 1."""
        return (NamedMetric(MetricSpec(name="recall_at_1", unit="fraction"), RecallAtOne),)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The supervised contrastive loss; 0 if no class occurs twice."""
        vectors = F.normalize(self.select(outputs))
        itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
        likeness = (vectors @ vectors.T / self.temperature).masked_fill(itself, -torch.inf)
        log_share = F.log_softmax(likeness, dim=1).masked_fill(itself, 0)
        partners = (targets[:, None] == targets) & ~itself
        counts = partners.sum(dim=1)
        per_anchor = -(log_share * partners).sum(dim=1) / counts.clamp_min(1)
        loss: Tensor = per_anchor.sum() / (counts > 0).sum().clamp_min(1)
        return loss

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        """The vector divided by its length."""
        return tuple(UnitVector(output=found.name) for found in self.predictions(outputs))

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Tensor:
        """Class indices (N,), int64."""
        del outputs
        indices = as_indices(targets, origin, 1, "the index of each sample's class")
        check_indices(indices, None, origin)
        return indices

    def allows_augmentation(self, targets: Any) -> bool:
        """True: a class does not depend on the position."""
        del targets
        return True

    def check_outputs(self, outputs: Any, inputs: tuple[Tensor, ...]) -> None:
        """Check that the prediction is (N, dimensions)."""
        for prediction in self.predictions(outputs):
            check_prediction(prediction, len(inputs[0]), "floating-point vectors (N, dimensions) "
                             "with at least two dimensions",
                             lambda sizes: len(sizes) == 1 and sizes[0] > 1)


@final
class RecallAtOne:
    """Share of samples whose nearest other sample, by cosine, has the same class.

    Example:
        >>> metric = RecallAtOne()
        >>> metric.update(torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 1]))
        >>> metric.compute()
        1.0
    """

    def __init__(self) -> None:
        self._vectors: list[Tensor] = []
        self._classes: list[Tensor] = []

    def update(self, predictions: Tensor, targets: Tensor, /) -> None:
        """Add a batch of vectors (N, dimensions) and class indices (N,)."""
        self._vectors.append(F.normalize(predictions.float()))
        self._classes.append(targets)

    def compute(self) -> float:
        """The share; NaN with fewer than two samples."""
        if sum(map(len, self._vectors)) < 2:
            return float("nan")
        vectors, classes = torch.cat(self._vectors), torch.cat(self._classes)
        hits = 0
        for rows in torch.split(torch.arange(len(vectors)), _QUERIES):
            likeness = vectors[rows] @ vectors.T
            likeness[torch.arange(len(rows)), rows] = -torch.inf
            hits += int((classes[likeness.argmax(dim=1)] == classes[rows]).sum())
        return hits / len(vectors)

    def reset(self) -> None:
        """Forget all batches."""
        self._vectors, self._classes = [], []
