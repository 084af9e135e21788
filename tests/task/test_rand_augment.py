from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest
import torch

from edgewright.core import Preprocessing
from edgewright.errors import MissingExtraError, UsageError
from edgewright.task import DatasetSplit, ImageSplit, TensorSplit, View
from edgewright.task._augment import augment_batch
from edgewright.task._rand_augment import distortions, rand_augment

RECIPE = Preprocessing(channels=3, height=16, width=12, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
VIEW = View(4, "rand_augment")


LIBRARIES: list[torch.library.Library] = []  # what they declare goes when they do


@pytest.fixture(scope="module")
def v2() -> Any:
    """Beside a CPU build of torch the published torchvision lacks two operators, not used here."""
    try:
        return importlib.import_module("torchvision.transforms.v2")
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:
        LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            LIBRARIES[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision.transforms.v2")


def pixels(count: int, channels: int = 3, height: int = 16, width: int = 12) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, channels, height, width), np.uint8)


def as_torchvision(v2: Any, image: Any, operation: Any, sign: Any) -> Any:
    """One image by one of torchvision's own operations at its own magnitude."""
    policy = v2.RandAugment()
    name, (magnitudes, signed) = list(policy._AUGMENTATION_SPACE.items())[operation]
    found = magnitudes(policy.num_magnitude_bins, *image.shape[1:])
    magnitude = 0.0 if found is None else float(found[policy.magnitude])
    return policy._apply_image_or_video_transform(
        torch.from_numpy(image), name, sign * magnitude if signed else magnitude,
        interpolation=policy.interpolation, fill=policy._fill).numpy()


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 8, 8), (3, 33, 29)])
def test_operations_and_magnitudes_are_those_of_torchvision(v2: Any, channels: int, height: int,
                                                            width: int) -> None:
    images = pixels(5, channels, height, width)
    ours = distortions(v2.functional, height, width)
    assert len(ours) == len(v2.RandAugment()._AUGMENTATION_SPACE) == 14
    for operation, distort in enumerate(ours):
        for sign in (1.0, -1.0):
            expected = [as_torchvision(v2, image, operation, sign) for image in images]
            found = distort(torch.from_numpy(images), sign).numpy()
            np.testing.assert_array_equal(found, np.stack(expected))


def test_a_batch_equals_the_loop_over_samples(v2: Any) -> None:
    images, rows = pixels(40), np.arange(100, 140)
    before = images.copy()
    expected = images.copy()
    for index, drawn in enumerate(VIEW.draws(rows, 7)[:, 3:]):
        for chosen, side in drawn.reshape(2, 2):
            expected[index] = as_torchvision(v2, expected[index], int(chosen * 14),
                                             -1.0 if side <= 0.5 else 1.0)
    found = rand_augment(images, rows, VIEW, first_draw=3)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(images, before)


def test_crop_and_flip_come_after_and_are_those_of_the_standard_policy(v2: Any) -> None:
    images, rows = pixels(9), np.arange(9)
    distorted = rand_augment(images, rows, VIEW, first_draw=3)
    np.testing.assert_array_equal(augment_batch(images, rows, VIEW, flip=True),
                                  augment_batch(distorted, rows, View(VIEW.number), flip=True))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_view_of_a_sample_is_the_same_in_any_batch_and_order(v2: Any, batch_size: int) -> None:
    split = ImageSplit(torch.from_numpy(pixels(11)), torch.arange(11) % 3, RECIPE)
    whole = next(split.batches(11, view=VIEW)).inputs[0]
    for batch in split.batches(batch_size, shuffle_seed=3, view=VIEW):
        assert batch.view == VIEW
        assert torch.equal(batch.inputs[0], whole[batch.rows])
    assert not torch.equal(whole, next(split.batches(11, view=View(VIEW.number))).inputs[0])


def test_no_global_random_number_is_drawn(v2: Any) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    rand_augment(pixels(20), np.arange(20), VIEW, first_draw=3)
    assert torch.equal(torch.rand(1), expected)


def test_without_torchvision_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2.functional", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    split = ImageSplit(torch.from_numpy(pixels(4)), torch.arange(4), RECIPE)
    with pytest.raises(MissingExtraError, match=r"augment='rand_augment' needs an extra .* "
                                                r"pip install 'edgewright\[torchvision\]'"):
        list(split.batches(2, view=VIEW))


def test_a_torchvision_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError(f"operator of {name} does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(UsageError, match=r"installed but cannot be imported \(operator of .*; "
                                         "install the build that matches this torch"):
        rand_augment(pixels(1), np.arange(1), VIEW, first_draw=3)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(UsageError, match="distorts images of 1 or 3 channels, these have 4"):
        rand_augment(pixels(2, channels=4), np.arange(2), VIEW, first_draw=3)


@pytest.mark.parametrize("split", [
    TensorSplit(torch.zeros(4, 3), torch.arange(4), name="train"),
    DatasetSplit([(torch.zeros(3), 0)] * 4, name="train")], ids=["tensors", "dataset"])
def test_splits_without_images_refuse_the_policy(split: Any) -> None:
    assert len(list(split.batches(2, view=View(4)))) == 2
    with pytest.raises(UsageError, match=f"the train split is a {type(split).__name__}, which "
                                         "cannot be varied by 'rand_augment': .*"
                                         "augment='standard'"):
        split.batches(2, view=VIEW)
