"""Vectors of length 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True, eq=False)
class Vector:
    """The vector of one sample.

    Attributes:
        values: Of length 1, float32 (dimensions,); zeros if the model returned zeros.
    """

    values: NDArray[np.float32]

    def cosine(self, other: Vector) -> float:
        """How alike two samples are: 1 for the same direction, -1 for opposite ones.

        Example:
            >>> first, second = decode_vectors(np.array([[3.0, 4.0], [0.0, 2.0]]))
            >>> round(first.cosine(second), 3)
            0.8
        """
        return float(self.values @ other.values)


def decode_vectors(vectors: NDArray[Any]) -> list[Vector]:
    """Each sample's vector divided by its length.

    Args:
        vectors: (N, dimensions).

    Example:
        >>> decode_vectors(np.array([[0.0, 2.0]]))[0].values.tolist()
        [0.0, 1.0]
    """
    values = vectors.astype(np.float64)
    largest = np.abs(values).max(axis=1, keepdims=True, initial=0)
    scaled = values / np.where(largest > 0, largest, 1)  # squares neither overflow nor vanish
    length = np.sqrt(np.square(scaled).sum(axis=1, keepdims=True))
    return [Vector(row.astype(np.float32)) for row in scaled / np.where(length > 0, length, 1)]
