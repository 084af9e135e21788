"""The goal of detectors: boxes around objects, with a class each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.core import Boxes, DecodeStep, MetricSpec, SelectedBoxes, select_boxes
from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals._detection_loss import (
    TaskAlignment,
    assign_boxes,
    box_distances,
    complete_iou,
    distribution_focal_loss,
    find_centers,
)
from edgewright.goals._detection_metric import BoxPrecision, share_of_equal_boxes
from edgewright.goals._detection_targets import CheckedBoxes, check_boxes, pad_boxes
from edgewright.goals._goal import Agreement, Goal
from edgewright.goals._kinds import Bernoulli, Values
from edgewright.goals._metrics import Metric, NamedMetric, name_metrics
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import Prediction, check_prediction, named_outputs, select_output

_LEAST_SCORE: Final = 0.01  # of a metric's boxes: the precision is over all thresholds


@final
@dataclass(frozen=True)
class Detection(Goal):
    """Boxes around objects, with one of several classes each, by an anchor-free detector.

    The model returns a dict with

    - "boxes" (N, candidates, 4): left, top, right, bottom in pixels of the input;
    - "scores" (N, candidates, classes): logits of independent classes;
    - "distances" (N, candidates, 4 * bins), optional: logits over the distances 0, 1, ..., bins - 1
      from a cell's center to the four edges, in cells. Only the loss uses them (Li et al. 2020);
      they are dropped at export.

    A candidate is a cell of a feature map; the maps follow each other in the order of ``strides``,
    their cells row by row. The target of each sample is a dict {"boxes": (M, 4), "labels": (M,)},
    in pixels of the input, as torchvision's detectors take it; M may be 0.

    The loss is that of YOLOv8: task-aligned assignment (TOOD, Feng et al. 2021, eq. 4), binary
    cross-entropy with the scaled alignment as target (eq. 5, without its focal factor), 1 - CIoU
    (Zheng et al. 2020) and distribution focal loss (Li et al. 2020), each divided by the sum of the
    target scores. The metrics are the mean average precision at an overlap of 0.5 and over overlaps
    of 0.5 to 0.95, as COCO defines them, of the boxes that non-maximum suppression leaves.

    File and program agree as far as their selected boxes match in class and overlap.

    Args:
        strides: Pixels per cell of each feature map.
        score_threshold: Least probability of a box on the device and in comparisons.
        iou_threshold: Largest overlap of two boxes of one class.
        max_boxes: Most boxes per sample.
        agreement_iou: Overlap from which boxes of file and program count as equal.
        box_weight: Weight of the CIoU in the loss.
        score_weight: Weight of the cross-entropy.
        distance_weight: Weight of the distribution focal loss.
        candidates: Most candidates that are assigned to a box (13 in TOOD).
        score_power: Exponent of the score in the assignment (1 in TOOD).
        overlap_power: Exponent of the overlap.
        metric: Other metrics by name, the primary one first, called with lists of
            {"boxes", "scores", "labels"} and {"boxes", "labels"}, as torchmetrics' detection does.
        unit: Their unit; ``fraction`` is shown as a percentage.

    Raises:
        UsageError: A setting is out of its range.

    Example:
        >>> goal = Detection(strides=(8,))
        >>> targets = [{"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([1])}]
        >>> checked = goal.check_targets(targets, Origin("train", torch.tensor([0])))
        >>> image = torch.zeros(1, 3, 16, 16)
        >>> outputs = {"boxes": torch.rand(1, 4, 4), "scores": torch.zeros(1, 4, 2)}
        >>> goal.loss(outputs, goal.make_targets((image,), checked)).ndim
        0
        >>> [found.spec.name for found in goal.metrics]
        ['map50', 'map']
    """

    strides: tuple[int, ...] = (8, 16, 32)
    score_threshold: float = 0.25
    iou_threshold: float = 0.5
    max_boxes: int = 100
    agreement_iou: float = 0.5
    box_weight: float = 7.5
    score_weight: float = 0.5
    distance_weight: float = 1.5
    candidates: int = 10
    score_power: float = 0.5
    overlap_power: float = 6.0
    metric: Mapping[str, Metric] | None = None
    unit: str = ""
    name: ClassVar[str] = "detection"

    def __post_init__(self) -> None:
        if not self.strides or not all(stride >= 1 for stride in self.strides):
            raise UsageError(f"strides must be at least 1, one for each feature map, got "
                             f"{self.strides}")
        for name in ("score_threshold", "iou_threshold", "agreement_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("max_boxes", "candidates"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("box_weight", "score_weight", "distance_weight", "score_power",
                     "overlap_power"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def metrics(self) -> tuple[NamedMetric, ...]:
        """Mean average precision at an overlap of 0.5, and over overlaps, or the user's metrics."""
        if self.metric is not None:
            return tuple(name_metrics(self.metric.items(), dict.fromkeys(self.metric, self.unit)))
        return (NamedMetric(MetricSpec(name="map50", unit="fraction"),
                            lambda: BoxPrecision([0.5], self.max_boxes)),
                NamedMetric(MetricSpec(name="map", unit="fraction"),
                            lambda: BoxPrecision(max_boxes=self.max_boxes)))

    @property
    def exit_obstacle(self) -> str:
        """That the confidence of boxes is no confidence in an image."""
        return "the scores of boxes do not tell whether an object was missed"

    def predictions(self, outputs: Any) -> tuple[Prediction, ...]:
        """Boxes and scores; boxes count in cells of the coarsest feature map, not in pixels."""
        boxes, scores = (self._select(outputs, name) for name in ("boxes", "scores"))
        return (Prediction("boxes", boxes, Values(scale=max(self.strides))),
                Prediction("scores", scores, Bernoulli()))

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The weighted sum of the losses of scores, boxes and distances."""
        boxes, scores = (found.tensor.float() for found in self.predictions(outputs))
        centers, strides = self._find_cells(targets, boxes.device)
        goals = assign_boxes(boxes, scores, centers, targets, TaskAlignment(
            self.candidates, self.score_power, self.overlap_power))
        total = goals.weights.sum().clamp_min(1)
        score_loss = F.binary_cross_entropy_with_logits(scores, goals.scores, reduction="sum")
        chosen = goals.weights > 0
        weights = goals.weights[chosen]
        misses = 1 - complete_iou(boxes[chosen], goals.boxes[chosen])
        loss = self.score_weight * score_loss + self.box_weight * (misses * weights).sum()
        if "distances" in named_outputs(outputs):
            distances = self._select(outputs, "distances").float()[chosen]
            cells = (box_distances(goals.boxes, centers) / strides[:, None])[chosen]
            focal = distribution_focal_loss(
                distances.reshape(*cells.shape, distances.shape[1] // 4), cells).mean(dim=1)
            loss = loss + self.distance_weight * (focal * weights).sum()
        return loss / total

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> CheckedBoxes:
        """The boxes of each sample, float32, and their labels, int64."""
        return check_boxes(targets, origin, None if outputs is None else
                           self.count_classes(outputs))

    def make_targets(self, inputs: tuple[Tensor, ...], targets: Any) -> dict[str, Tensor]:
        """Boxes and labels in tensors of one size, and the size of the images.

        Raises:
            DataError: The first input is no image, or a box reaches out of it.
        """
        if inputs[0].ndim != 4:
            raise DataError("the goal detection needs images (N, C, H, W) as the first input, but "
                            f"it has shape {tuple(inputs[0].shape)}")
        return pad_boxes(targets, inputs[0].shape[2], inputs[0].shape[3])

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        """The selected boxes of each sample, and the target boxes, in lists of dicts."""
        found = [{name: torch.from_numpy(values) for name, values in selected._asdict().items()}
                 for selected in self._select_boxes(outputs, _LEAST_SCORE)]
        wanted = [{"boxes": boxes[labels >= 0], "labels": labels[labels >= 0]}
                  for boxes, labels in zip(targets["boxes"], targets["labels"], strict=True)]
        return found, wanted

    def agree(self, first: Any, second: Any,
              scales: Sequence[float] = ()) -> tuple[Agreement, ...]:
        """Share of the union of both models' selected boxes that match, for boxes and scores.

        A box matches one of the same class that overlaps it by ``agreement_iou`` or more.
        """
        del scales
        pairs = zip(self._select_boxes(first, self.score_threshold),
                    self._select_boxes(second, self.score_threshold), strict=True)
        shares = torch.tensor([share_of_equal_boxes(one, other, self.agreement_iou)
                               for one, other in pairs])
        words = f"same boxes (class, and IoU of at least {self.agreement_iou:g})"
        return tuple(Agreement(words, shares) for _ in ("boxes", "scores"))

    def check_outputs(self, outputs: Any, inputs: tuple[Tensor, ...]) -> None:
        """Check the sizes of boxes, scores and distances, and that the strides explain them."""
        samples, (height, width) = len(inputs[0]), inputs[0].shape[2:]
        boxes, scores = self.predictions(outputs)
        check_prediction(boxes, samples, "floating point (N, candidates, 4)",
                         lambda sizes: len(sizes) == 2 and sizes[1] == 4)
        cells = sum(math.ceil(height / stride) * math.ceil(width / stride)
                    for stride in self.strides)
        if boxes.tensor.shape[1] != cells:
            raise ModelError(f"the model has {boxes.tensor.shape[1]} candidates for an image of "
                             f"{width} x {height} pixels, but feature maps with the strides "
                             f"{', '.join(map(str, self.strides))} have {cells} cells; set strides "
                             "to the model's: goal=Detection(strides=...)")
        check_prediction(scores, samples, f"floating-point logits (N, {cells}, classes)",
                         lambda sizes: len(sizes) == 2 and sizes[0] == cells and sizes[1] > 0)
        if "distances" in named_outputs(outputs):
            distances = Prediction("distances", self._select(outputs, "distances"), Values())
            check_prediction(distances, samples, f"floating-point logits (N, {cells}, 4 * bins) "
                             "with at least two bins", lambda sizes: len(sizes) == 2
                             and sizes[0] == cells and sizes[1] % 4 == 0 and sizes[1] > 4)

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        """Boxes with class and score, after non-maximum suppression."""
        del outputs
        return (Boxes(score_threshold=self.score_threshold, iou_threshold=self.iou_threshold,
                      max_boxes=self.max_boxes),)

    def count_classes(self, outputs: Any) -> int | None:
        """Size of the last dimension of the scores."""
        return self._select(outputs, "scores").shape[-1]

    def _select(self, outputs: Any, name: str) -> Tensor:
        """The output of that name.

        Raises:
            ModelError: The model does not return a dict with it.
        """
        if list(named_outputs(outputs)) == [""]:
            raise ModelError('the model returns a single tensor; the goal detection expects a dict '
                             'with "boxes" and "scores"')
        return select_output(outputs, name, self.name)[1]

    def _select_boxes(self, outputs: Any, score_threshold: float) -> list[SelectedBoxes]:
        boxes, scores = (found.tensor.detach().float().cpu().numpy()
                         for found in self.predictions(outputs))
        return [select_boxes(*sample, score_threshold, self.iou_threshold, self.max_boxes)
                for sample in zip(boxes, scores, strict=True)]

    def _find_cells(self, targets: dict[str, Tensor], device: torch.device,
                    ) -> tuple[Tensor, Tensor]:
        height, width = targets["size"][0].tolist()
        centers, strides = find_centers(height, width, self.strides)
        return centers.to(device), strides.to(device)
