"""Draw boxes or a mask over the picture."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgewright.core import format_percent
from edgewright.errors import UsageError
from edgewright.runtime._pictures import Picture, open_picture
from edgewright.runtime.decoding import Detections, Mask

if TYPE_CHECKING:
    from PIL.Image import Image

_GOLDEN_RATIO: Final = 0.618034  # hues of neighbouring classes differ most
_OPACITY: Final = 0.5  # of a mask
_PADDING: Final = 2  # pixels around a label


def draw(picture: Picture, result: Any) -> Image:
    """The picture with its boxes, or with its mask as a layer of colours, one per class.

    Args:
        picture: As passed to `Session.predict`.
        result: What that returned: `Detections`, a `Mask`, or a dict with some of them. Class 0 of
            a mask, usually the background, is left transparent.

    Returns:
        A Pillow image in RGB, rotated by its EXIF orientation.

    Raises:
        UsageError: The result has neither boxes nor a mask.
        MissingExtraError: Pillow is not installed.

    Example:
        >>> found = Detections(np.array([[1.0, 1.0, 6.0, 6.0]]), np.ones(1), np.zeros(1, int))
        >>> drawn = draw(np.zeros((8, 8, 3), dtype=np.uint8), found)
        >>> drawn.size, drawn.getpixel((6, 4)) != (0, 0, 0), drawn.getpixel((7, 7))
        ((8, 8), True, (0, 0, 0))
    """
    parts = [one for one in (result.values() if isinstance(result, dict) else [result])
             if isinstance(one, Detections | Mask)]
    if not parts:
        raise UsageError("there is nothing to draw: the model predicts neither boxes nor a mask")
    with open_picture(picture) as image:
        from PIL import ImageOps  # noqa: PLC0415 - optional

        canvas = ImageOps.exif_transpose(image).convert("RGB")
    for part in sorted(parts, key=lambda one: isinstance(one, Detections)):  # boxes on top
        canvas = _add_mask(canvas, part) if isinstance(part, Mask) else _add_boxes(canvas, part)
    return canvas


def colour_of(index: int) -> tuple[int, int, int]:
    """A class's colour in RGB, 0 to 255.

    Example:
        >>> colour_of(0)
        (230, 46, 46)
    """
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1, 0.8, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _add_mask(canvas: Image, mask: Mask) -> Image:
    from PIL import Image as pillow  # noqa: PLC0415, N813 - optional, and named as a module

    if mask.indices.ndim != 2:
        raise UsageError(f"a mask of shape {mask.indices.shape} cannot be drawn over a picture; "
                         "only one of (height, width)")
    colours = np.array([colour_of(index) for index in range(mask.classes)], dtype=np.uint8)
    layer = pillow.fromarray(colours[mask.indices]).resize(canvas.size, pillow.Resampling.NEAREST)
    opacity = (np.where(mask.indices > 0, _OPACITY, 0) * 255).astype(np.uint8)
    cover = pillow.fromarray(opacity).resize(canvas.size, pillow.Resampling.NEAREST)
    return pillow.composite(layer, canvas, cover)


def _add_boxes(canvas: Image, found: Detections) -> Image:
    from PIL import ImageDraw  # noqa: PLC0415 - optional

    pen = ImageDraw.Draw(canvas)
    width = max(1, round(min(canvas.size) / 200))
    boxes = list(zip(found, found.classes.tolist(), strict=True))
    for one, index in reversed(boxes):  # the most probable on top
        left, top, right, bottom = one.box
        colour = colour_of(index)
        pen.rectangle((min(left, right), min(top, bottom), max(left, right), max(top, bottom)),
                      outline=colour, width=width)
        text = f"{one.label} {format_percent(one.score, 0)}"
        area = pen.textbbox((left + width + _PADDING, top + width + _PADDING), text)
        if area[2] < right and area[3] < bottom:  # a label that does not fit would hide others
            pen.rectangle((left, top, area[2] + _PADDING, area[3] + _PADDING), fill=colour)
            pen.text((left + width + _PADDING, top + width + _PADDING), text, fill="white")
    return canvas
