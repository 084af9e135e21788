"""Answers to yes-or-no questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.runtime.decoding._labels import label_of


@final
@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        label: What is asked for, such as "cat"; empty if there is one question, or one per pixel,
            without a name.
        probability: Of yes.
        yes: Whether the probability is above the threshold.
    """

    label: str
    probability: float
    yes: bool


@final
@dataclass(frozen=True, eq=False)
class AnswerSet:
    """The answers to all questions about one sample; iterating gives each `Answer`.

    Attributes:
        probabilities: Of yes, float64 (questions,); (labels, H, W) or (H, W) if the questions are
            about pixels, () for one question without a dimension of its own.
        yes: Whether each is above the threshold, of the same shape.
        names: Of the entries of dimension 0, if known.

    Example:
        >>> found = AnswerSet(np.array([0.9, 0.2]), np.array([True, False]), ("sun", "rain"))
        >>> [answer.label for answer in found if answer.yes]
        ['sun']
    """

    probabilities: NDArray[np.float64]
    yes: NDArray[np.bool_]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return self.probabilities.size

    def __iter__(self) -> Iterator[Answer]:
        entries = np.atleast_1d(self.probabilities)
        pixels = max(1, len(self) // max(1, len(entries)))  # per entry
        are_named = self.names is not None or (entries.ndim == 1 and len(self) > 1)
        for position, (probability, yes) in enumerate(zip(
                self.probabilities.ravel().tolist(), self.yes.ravel().tolist(), strict=True)):
            label = label_of(position // pixels, self.names) if are_named else ""
            yield Answer(label, probability, yes)

    @property
    def labels(self) -> list[str]:
        """The labels whose answer is yes.

        Example:
            >>> AnswerSet(np.array([0.9]), np.array([True]), ("sun",)).labels
            ['sun']
        """
        return list(dict.fromkeys(answer.label for answer in self if answer.yes))


def decode_answers(logits: NDArray[Any], threshold: float = 0.5,
                   names: Sequence[str] | None = None) -> list[AnswerSet]:
    """Sigmoid of each logit, and whether it is above the threshold.

    The logits are compared, so that a threshold of 0.5 answers yes exactly where they are positive.

    Args:
        logits: (N,), (N, questions), or (N, ...) for questions about pixels.
        threshold: Probability above which the answer is yes; 0 always, 1 never.
        names: Of the questions. Two names for a single question are those of no and yes.

    Example:
        >>> found = decode_answers(np.array([[2.0, -2.0]]), names=("sun", "rain"))
        >>> found[0].labels
        ['sun']
    """
    values = logits.astype(np.float64)
    labels = _question_names(values.shape, names)
    with np.errstate(over="ignore"):  # exp is infinite where the probability is 0
        probabilities = 1 / (1 + np.exp(-values))
    yes = values > _logit(threshold)
    return [AnswerSet(np.asarray(probability), np.asarray(answer), labels)
            for probability, answer in zip(probabilities, yes, strict=True)]


def count_questions(shape: Sequence[int | None]) -> int | None:
    """Number of questions about a sample, of an output of that shape; None if about pixels.

    Example:
        >>> count_questions((None,)), count_questions((None, 3)), count_questions((None, 3, 8, 8))
        (1, 3, None)
    """
    if len(shape) > 2:
        return None
    return 1 if len(shape) == 1 else shape[1]


def _question_names(shape: tuple[int, ...], names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of dimension 1; for questions about pixels only if their number fits."""
    if names is None:
        return None
    count = count_questions(shape)
    if count == 1 and len(names) == 2:
        return (names[1],)
    entries = shape[1] if len(shape) > 1 else 1
    return tuple(names) if entries == len(names) else None


def _logit(probability: float) -> float:
    if probability in (0, 1):
        return -np.inf if probability == 0 else np.inf
    return float(np.log(probability) - np.log1p(-probability))
