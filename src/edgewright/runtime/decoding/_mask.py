"""The class of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.runtime.decoding._labels import label_of


@final
@dataclass(frozen=True, eq=False)
class Mask:
    """The most probable class of each pixel of one sample.

    Attributes:
        indices: Class index of each pixel, (H, W) int64, at the resolution of the model's output;
            of each token, (tokens,).
        classes: Number of classes.
        names: Of the classes, if known.
    """

    indices: NDArray[np.int64]
    classes: int
    names: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class."""
        return tuple(label_of(index, self.names) for index in range(self.classes))

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels by class, the largest first; classes without pixels are left out.

        Example:
            >>> Mask(np.array([[0, 2], [2, 2]]), 3, ("sky", "tree", "road")).shares
            {'road': 0.75, 'sky': 0.25}
        """
        counts = np.bincount(self.indices.ravel(), minlength=self.classes)
        return {label_of(index, self.names): float(counts[index] / self.indices.size)
                for index in np.argsort(-counts, kind="stable").tolist() if counts[index]}


def decode_masks(logits: NDArray[Any], names: Sequence[str] | None = None,
                 axis: int = 1) -> list[Mask]:
    """The class with the largest logit, for each pixel; of equal ones the lower index.

    Args:
        logits: (N, classes, H, W), or (N, classes, ...).
        names: Of the classes.
        axis: Dimension of the classes, if it is another one.

    Example:
        >>> logits = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> decode_masks(logits)[0].indices.tolist()
        [[0, 1]]
    """
    labels = None if names is None else tuple(names)
    return [Mask(sample, logits.shape[axis], labels) for sample in logits.argmax(axis=axis)]
