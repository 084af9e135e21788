"""How candidates are compared if the validation samples flatter them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, final

import torch
from numpy.typing import NDArray

from edgewright.core import Measurement
from edgewright.errors import UsageError
from edgewright.goals import measure_scales
from edgewright.pipeline import nest_outputs
from edgewright.runtime import Session
from edgewright.task import Split, Task

_BATCH: Final = 256
_SHARE: Final = 0.65  # of the first sample in a mixture
_DEVIATIONS: Final = 4.0  # of a difference that chance does not explain


def is_flattered(validation: Measurement | None, test: Measurement | None) -> bool:
    """Whether a model is better on the validation samples than chance explains.

    This is so if it was trained on them: published weights have seen all training images, and a
    validation split is usually taken from these. What a candidate loses is then underestimated.
    Only shares of samples, such as the accuracy, are compared: the difference of two shares has the
    standard deviation ``sqrt(p (1 - p) (1 / n + 1 / m))``.

    Args:
        validation: The original's metric on the validation split.
        test: The same metric on the test split.

    Example:
        >>> def accuracy(value, samples):
        ...     return Measurement(name="accuracy", value=value, kind="measured", samples=samples)
        >>> is_flattered(accuracy(0.996, 5000), accuracy(0.917, 10000))
        True
        >>> is_flattered(accuracy(0.93, 300), accuracy(0.91, 300))
        False
    """
    if validation is None or test is None or validation.unit != "fraction":
        return False
    n, m = validation.samples, test.samples
    if not n or not m or not validation.higher_is_better:
        return False
    share = (validation.value * n + test.value * m) / (n + m)
    deviation = math.sqrt(max(share * (1 - share), 1 / (n + m)) * (1 / n + 1 / m))
    return validation.value - test.value > _DEVIATIONS * deviation


@final
class AgreementJudge:
    """Scores a file by its agreement with the original on inputs that neither was trained on.

    The inputs are mixtures ``0.65 a + 0.35 b`` of two validation samples, as in mixup (Zhang et al.
    2018): the original has not seen them, and many are close to a boundary between decisions.

    Args:
        original: The original's file.
        task: Its validation samples are mixed; its goal says what agreement is.
        seed: Seed of the pairs.

    Raises:
        UsageError: An input is not floating point, so that samples cannot be mixed.
    """

    def __init__(self, original: Session, task: Task, seed: int) -> None:
        self._goal, self._split, self._seed = task.goal, task.val, seed
        if not can_mix(task.val):
            raise UsageError("samples with integer inputs or of varying size cannot be mixed")
        self._reference = [nest_outputs(original.model, original(*inputs).outputs)
                           for inputs in self._mixtures()]
        self._scales = measure_scales(map(task.goal.predictions, self._reference))

    def score(self, session: Session) -> float:
        """The mean agreement of all predictions, between 0 and 1."""
        shares = []
        for inputs, expected in zip(self._mixtures(), self._reference, strict=True):
            found = nest_outputs(session.model, session(*inputs).outputs)
            shares += [agreement.shares
                       for agreement in self._goal.agree(expected, found, self._scales)]
        return float(torch.cat(shares).mean())

    def _mixtures(self) -> Iterator[tuple[NDArray[Any], ...]]:
        partners = self._split.select(self._split.order(self._seed))
        for batch, other in zip(self._split.batches(_BATCH), partners.batches(_BATCH),
                                strict=True):
            yield tuple((_SHARE * one + (1 - _SHARE) * two).numpy()
                        for one, two in zip(batch.inputs, other.inputs, strict=True))


def can_mix(split: Split) -> bool:
    """Whether all inputs are floating point and of one size."""
    return not split.varies_sizes and all(
        tensor.is_floating_point() for tensor in split.example())
