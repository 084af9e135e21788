"""RandAugment: a few random distortions of one magnitude, applied in sequence."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.errors import MissingExtraError, UsageError
from edgewright.task._view import View

ROUNDS: Final = 2  # distortions per image
MAGNITUDE: Final = 9
BINS: Final = 31  # number of magnitudes, from 0

Distortion = Callable[[Tensor, float], Tensor]


def rand_augment(images: NDArray[np.uint8], rows: NDArray[np.int64], view: View, *,
                 first_draw: int) -> NDArray[np.uint8]:
    """Distort every image by two randomly chosen operations, as torchvision's ``RandAugment``.

    Cubuk et al. 2020, section 3: 14 operations with equal probability, at magnitude 9 of 0 to 30,
    with a random sign where an operation has one. Images that got the same operation are processed
    together.

    Args:
        images: (N, 1 or 3, H, W).
        rows: Indices of the samples, (N,).
        view: Which random variation of the samples.
        first_draw: Number of the view's random numbers to skip, because others use them.

    Returns:
        New images, (N, C, H, W).

    Raises:
        MissingExtraError: torchvision is not installed.
        UsageError: torchvision does not match this torch, or the images do not have 1 or 3
            channels.
    """
    channels, height, width = images.shape[1:]
    if channels not in (1, 3):
        raise UsageError(f"rand_augment distorts images of 1 or 3 channels, these have {channels};"
                         " set augment='standard'")
    choices = make_distortions(_functional(), height, width)
    drawn = view.random_uniform(rows, first_draw + 2 * ROUNDS)[:, first_draw:]
    result = images.copy()
    for chosen, side in zip(drawn[:, ::2].T, drawn[:, 1::2].T, strict=True):
        groups = 2 * np.floor(chosen * len(choices)).astype(np.int64) + (side <= 0.5)
        for group in np.unique(groups):
            alike = np.flatnonzero(groups == group)
            distort, sign = choices[group // 2], -1.0 if group % 2 else 1.0
            result[alike] = distort(torch.from_numpy(result[alike]), sign).numpy()
    return result


def make_distortions(functional: Any, height: int, width: int) -> tuple[Distortion, ...]:
    """The operations at their magnitude; each takes images (N, C, H, W) and a sign, 1 or -1.

    Args:
        functional: ``torchvision.transforms.v2.functional``.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
    """
    move = partial(_affine, functional)
    slope, degrees = _magnitude_value(0.0, 0.3), _magnitude_value(0.0, 30.0)
    right = _magnitude_value(0.0, 150 / 331 * width)
    down = _magnitude_value(0.0, 150 / 331 * height)

    def enhance(name: str) -> Distortion:
        adjust, factor = getattr(functional, f"adjust_{name}"), _magnitude_value(0.0, 0.9)
        return lambda images, sign: adjust(images, 1.0 + sign * factor)

    return (
        lambda images, _: images,
        lambda images, sign: move(images, shear=(sign * slope, 0.0)),
        lambda images, sign: move(images, shear=(0.0, sign * slope)),
        lambda images, sign: move(images, translate=(int(sign * right), 0)),
        lambda images, sign: move(images, translate=(0, int(sign * down))),
        lambda images, sign: functional.rotate(images, angle=sign * degrees),
        enhance("brightness"),
        enhance("saturation"),
        enhance("contrast"),
        enhance("sharpness"),
        lambda images, _: functional.posterize(images, bits=round(_magnitude_value(8.0, 4.0))),
        lambda images, _: functional.solarize(images, threshold=255 * _magnitude_value(1.0, 0.0)),
        lambda images, _: functional.autocontrast(images),
        lambda images, _: functional.equalize(images),
    )


def _magnitude_value(weakest: float, strongest: float) -> float:
    """An operation's parameter at the magnitude, in float32 to match torchvision's pixels."""
    return float(torch.linspace(weakest, strongest, BINS)[MAGNITUDE])


def _affine(functional: Any, images: Tensor, *, translate: tuple[int, int] = (0, 0),
            shear: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Shift images by pixels, or shear them (by a slope) about the top left corner."""
    degrees = [math.degrees(math.atan(slope)) for slope in shear]
    moved: Tensor = functional.affine(images, angle=0.0, translate=list(translate), scale=1.0,
                                      shear=degrees, center=[0, 0] if any(shear) else None)
    return moved


def _functional() -> Any:
    try:
        return importlib.import_module("torchvision.transforms.v2.functional")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torchvision":
            raise
        raise MissingExtraError("augment='rand_augment'", "torchvision") from error
    except RuntimeError as error:
        raise UsageError(f"augment='rand_augment' needs torchvision, which is installed but cannot "
                         f"be imported ({error}); install the build that matches this torch"
                         ) from error
