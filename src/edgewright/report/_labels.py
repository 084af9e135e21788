"""Placement of a chart's labels, so that they cover neither the points nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

CHARACTER_WIDTH: Final = 6.4
LINE_HEIGHT: Final = 15.0
_DIRECTIONS: Final = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
_DISTANCES: Final = (11.0, 24.0, 38.0, 54.0, 72.0)
_COVERING, _OUTSIDE, _POINT = 4.0, 12.0, 60.0

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area of the intersection, in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True)
class Label:
    """A placed text: the middle of the side that faces its point, and its text anchor."""

    text: str
    x: float
    y: float
    anchor: Anchor
    distance: float

    @property
    def box(self) -> Box:
        """The estimated rectangle that the text covers."""
        width = CHARACTER_WIDTH * len(self.text)
        left = self.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        return Box(left, self.y - LINE_HEIGHT / 2, left + width, self.y + LINE_HEIGHT / 2)


def place_labels(texts: Sequence[str], anchors: Sequence[tuple[float, float]],
                 obstacles: Sequence[tuple[float, float]], frame: Box) -> tuple[Label, ...]:
    """Place each text next to its anchor, greedily at the lowest cost.

    The cost is the area that a label covers (other labels, obstacles), the area outside the frame,
    and its distance from the anchor.

    Args:
        texts: One line each.
        anchors: The point each text belongs to, in pixels.
        obstacles: Points that should not be covered.
        frame: The area that labels should stay inside.

    Example:
        >>> frame = Box(0, 0, 200, 100)
        >>> first, second = place_labels(["a", "b"], [(50, 50), (54, 50)], [], frame)
        >>> first.box.overlap(second.box)
        0.0
    """
    placed: list[Label] = []
    for text, anchor in zip(texts, anchors, strict=True):
        placed.append(min(_candidates(text, *anchor),
                          key=lambda label: _cost(label, placed, obstacles, frame)))
    return tuple(placed)


def _candidates(text: str, x: float, y: float) -> Iterator[Label]:
    sides: dict[int, Anchor] = {1: "start", 0: "middle", -1: "end"}
    for distance in _DISTANCES:
        for right, down in _DIRECTIONS:
            reach = distance + (3 if right == 0 else 0)
            yield Label(text, x + right * distance, y + down * reach, sides[right], distance)


def _cost(label: Label, placed: Sequence[Label], obstacles: Sequence[tuple[float, float]],
          frame: Box) -> float:
    box = label.box
    covered = sum(box.overlap(other.box) for other in placed)
    outside = box.area - box.overlap(frame)
    points = sum(box.left - 3 < x < box.right + 3 and box.top < y < box.bottom
                 for x, y in obstacles)
    return _COVERING * covered + _OUTSIDE * outside + _POINT * points + label.distance
