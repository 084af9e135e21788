"""Exclusive classes per sample and per pixel: loss, metrics, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from edgewright.core import ClassMask
from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals import Classification, Origin, Segmentation
from edgewright.goals._classification import MeanIoU

N = 6
ORIGIN = Origin("train", torch.arange(N))


def reference(logits: Tensor, targets: Tensor, weights: Any = None, smoothing: float = 0.0,
              ignored: int | None = None) -> float:
    """Cross-entropy position by position."""
    total = count = 0.0
    rows = logits.double().movedim(1, -1).reshape(-1, logits.shape[1])
    for row, target in zip(rows, targets.flatten().tolist(), strict=True):
        if target == ignored:
            continue
        logs = row - row.exp().sum().log()
        scale = [1.0] * len(row) if weights is None else [float(weight) for weight in weights]
        total += -(1 - smoothing) * scale[target] * float(logs[target])
        total += -smoothing / len(row) * sum(
            float(share * log) for share, log in zip(scale, logs, strict=True))
        count += scale[target]
    return total / count


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5), [1, 2, 3], np.array([1.0, 2.0, 0.5]),
                                     torch.tensor([0.0, 2.0, 0.5])])
def test_the_loss_against_a_reference(weights: Any, smoothing: float) -> None:
    logits, targets = torch.randn(N, 3), torch.arange(N) % 3
    goal = Classification(class_weights=weights, label_smoothing=smoothing)
    expected = reference(logits, targets, weights, smoothing)
    assert float(goal.loss(logits, targets)) == pytest.approx(expected, rel=1e-5)
    assert float(goal.loss({"logits": logits}, targets)) == pytest.approx(expected, rel=1e-5)
    named = Classification(output=1, class_weights=weights, label_smoothing=smoothing)
    assert float(named.loss((torch.zeros(2), logits), targets)) == pytest.approx(expected, rel=1e-5)
    pixels = Segmentation(class_weights=weights, label_smoothing=smoothing, ignore_index=255)
    maps, masks = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    masks[0, :2] = 255
    assert float(pixels.loss(maps, masks)) == pytest.approx(
        reference(maps, masks, weights, smoothing, 255), rel=1e-5)


def test_pixels_that_are_all_ignored_cost_nothing() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = Segmentation(ignore_index=255, label_smoothing=0.1).loss(
        logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_smoothing_replaces_the_amount_unless_it_is_zero() -> None:
    goal = Classification(label_smoothing=0.1)
    assert goal.smooth_labels(0.0) is goal
    assert goal.smooth_labels(0.3) == Classification(label_smoothing=0.3)
    assert Segmentation(ignore_index=9).smooth_labels(0.3) == Segmentation(
        ignore_index=9, label_smoothing=0.3)


@given(seed=st.integers(0, 2**31), share=st.floats(0, 1))
def test_mixed_targets_are_probabilities(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 4, (N,), generator=generator)
    other = torch.randperm(N, generator=generator)
    mixed = Classification().mix(targets, other, share, torch.zeros(1, 4))
    for row, (one, two) in enumerate(zip(targets, targets[other], strict=True)):
        expected = torch.zeros(4)
        expected[one] += share
        expected[two] += 1 - share
        torch.testing.assert_close(mixed[row], expected)
    with pytest.raises(UsageError, match="mixup and cutmix cannot mix the targets of the goal "
                                         "segmentation; leave them at 0"):
        Segmentation().mix(targets, other, share, torch.zeros(1, 4))


def slow_miou(predictions: Tensor, targets: Tensor, ignored: int | None) -> float:
    chosen = predictions.argmax(1)
    kept = torch.ones_like(targets, dtype=torch.bool) if ignored is None else targets != ignored
    shares = []
    for label in range(predictions.shape[1]):
        found, wanted = (chosen == label) & kept, (targets == label) & kept
        if label != ignored and (found | wanted).any():
            shares.append(float((found & wanted).sum() / (found | wanted).sum()))
    return sum(shares) / len(shares) if shares else float("nan")


@given(seed=st.integers(0, 2**31), ignored=st.sampled_from([None, 0, 2, 255]),
       present=st.integers(1, 4))
def test_miou_by_hand_with_absent_classes(seed: int, ignored: int | None, present: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 5, 3, 3, generator=generator)
    logits[:, present:] = -9
    targets = torch.randint(0, present, (4, 3, 3), generator=generator)
    if ignored is not None:
        targets[torch.rand(targets.shape, generator=generator) < 0.3] = ignored
    metric = MeanIoU(ignored)
    for rows in ([0, 1, 2], [3]):
        metric.update(logits[rows], targets[rows])
    assert metric.compute() == pytest.approx(slow_miou(logits, targets, ignored), nan_ok=True)


@pytest.mark.parametrize("ignored", [None, 0, 255])
def test_miou_is_that_of_torchmetrics(ignored: int | None) -> None:
    logits, targets = torch.randn(4, 5, 8, 8), torch.randint(0, 5, (4, 8, 8))
    if ignored is not None:
        targets[:, 0] = ignored
    metric = MeanIoU(ignored)
    metric.update(logits, targets)
    expected = MulticlassJaccardIndex(5, ignore_index=ignored)(logits.argmax(1), targets)
    assert metric.compute() == pytest.approx(float(expected), rel=1e-5)
    metric.reset()
    assert metric.compute() != metric.compute()


def test_metrics_and_their_names() -> None:
    assert [metric.spec.name for metric in Classification().metrics] == ["accuracy"]
    assert [metric.spec.name for metric in Segmentation().metrics] == ["miou", "pixel_accuracy"]
    pixels = Segmentation(ignore_index=1).metrics[1].make()
    pixels.update(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])[None], torch.tensor([[[0, 1]]]))
    assert pixels.compute() == 1


@pytest.mark.parametrize(("outputs", "found"), [
    (torch.zeros(N, 1), "(N, 1) float32"), (torch.zeros(N), "(N,) float32"),
    (torch.zeros(N, 3, 4), "(N, 3, 4) float32"), (torch.zeros(N, 3).long(), "(N, 3) int64"),
    (torch.zeros(N, 3, dtype=torch.complex64), "(N, 3) complex64"),
    (torch.zeros(3, N), "(3, 6) float32"), (torch.tensor(1.0), "() float32"),
])
def test_outputs_that_are_no_logits_are_described(outputs: Tensor, found: str) -> None:
    with pytest.raises(ModelError) as caught:
        Classification().check_outputs(outputs, (torch.zeros(N, 2),))
    assert str(caught.value).startswith(
        f"the output of the model is {found}; expected floating-point logits (N, classes) with at "
        "least two classes. ")
    with pytest.raises(ModelError, match="the output 'cls' of the model is"):
        Classification(output="cls").check_outputs({"cls": outputs, "x": outputs},
                                                   (torch.zeros(N, 2),))


def test_segmentation_asks_for_maps_of_logits() -> None:
    goal, inputs = Segmentation(), (torch.zeros(N, 3, 4, 4),)
    goal.check_outputs(torch.zeros(N, 2, 4, 4), inputs)
    goal.check_outputs(torch.zeros(N, 2, 9), inputs)
    for wrong in (torch.zeros(N, 1, 4, 4), torch.zeros(N, 3), torch.zeros(N, 3, 4, 4).long()):
        with pytest.raises(ModelError, match=r"expected floating-point logits \(N, classes, height, "
                                             r"width\) with at least two classes"):
            goal.check_outputs(wrong, inputs)


@pytest.mark.parametrize("axis", [-1, 2])
def test_classes_in_the_last_dimension_are_those_in_dimension_1(axis: int) -> None:
    goal = Segmentation(ignore_index=-100, class_axis=axis, class_weights=(1, 2, 3))
    second = Segmentation(ignore_index=-100, class_weights=(1, 2, 3))
    logits, targets = torch.randn(N, 5, 3), torch.randint(0, 3, (N, 5))
    targets[:, 4] = -100
    moved = logits.movedim(2, 1)
    goal.check_outputs(logits, (torch.zeros(N, 5),))
    assert torch.equal(goal.check_targets(targets, ORIGIN, logits), targets)
    assert goal.count_classes(logits) == 3
    torch.testing.assert_close(goal.loss(logits, targets), second.loss(moved, targets))
    for one, other in zip(goal.metrics, second.metrics, strict=True):
        metric, expected = one.make(), other.make()
        metric.update(logits, targets)
        expected.update(moved, targets)
        assert metric.compute() == expected.compute()
    flipped = goal.agree(logits, logits.flip(2))[0].shares
    torch.testing.assert_close(flipped, second.agree(moved, moved.flip(1))[0].shares)
    (step,) = goal.decoding(logits)
    assert isinstance(step, ClassMask)
    assert step.axis == axis


def test_a_dimension_of_classes_that_there_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="class_axis is 0, the dimension of the samples"):
        Segmentation(class_axis=0)
    for axis, sizes in ((3, (N, 5, 3)), (-3, (N, 5, 3)), (-1, (N, 5, 1))):
        with pytest.raises(ModelError, match=rf"expected floating-point logits with the classes in "
                                             rf"dimension {axis} with at least two classes"):
            Segmentation(class_axis=axis).check_outputs(torch.zeros(sizes), (torch.zeros(N, 5),))
    with pytest.raises(DataError, match=r"asks for \(N, 5\)"):
        Segmentation(class_axis=-1).check_targets(torch.zeros(N, 3).long(), ORIGIN,
                                                  torch.zeros(N, 5, 3))


def test_class_weights_fit_the_classes() -> None:
    for goal, outputs in ((Classification(class_weights=(1, 2)), torch.zeros(N, 3)),
                          (Segmentation(class_weights=(1, 2)), torch.zeros(N, 3, 2, 2))):
        with pytest.raises(ModelError, match="class_weights has 2 entries, but the model has 3 "
                                             "classes"):
            goal.check_outputs(outputs, (torch.zeros(N, 2),))


@pytest.mark.parametrize("kind", [Classification, Segmentation])
@pytest.mark.parametrize(("settings", "message"), [
    ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1, got 1.0"),
    ({"label_smoothing": float("nan")}, "label_smoothing must be at least 0 and below 1, got nan"),
    ({"class_weights": (1.0, -1.0)}, r"class_weights must not be negative, got \(1.0, -1.0\)"),
    ({"class_weights": (1.0, float("nan"))}, "class_weights must not be negative"),
])
def test_invalid_settings_are_refused(kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(**settings)


@pytest.mark.parametrize(("targets", "message"), [
    (None, "the train split has no targets; expected the class index of each pixel"),
    (torch.zeros(N, 4, 4), "are float32; expected integers, the class index of each pixel"),
    (torch.zeros(N, 4).long(), r"have shape \(6, 4\); expected the class index of each pixel, shape "
                               r"\(N, height, width\)"),
    (torch.zeros(N, 2, 2).long(), r"have shape \(N, 2, 2\), but the model's prediction asks for "
                                  r"\(N, 4, 4\)"),
    (torch.full((N, 4, 4), 3), r"sample 0 of the train split has label 3; allowed: 0\.\.2"),
])
def test_masks_that_do_not_fit_the_logits_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Segmentation(ignore_index=255).check_targets(targets, ORIGIN, torch.zeros(N, 3, 4, 4))
    masks = torch.full((N, 4, 4), 255, dtype=torch.uint8)
    found = Segmentation(ignore_index=255).check_targets(masks, ORIGIN, torch.zeros(N, 3, 4, 4))
    assert found.dtype == torch.int64


def test_only_a_class_of_the_whole_image_allows_augmentation() -> None:
    labels, masks = torch.zeros(N).long(), torch.zeros(N, 4, 4).long()
    assert Classification().allows_augmentation(labels)
    assert not Segmentation().allows_augmentation(masks)
