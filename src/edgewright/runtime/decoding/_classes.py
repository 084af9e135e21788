"""The most probable classes of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.runtime.decoding._labels import label_of


@final
@dataclass(frozen=True)
class ClassPrediction:
    """A class and its probability.

    Attributes:
        label: Its name, or "class 3" if it has none.
        index: Its position among the classes.
        probability: From 0 to 1.
    """

    label: str
    index: int
    probability: float


@final
@dataclass(frozen=True, eq=False)
class ClassRanking:
    """The classes of one sample, ranked by probability.

    Attributes:
        probabilities: Of every class, float64 (classes,).
        names: Of the classes, if known.
    """

    probabilities: NDArray[np.float64]
    names: tuple[str, ...] | None = None

    def top(self, count: int = 5) -> list[ClassPrediction]:
        """The most probable classes, the first one first; of equal ones the lower index.

        Example:
            >>> ranking = ClassRanking(np.array([0.2, 0.7, 0.1]), ("cat", "dog", "fox"))
            >>> [found.label for found in ranking.top(2)]
            ['dog', 'cat']
        """
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [ClassPrediction(label_of(index, self.names), index,
                                float(self.probabilities[index])) for index in order.tolist()]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.top(1)[0].label

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return float(self.probabilities.max())


def decode_classes(logits: NDArray[Any], names: Sequence[str] | None = None) -> list[ClassRanking]:
    """Softmax over the classes, for each sample.

    Args:
        logits: (N, classes); minus infinity is an impossible class.
        names: Of the classes.

    Example:
        >>> decode_classes(np.array([[0.0, 2.0]]), ("cat", "dog"))[0].label
        'dog'
    """
    labels = None if names is None else tuple(names)
    return [ClassRanking(row, labels) for row in softmax(logits)]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Softmax over dimension 1; 0 for all classes of a sample whose classes are all impossible.

    Example:
        >>> softmax(np.array([[0.0, 0.0], [-np.inf, -np.inf]])).tolist()
        [[0.5, 0.5], [0.0, 0.0]]
    """
    values = logits.astype(np.float64)
    largest = values.max(axis=1, keepdims=True)
    powers = np.exp(values - np.where(np.isfinite(largest), largest, 0))
    total = powers.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(powers, total, out=np.zeros_like(powers),
                                            where=total != 0)
    return shares
