"""Mean average precision of boxes, and how many boxes two models share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, Final, final

import numpy as np
from torch import Tensor

from edgewright.core import SelectedBoxes, box_overlaps
from edgewright.errors import MissingExtraError

COCO_THRESHOLDS: Final = tuple(float(percent) / 100 for percent in range(50, 100, 5))


@final
class BoxPrecision:
    """Mean average precision over classes and overlaps, computed by COCO's evaluation.

    torchmetrics' ``MeanAveragePrecision`` calls the same code, and takes the same arguments, but
    cannot be used without torchvision.

    Args:
        iou_thresholds: Overlaps at which a box counts as found.
        max_boxes: Most boxes per sample, the most probable first.

    Raises:
        MissingExtraError: pycocotools is not installed.

    Example:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
        >>> found = {"boxes": box, "scores": torch.ones(1), "labels": torch.tensor([2])}
        >>> metric = BoxPrecision([0.5])
        >>> metric.update([found], [{"boxes": box, "labels": torch.tensor([2])}])
        >>> round(metric.compute(), 4)
        1.0
    """

    higher_is_better = True

    def __init__(self, iou_thresholds: Sequence[float] = COCO_THRESHOLDS,
                 max_boxes: int = 100) -> None:
        try:
            import pycocotools.cocoeval  # noqa: F401, PLC0415 - loaded only where it is needed
        except ModuleNotFoundError as error:
            raise MissingExtraError("the mean average precision of a detection",
                                    "compress") from error
        self._thresholds, self._max_boxes = iou_thresholds, max_boxes
        self.reset()

    def update(self, predictions: Sequence[dict[str, Tensor]],
               targets: Sequence[dict[str, Tensor]], /) -> None:
        """Add a batch.

        Args:
            predictions: "boxes" (K, 4), "scores" (K,) and "labels" (K,) of each sample.
            targets: "boxes" (M, 4) and "labels" (M,) of each sample.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            self._samples += 1
            self._found += _list_boxes(prediction, self._samples)
            self._targets += _list_boxes(target, self._samples)

    def compute(self) -> float:
        """The precision, 0 to 1; NaN if there is no target box."""
        if not self._targets:
            return float("nan")
        from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

        classes = {box["category_id"] for box in self._targets + self._found}
        with redirect_stdout(io.StringIO()):
            evaluation = COCOeval(_as_coco(self._targets, self._samples, classes),
                                  _as_coco(self._found, self._samples, classes), "bbox")
            evaluation.params.iouThrs = np.array(self._thresholds)
            evaluation.params.maxDets = [self._max_boxes]
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"]
        return float(precision[precision > -1].mean())

    def reset(self) -> None:
        """Forget all batches."""
        self._samples = 0
        self._found: list[dict[str, Any]] = []
        self._targets: list[dict[str, Any]] = []


def _list_boxes(sample: dict[str, Tensor], number: int) -> list[dict[str, Any]]:
    """A sample's boxes as COCO's annotations."""
    labels = sample["labels"].tolist()
    scores = sample["scores"].tolist() if "scores" in sample else [1.0] * len(labels)
    edges = zip(sample["boxes"].tolist(), labels, scores, strict=True)
    return [{"image_id": number, "category_id": label, "score": score, "iscrowd": 0,
             "bbox": [left, top, right - left, bottom - top],
             "area": (right - left) * (bottom - top)}
            for (left, top, right, bottom), label, score in edges]


def _as_coco(boxes: list[dict[str, Any]], samples: int, classes: set[int]) -> Any:
    """Boxes as COCO's table; samples and boxes count from 1, because 0 means that there is none."""
    from pycocotools.coco import COCO  # noqa: PLC0415

    table = COCO()
    table.dataset = {"images": [{"id": number + 1} for number in range(samples)],
                     "annotations": [{**box, "id": place + 1} for place, box in enumerate(boxes)],
                     "categories": [{"id": label} for label in sorted(classes)]}
    table.createIndex()
    return table


def share_of_equal_boxes(first: SelectedBoxes, second: SelectedBoxes,
                         iou_threshold: float) -> float:
    """Share of the union of both models' boxes that the two have in common, 0 to 1.

    Boxes are paired in the order of the first model's scores, each with the free box of the same
    class that it overlaps most, if the overlap reaches the threshold. A pair counts once in the
    union; two samples without boxes are equal.

    Example:
        >>> box = np.array([[0, 0, 8, 8]], np.float32)
        >>> one, more = np.array([1]), np.array([1, 1])
        >>> first = SelectedBoxes(box, one, np.ones(1, np.float32))
        >>> second = SelectedBoxes(np.concatenate([box, box + 20]), more, np.ones(2, np.float32))
        >>> share_of_equal_boxes(first, second, 0.5)
        0.5
    """
    overlaps = box_overlaps(first.boxes, second.boxes)
    overlaps[first.labels[:, None] != second.labels] = -1
    pairs = 0
    for row in range(len(overlaps)):
        partner = int(overlaps[row].argmax()) if overlaps.shape[1] else 0
        if overlaps.shape[1] and overlaps[row, partner] >= iou_threshold:
            pairs += 1
            overlaps[:, partner] = -1
    union = len(first.boxes) + len(second.boxes) - pairs
    return pairs / union if union else 1.0
