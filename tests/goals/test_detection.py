from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgewright.core import Boxes, SelectedBoxes
from edgewright.errors import DataError, MissingExtraError, ModelError, UsageError
from edgewright.goals import GOALS, Detection, MultiTask, Origin, as_goal
from edgewright.goals._detection_metric import COCO_THRESHOLDS, BoxPrecision, share_of_equal_boxes

SIZE = 32
CELLS = 16 + 4  # strides of 8 and 16
GOAL = Detection(strides=(8, 16))
ORIGIN = Origin("train", torch.arange(10, 20))
seeds = st.integers(0, 2**31)


def sample(boxes: list[list[float]], labels: list[int] | None = None) -> dict[str, Tensor]:
    labels = [0] * len(boxes) if labels is None else labels
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels).long()}


def random_boxes(generator: torch.Generator, count: int) -> Tensor:
    corners = torch.rand(count, 2, generator=generator) * (SIZE - 12)
    return torch.cat([corners, corners + 2 + 10 * torch.rand(count, 2, generator=generator)], dim=1)


def random_case(seed: int, classes: int = 3, bins: int = 5) -> tuple[Any, list[dict[str, Tensor]]]:
    """Outputs for three images, one of them without boxes."""
    generator = torch.Generator().manual_seed(seed)
    targets = [{"boxes": random_boxes(generator, count),
                "labels": torch.randint(0, classes, (count,), generator=generator)}
               for count in (2, 0, 4)]
    centers = slow_cells()
    boxes = torch.stack([torch.tensor([[x, y, x, y] for x, y, _ in centers]) for _ in targets])
    boxes = boxes + torch.tensor([-1.0, -1, 1, 1]) * (
        0.5 + 8 * torch.rand(3, CELLS, 4, generator=generator))
    return {"boxes": boxes, "scores": torch.randn(3, CELLS, classes, generator=generator),
            "distances": torch.randn(3, CELLS, 4 * bins, generator=generator)}, targets


def make(targets: Any, goal: Detection = GOAL, outputs: Any = None) -> dict[str, Tensor]:
    rows = Origin("train", torch.arange(len(targets)))
    return goal.make_targets((torch.zeros(len(targets), 3, SIZE, SIZE),),
                             goal.check_targets(targets, rows, outputs))


def slow_cells() -> list[tuple[float, float, int]]:
    return [((column + 0.5) * stride, (row + 0.5) * stride, stride) for stride in (8, 16)
            for row in range(SIZE // stride) for column in range(SIZE // stride)]


def slow_iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def slow_ciou(one: list[float], other: list[float]) -> float:
    """Zheng et al. 2020: IoU - rho^2 / c^2 - alpha v."""
    iou = slow_iou(one, other)
    hull = [max(one[2], other[2]) - min(one[0], other[0]),
            max(one[3], other[3]) - min(one[1], other[1])]
    offset = [(one[i] + one[i + 2] - other[i] - other[i + 2]) / 2 for i in (0, 1)]
    ratios = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (one, other)]
    v = 4 / math.pi**2 * (ratios[0] - ratios[1]) ** 2
    alpha = v / (1 - iou + v) if v else 0.0
    return iou - sum(x * x for x in offset) / sum(x * x for x in hull) - alpha * v


def slow_assign(boxes: list[list[float]], scores: list[list[float]], target: dict[str, Tensor],
                goal: Detection) -> dict[int, tuple[int, float]]:
    """Target and its score of each assigned candidate of one image."""
    truth, labels = target["boxes"].tolist(), target["labels"].tolist()
    cells = slow_cells()
    align, taken = {}, {}
    for m, (box, label) in enumerate(zip(truth, labels, strict=True)):
        inside = [a for a, (x, y, _) in enumerate(cells)
                  if box[0] < x < box[2] and box[1] < y < box[3]]
        for a in inside:
            probability = 1 / (1 + math.exp(-scores[a][label]))
            align[m, a] = (probability ** goal.score_power
                           * slow_iou(box, boxes[a]) ** goal.overlap_power)
        best = sorted(inside, key=lambda a, m=m: -align[m, a])[:goal.candidates]  # type: ignore[misc]
        taken[m] = set(best)
    owner = {}
    for a in range(len(cells)):
        rivals = [m for m in taken if a in taken[m]]
        if rivals:
            owner[a] = max(rivals, key=lambda m, a=a: slow_iou(truth[m], boxes[a]))  # type: ignore[misc]
    found = {}
    for m in taken:
        mine = [a for a in owner if owner[a] == m]
        if mine:
            greatest = max(align[m, a] for a in mine)
            overlap = max(slow_iou(truth[m], boxes[a]) for a in mine)
            for a in mine:
                found[a] = (m, align[m, a] / max(greatest, 1e-9) * overlap)
    return found


def slow_loss(outputs: dict[str, Tensor], targets: list[dict[str, Tensor]],
              goal: Detection) -> float:
    score_loss = box_loss = focal_loss = total = 0.0
    for image, target in enumerate(targets):
        boxes, scores = outputs["boxes"][image].tolist(), outputs["scores"][image].tolist()
        found = slow_assign(boxes, scores, target, goal)
        for a, (x, y, stride) in enumerate(slow_cells()):
            goals = [0.0] * len(scores[a])
            if a in found and found[a][1] > 0:
                m, weight = found[a]
                box = target["boxes"][m].tolist()
                goals[int(target["labels"][m])] = weight
                total += weight
                box_loss += weight * (1 - slow_ciou(boxes[a], box))
                if "distances" in outputs:
                    sides = [x - box[0], y - box[1], box[2] - x, box[3] - y]
                    logits = outputs["distances"][image, a].reshape(4, -1)
                    focal_loss += weight * sum(
                        slow_focal(logits[side].tolist(), sides[side] / stride)
                        for side in range(4)) / 4
            for logit, wanted in zip(scores[a], goals, strict=True):
                probability = 1 / (1 + math.exp(-logit))
                score_loss -= (wanted * math.log(probability)
                               + (1 - wanted) * math.log(1 - probability))
    return (goal.score_weight * score_loss + goal.box_weight * box_loss
            + goal.distance_weight * focal_loss) / max(total, 1)


def slow_focal(logits: list[float], distance: float) -> float:
    """Li et al. 2020, eq. 6."""
    distance = min(max(distance, 0), len(logits) - 1)
    left = min(int(distance), len(logits) - 2)
    shares = [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]
    return -((left + 1 - distance) * math.log(shares[left])
             + (distance - left) * math.log(shares[left + 1]))


@settings(deadline=None)
@given(seed=seeds, candidates=st.sampled_from([1, 3, 10]), with_distances=st.booleans())
def test_the_loss_image_by_image(seed: int, candidates: int, with_distances: bool) -> None:
    goal = Detection(strides=(8, 16), candidates=candidates, overlap_power=2.0)
    outputs, targets = random_case(seed)
    if not with_distances:
        del outputs["distances"]
    found = goal.loss(outputs, make(targets, goal))
    assert float(found) == pytest.approx(slow_loss(outputs, targets, goal), rel=1e-3)


def test_every_output_gets_a_finite_gradient() -> None:
    outputs, targets = random_case(3)
    for value in outputs.values():
        value.requires_grad_()
    GOAL.loss(outputs, make(targets)).backward()
    for value in outputs.values():
        assert bool(value.grad.isfinite().all())
        assert bool((value.grad != 0).any())


def test_a_batch_without_boxes_teaches_low_scores_alone() -> None:
    outputs, _ = random_case(0)
    for value in outputs.values():
        value.requires_grad_()
    GOAL.loss(outputs, make([sample([])] * 3)).backward()
    assert bool((outputs["scores"].grad > 0).all())
    assert not bool(outputs["boxes"].grad.any())


def test_degenerate_predictions_have_a_finite_loss() -> None:
    outputs, targets = random_case(1)
    outputs["boxes"] = outputs["boxes"].flip(2).requires_grad_()  # right before left
    loss = GOAL.loss(outputs, make(targets))
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(outputs["boxes"].grad.isfinite().all())


def test_right_boxes_cost_less_than_shifted_ones() -> None:
    target = sample([[4.0, 4, 20, 20]], [1])
    scores = torch.full((1, CELLS, 2), -8.0)
    scores[0, [0, 1], 1] = 8.0
    right = torch.zeros(1, CELLS, 4) + target["boxes"]
    losses = [float(GOAL.loss({"boxes": right + shift, "scores": scores}, make([target])))
              for shift in (0.0, 2.0, 5.0)]
    assert losses == sorted(losses)


# Targets

@pytest.mark.parametrize(("targets", "message"), [
    (None, "the train split has no targets; expected a dict"),
    (torch.zeros(2, 4), r"the targets of the train split are a Tensor; expected a dict"),
    ({"boxes": torch.zeros(1, 2, 4)}, "are a dict of boxes; expected a dict"),
    ([{"box": torch.zeros(1, 4)}], "the target of sample 10 of the train split is a dict of box;"),
    ([torch.zeros(4)], "the target of sample 10 of the train split is a Tensor"),
    ([sample([]), {"boxes": torch.zeros(2, 4), "labels": torch.zeros(1)}],
     r"sample 11 .* has boxes of shape \(2, 4\) and labels of shape \(1,\); expected"),
    ([{"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.zeros(1)}],
     "the labels of sample 10 of the train split are float32; expected integers"),
    ([sample([]), sample([[0.0, 0, 9, math.nan]])],
     "a box of sample 11 of the train split holds NaN or infinity"),
    ([sample([[9.0, 0, 2, 9]])],
     r"sample 10 of the train split has the box \(9, 0, 2, 9\), whose right or bottom edge is not"),
    ([sample([[2.0, 3, 2, 9]])], r"has the box \(2, 3, 2, 9\), whose right or bottom edge"),
    ([sample([[0.1, 0.2, 0.5, 0.9]])], "expected pixels of the input: multiply relative edges"),
    ([sample([[0.0, 0, 9, 9]]), sample([[0.0, 0, 9, 9]] * 2, [0, -1])],
     "sample 11 of the train split has label -1; allowed: 0 or more"),
])
def test_bad_targets_are_refused_by_sample(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        GOAL.check_targets(targets, ORIGIN)


@pytest.mark.parametrize("classes", [None, 3])
def test_labels_beyond_the_classes_are_refused(classes: int | None) -> None:
    outputs = {"boxes": torch.zeros(1, CELLS, 4), "scores": torch.zeros(1, CELLS, 3)}
    with pytest.raises(DataError, match=r"sample 10 .* has label 3; allowed: 0\.\.2"):
        GOAL.check_targets([sample([[0.0, 0, 9, 9]], [3])], ORIGIN._replace(classes=classes),
                           None if classes else outputs)


@pytest.mark.parametrize("box", [[-3.0, 0, 9, 9], [0.0, 0, 9, SIZE + 1]])
def test_boxes_outside_of_the_image_are_refused(box: list[float]) -> None:
    checked = GOAL.check_targets([sample([]), sample([[1.0, 1, 9, 9], box])], ORIGIN)
    with pytest.raises(DataError, match=r"sample 11 of the train split has the box .*, outside of "
                                        "its image of 32 x 32 pixels"):
        GOAL.make_targets((torch.zeros(2, 3, SIZE, SIZE),), checked)


def test_inputs_that_are_no_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"needs images \(N, C, H, W\) .* it has shape \(1, 5\)"):
        GOAL.make_targets((torch.zeros(1, 5),), GOAL.check_targets([sample([])], ORIGIN))


def test_samples_are_padded_and_stacked_ones_are_taken() -> None:
    made = make([sample([[0.0, 0, 9, 9]], [1]), {"boxes": [], "labels": []}])
    assert made["labels"].tolist() == [[1], [-1]]
    assert made["boxes"].shape == (2, 1, 4)
    assert made["size"].tolist() == [[SIZE, SIZE]] * 2
    stacked = {"boxes": torch.tensor([[[0, 0, 9, 9]]] * 2), "labels": torch.zeros(2, 1).long()}
    checked = GOAL.check_targets(stacked, ORIGIN)
    assert [boxes.tolist() for boxes in checked.boxes] == [[[0.0, 0.0, 9.0, 9.0]]] * 2


# Outputs and settings

@pytest.mark.parametrize(("changes", "message"), [
    ({"boxes": torch.zeros(3, CELLS, 5)}, r"'boxes' of the model is \(N, 20, 5\) float32; expected"),
    ({"scores": torch.zeros(3, CELLS + 1, 2)}, r"'scores' .* expected floating-point logits"),
    ({"scores": torch.zeros(3, CELLS, 2).long()}, r"'scores' .* expected floating-point logits"),
    ({"distances": torch.zeros(3, CELLS, 6)}, r"'distances' .* with at least two bins"),
    ({"boxes": torch.zeros(3, 7, 4)}, "7 candidates for an image of 32 x 32 pixels, but feature "
                                      "maps with the strides 8, 16 have 20 cells"),
])
def test_outputs_of_other_sizes_are_refused(changes: dict[str, Tensor], message: str) -> None:
    outputs, _ = random_case(0)
    with pytest.raises(ModelError, match=message):
        GOAL.check_outputs({**outputs, **changes}, (torch.zeros(3, 3, SIZE, SIZE),))


def test_outputs_of_another_form_are_refused() -> None:
    with pytest.raises(ModelError, match="returns a single tensor; the goal detection expects"):
        GOAL.predictions(torch.zeros(1, CELLS, 4))
    with pytest.raises(ModelError, match="expects the output 'scores', but the model returns "
                                         "'boxes', 'x'"):
        GOAL.predictions({"boxes": torch.zeros(1, CELLS, 4), "x": torch.zeros(1)})


@pytest.mark.parametrize("wrong", [
    {"strides": ()}, {"strides": (0,)}, {"iou_threshold": 1.5}, {"score_threshold": -1},
    {"agreement_iou": 2}, {"max_boxes": 0}, {"candidates": 0}, {"box_weight": -1}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Detection(**wrong)


def test_it_goes_by_its_name_and_is_decoded_on_the_device() -> None:
    assert GOALS["detection"] is Detection
    assert isinstance(as_goal("detection"), Detection)
    outputs, _ = random_case(0)
    assert GOAL.count_classes(outputs) == 3
    assert Detection(score_threshold=0.4, max_boxes=7).decoding(outputs) == (
        Boxes(score_threshold=0.4, max_boxes=7),)
    assert not GOAL.allows_augmentation(None)
    assert "missed" in GOAL.exit_obstacle


# Metrics and agreement

def as_outputs(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Outputs whose selected boxes these are: one candidate each, the others improbable."""
    boxes, scores = torch.zeros(len(found), CELLS, 4), torch.full((len(found), CELLS, 3), -20.0)
    for image, one in enumerate(found):
        count = len(one["labels"])
        boxes[image, :count] = one["boxes"]
        scores[image, range(count), one["labels"]] = 3.0 - torch.arange(count) / 10
    return {"boxes": boxes, "scores": scores}


def measure(outputs: Any, targets: list[dict[str, Tensor]]) -> dict[str, float]:
    values = {}
    for named in GOAL.metrics:
        metric = named.make()
        metric.update(*GOAL.metric_inputs(outputs, make(targets)))
        values[named.spec.name] = float(metric.compute())
    return values


def test_precision_of_right_shifted_and_missing_boxes() -> None:
    pytest.importorskip("pycocotools")
    targets = [sample([[0.0, 0, 10, 10]], [0]), sample([[5.0, 5, 15, 15]], [2]), sample([])]
    assert measure(as_outputs(targets), targets) == pytest.approx({"map50": 1.0, "map": 1.0})
    shifted = [{**one, "boxes": one["boxes"] + torch.tensor([0.0, 0, 0, 4])} for one in targets]
    assert measure(as_outputs(shifted), targets) == pytest.approx(  # an overlap of 10 / 14
        {"map50": 1.0, "map": 0.5})
    assert measure(as_outputs([sample([])] * 3), targets) == {"map50": 0.0, "map": 0.0}
    found = measure(as_outputs(targets[:1] + [sample([])] * 2), targets)
    assert found["map50"] == pytest.approx(0.5)


def test_the_precision_of_a_split_without_boxes_is_undefined() -> None:
    pytest.importorskip("pycocotools")
    assert math.isnan(measure(as_outputs([sample([])]), [sample([])])["map50"])


def test_a_metric_forgets_its_batches() -> None:
    pytest.importorskip("pycocotools")
    metric = BoxPrecision()
    metric.update([{**sample([]), "scores": torch.zeros(0)}], [sample([[0.0, 0, 9, 9]])])
    metric.reset()
    metric.update([{**sample([[0.0, 0, 9, 9]]), "scores": torch.ones(1)}],
                  [sample([[0.0, 0, 9, 9]])])
    assert metric.compute() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(4))
def test_the_precision_is_that_of_torchmetrics(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which asks for torchvision, though it takes nothing of it but the change of a box's form."""
    pytest.importorskip("pycocotools")
    theirs = pytest.importorskip("torchmetrics.detection.mean_ap")
    ops = ModuleType("torchvision.ops")
    ops.box_convert = lambda boxes, in_fmt, out_fmt: torch.cat(  # type: ignore[attr-defined]
        [boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.ops", ops)
    monkeypatch.setattr(theirs, "_TORCHVISION_AVAILABLE", True)
    generator = torch.Generator().manual_seed(seed)
    targets = [{"boxes": random_boxes(generator, count),
                "labels": torch.randint(0, 3, (count,), generator=generator)}
               for count in (5, 0, 3, 8)]
    found = [{"boxes": one["boxes"].repeat(2, 1) + 2 * torch.randn(
        2 * len(one["boxes"]), 4, generator=generator), "labels": one["labels"].repeat(2),
        "scores": torch.rand(2 * len(one["boxes"]), generator=generator)} for one in targets]
    reference = theirs.MeanAveragePrecision(  # COCO's thresholds; its own are rounded to float32
        iou_thresholds=list(COCO_THRESHOLDS), rec_thresholds=np.linspace(0, 1, 101).tolist())
    reference.update(found, targets)
    expected = reference.compute()
    for name, metric in (("map", BoxPrecision()), ("map_50", BoxPrecision([0.5]))):
        metric.update(found[:2], targets[:2])
        metric.update(found[2:], targets[2:])
        assert metric.compute() == pytest.approx(float(expected[name]), abs=1e-6)


def test_without_pycocotools_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(MissingExtraError, match=r"mean average precision .*edgewright\[compress\]"):
        BoxPrecision()


def test_a_metric_of_ones_own() -> None:
    class Count:
        higher_is_better = True
        total = 0

        def update(self, predictions: Any, targets: Any, /) -> None:
            self.total += sum(len(one["labels"]) for one in predictions) - len(targets)

        def compute(self) -> float:
            return float(self.total)

        def reset(self) -> None:
            self.total = 0

    goal = Detection(strides=(8, 16), metric={"boxes": Count()}, unit="boxes")
    targets = [sample([[0.0, 0, 9, 9]] * 2, [0, 1])]
    metric = goal.metrics[0].make()
    metric.update(*goal.metric_inputs(as_outputs(targets), make(targets)))
    assert metric.compute() == 1
    assert goal.metrics[0].spec.unit == "boxes"


def selected(boxes: list[list[float]], labels: list[int]) -> SelectedBoxes:
    return SelectedBoxes(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
                         np.ones(len(labels), np.float32))


@pytest.mark.parametrize(("first", "second", "share"), [
    (([], []), ([], []), 1),
    (([[0, 0, 9, 9]], [1]), ([], []), 0),
    (([], []), ([[0, 0, 9, 9]], [1]), 0),
    (([[0, 0, 9, 9]], [1]), ([[0, 0, 9, 9]], [0]), 0),
    (([[0, 0, 9, 9]], [1]), ([[0, 0, 9, 8]], [1]), 1),
    (([[0, 0, 9, 9]], [1]), ([[5, 0, 14, 9]], [1]), 0),
    (([[0, 0, 9, 9], [0, 0, 9, 9]], [1, 1]), ([[0, 0, 9, 9]], [1]), 1 / 2),
    (([[0, 0, 9, 9], [20, 0, 29, 9]], [1, 0]), ([[20, 0, 29, 9], [0, 9, 9, 19]], [0, 1]), 1 / 3),
])
def test_share_of_equal_boxes(first: Any, second: Any, share: float) -> None:
    assert share_of_equal_boxes(selected(*first), selected(*second), 0.5) == pytest.approx(share)


def test_agreement_is_about_boxes_and_scores_together() -> None:
    one = as_outputs([sample([[0.0, 0, 9, 9]], [1]), sample([[0.0, 0, 9, 9], [20.0, 0, 29, 9]])])
    other = {**one, "scores": one["scores"].clone()}
    other["scores"][1, 1] = -9  # the second box of the second sample is gone
    found = GOAL.agree(one, other)
    assert [agreement.shares.tolist() for agreement in found] == [[1.0, 0.5]] * 2
    assert found[0].decision == "same boxes (class, and IoU of at least 0.5)"
    several = MultiTask({"cells": GOAL})
    assert [agreement.shares.tolist() for agreement in several.agree({"cells": one},
                                                                    {"cells": other})] \
        == [[1.0, 0.5]] * 2
