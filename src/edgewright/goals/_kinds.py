"""What a prediction's numbers mean, and what follows for comparing two of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.errors import UsageError

_TOLERANCE = 0.05  # of a value's standard deviation
_SAME_DIRECTION = 0.99  # cosine


class PredictionKind(ABC):
    """What a prediction's numbers mean; every pass that compares predictions asks it.

    Attributes:
        agreement: What `agree` measures, in words ("same top class").
        needs_scale: Whether `agree` and `unit` depend on the spread of the values over all samples
            that are compared, which `with_scale` sets.
        no_confidence: Why the numbers alone do not tell how sure the prediction is; empty if they
            do, see `confidence`.
    """

    agreement: str
    needs_scale: bool = False
    no_confidence: str = "its numbers do not tell how sure it is"

    def with_scale(self, scale: float) -> PredictionKind:
        """This kind with the standard deviation of the values, if it needs one and states none."""
        del scale
        return self

    @abstractmethod
    def agree(self, first: Tensor, second: Tensor) -> Tensor:
        """How far two models make the same decision on each sample.

        Args:
            first: Predictions (N, ...) of the reference.
            second: Predictions of the same shape.

        Returns:
            Share of each sample's decisions that are the same, 0 to 1, (N,) float.
        """

    def confidence(self, prediction: Tensor) -> Tensor:
        """How sure a prediction is of each sample, by its numbers alone.

        It is computed inside exported files, so it uses operators that every runtime has.

        Args:
            prediction: (N, ...).

        Returns:
            The expected share of right decisions, 0 to 1, (N,).

        Raises:
            UsageError: The numbers do not tell, see ``no_confidence``.
        """
        del prediction
        raise UsageError(f"a prediction has no confidence: {self.no_confidence}")

    def class_logits(self, prediction: Tensor) -> Tensor | None:
        """The prediction as logits over classes in the last dimension; None if it has no classes.

        Args:
            prediction: (N, ...).

        Returns:
            (N, ..., classes), whose softmax is the predicted distribution.
        """
        del prediction
        return None

    def probabilities(self, prediction: Tensor) -> Tensor | None:
        """The probabilities that logits mean, float64 of the same shape; None for other numbers.

        In double precision, because those of float32 are all 1 from a logit of 17.

        Args:
            prediction: (N, ...).
        """
        del prediction
        return None

    def center(self, prediction: Tensor) -> Tensor:
        """Remove what does not change the meaning, such as the mean of logits over the classes."""
        return prediction

    def unit(self, prediction: Tensor) -> float:
        """The unit in which small differences of `center` count alike, whatever the kind.

        Half the squared length of a small difference in this unit is about the Kullback-Leibler
        divergence of what is predicted, for undecided logits and for normal values, averaged over
        the positions of a sample (Schraudolph 2002). Each kind sees only its own numbers, so
        Gauss-Newton can add up the predictions of several outputs.

        Args:
            prediction: (N, ...).
        """
        return math.sqrt(prediction[0].numel())

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss between student and teacher if there are no classes, a scalar.

        Half the mean squared difference, divided by the teacher's variance so that it does not
        depend on the unit of the values, or by their mean square if they are constant.
        """
        square = teacher.square().mean()
        scale = teacher.var(correction=0)
        scale = torch.where(scale > torch.finfo(teacher.dtype).eps * square, scale, square)
        return 0.5 * F.mse_loss(student, teacher) / torch.where(scale > 0, scale, 1)


@final
@dataclass(frozen=True)
class Categorical(PredictionKind):
    """Logits over exclusive classes.

    Args:
        axis: Dimension of the classes.

    Example:
        >>> kind = Categorical()
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> kind.agree(logits, logits.flip(0)).tolist(), kind.center(logits)[0].tolist()
        ([0.0, 0.0], [1.0, -1.0])
        >>> kind.confidence(torch.tensor([[9.0, -9.0], [0.0, 0.0]])).tolist()
        [1.0, 0.5]
    """

    axis: int = 1
    agreement = "same top class"
    no_confidence = ""

    def confidence(self, prediction: Tensor) -> Tensor:
        """The highest probability, the mean over the sample's positions."""
        return _mean_per_sample(prediction.softmax(self.axis).amax(self.axis))

    def agree(self, first: Tensor, second: Tensor) -> Tensor:
        """Share of the sample's positions with the same top class."""
        same = first.argmax(self.axis) == second.argmax(self.axis)
        return same.reshape(len(same), -1).float().mean(dim=1)

    def class_logits(self, prediction: Tensor) -> Tensor | None:
        """The logits, with the classes in the last dimension."""
        is_last = self.axis in (-1, prediction.ndim - 1)
        return prediction if is_last else prediction.movedim(self.axis, -1)

    def probabilities(self, prediction: Tensor) -> Tensor | None:
        """The softmax over the classes."""
        return prediction.double().softmax(self.axis)

    def center(self, prediction: Tensor) -> Tensor:
        """Subtract the mean over the classes, which the softmax does not see."""
        return prediction - prediction.mean(dim=self.axis, keepdim=True)


@final
@dataclass(frozen=True)
class Bernoulli(PredictionKind):
    """One logit for each yes-or-no question.

    Example:
        >>> kind = Bernoulli()
        >>> kind.agree(torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 3.0]])).tolist()
        [0.5]
        >>> torch.softmax(kind.class_logits(torch.tensor([0.0])), dim=-1).tolist()
        [[0.5, 0.5]]
        >>> kind.confidence(torch.tensor([[30.0, -30.0], [30.0, 0.0]])).tolist()
        [1.0, 0.75]
    """

    agreement = "same sign"
    no_confidence = ""

    def confidence(self, prediction: Tensor) -> Tensor:
        """The probability of the more likely answer, the mean over the sample's questions."""
        return _mean_per_sample(prediction.abs().sigmoid())

    def agree(self, first: Tensor, second: Tensor) -> Tensor:
        """Share of the questions with the same answer."""
        same = (first > 0) == (second > 0)
        return same.reshape(len(same), -1).float().mean(dim=1)

    def class_logits(self, prediction: Tensor) -> Tensor | None:
        """Two logits whose softmax is (1 - sigmoid(z), sigmoid(z)), at every temperature."""
        return torch.stack([-prediction / 2, prediction / 2], dim=-1)

    def probabilities(self, prediction: Tensor) -> Tensor | None:
        """The sigmoid."""
        return prediction.double().sigmoid()

    def unit(self, prediction: Tensor) -> float:
        """Twice that of other kinds: the curvature of an undecided answer is 1 / 4."""
        return 2 * super().unit(prediction)


@final
@dataclass(frozen=True)
class Values(PredictionKind):
    """Real numbers, such as a regression's.

    Args:
        tolerance: Largest difference at which two values count as the same, in units of ``scale``.
        scale: Size of a typical difference between two samples, in the unit of the values, such as
            the standard deviation of the targets. None for the standard deviation of the
            reference's values: of a whole split where a pass compares one (`measure_scales`), of
            the values themselves if `agree` or `unit` is called alone.

    Raises:
        UsageError: The tolerance or the scale is negative, or the scale infinite.

    Example:
        >>> first = torch.tensor([[0.0], [10.0]])
        >>> Values().agree(first, first + 0.1).tolist(), Values().agree(first, first + 3).tolist()
        ([1.0, 1.0], [0.0, 0.0])
        >>> Values(scale=100).agree(first, first + 3).tolist()
        [1.0, 1.0]
    """

    tolerance: float = _TOLERANCE
    scale: float | None = None
    agreement = "equal within the tolerance"
    no_confidence = "a value does not tell how wrong it is"

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise UsageError(f"tolerance must not be negative, got {self.tolerance}")
        if self.scale is not None and (self.scale < 0 or self.scale == math.inf):
            raise UsageError(f"scale must be a finite number and not negative, got {self.scale}")

    @property
    def needs_scale(self) -> bool:  # type: ignore[override]
        """Whether no scale is stated."""
        return self.scale is None

    def with_scale(self, scale: float) -> Values:
        """These values with that scale, unless one is stated."""
        return replace(self, scale=scale) if self.scale is None else self

    def unit(self, prediction: Tensor) -> float:
        """That of other kinds, times the scale; a prediction that is constant has the scale 1."""
        values = prediction.detach()
        scale = float(values.std(correction=0)) if self.scale is None else self.scale
        return (scale or 1) * super().unit(values)

    def agree(self, first: Tensor, second: Tensor) -> Tensor:
        """Share of the sample's values that are equal within the tolerance."""
        scale = first.std(correction=0) if self.scale is None else self.scale
        allowed = self.tolerance * scale
        same = (first - second).abs() <= allowed
        return same.reshape(len(same), -1).float().mean(dim=1)

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Half the mean squared difference in units of the scale, or as of other kinds if none."""
        if not self.scale:
            return super().distance(student, teacher)
        return 0.5 * F.mse_loss(student, teacher) / self.scale ** 2


@final
@dataclass(frozen=True)
class Direction(PredictionKind):
    """A vector whose direction matters, such as an embedding.

    Args:
        cosine: Smallest cosine at which two vectors count as the same.

    Example:
        >>> kind = Direction()
        >>> kind.agree(torch.tensor([[1.0, 0.0]]), torch.tensor([[5.0, 0.1]])).tolist()
        [1.0]
    """

    cosine: float = _SAME_DIRECTION
    agreement = "same direction"
    no_confidence = "a direction does not tell how wrong it is"

    def agree(self, first: Tensor, second: Tensor) -> Tensor:
        """1 for the samples whose vectors have the same direction."""
        return (F.cosine_similarity(first.flatten(1), second.flatten(1)) >= self.cosine).float()

    def center(self, prediction: Tensor) -> Tensor:
        """Normalize the length, which does not matter."""
        return F.normalize(prediction.flatten(1))

    def unit(self, prediction: Tensor) -> float:
        """1: half the squared distance of two unit vectors is one minus their cosine."""
        del prediction
        return 1.0

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One minus the mean cosine."""
        return 1 - F.cosine_similarity(student.flatten(1), teacher.flatten(1)).mean()


def _mean_per_sample(values: Tensor) -> Tensor:
    """The mean over all dimensions but the first, (N,); written so that the batch may vary."""
    return values.reshape(values.shape[0], -1).mean(dim=1)
