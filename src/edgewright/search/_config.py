"""The settings of a search."""

from __future__ import annotations

from typing import Final, Literal, final

from pydantic import Field

from edgewright.core import Settings
from edgewright.distill import Distillation
from edgewright.exits import EarlyExits
from edgewright.quantization import Quantization
from edgewright.training import SGD, Compute, Training

_COMPUTE: Final = Compute(precision="fastest", compile="auto")
# Fitted networks are close to a good solution, and large steps lead away from it: ResNet-20 without
# three blocks, at 90.0 % after the fit, fell to 64 % in two epochs at 0.05.
_TRAINING: Final = Training(time=60, lr=0.01, optimizer=SGD(nesterov=True), schedule="one_cycle",
                            compute=_COMPUTE)
_LARGER_LR: Final = 0.015


@final
class Search(Settings):
    """The settings of a search; the defaults suit most tasks.

    Attributes:
        quantize: The quantization of every candidate, except for the bits of individual weights.
        training: The training of every candidate in the race; the search sets its time.
        final_training: The training of the best candidate; the search sets its time. None for
            ``training`` if that was chosen, else for one with larger steps, as it is longer.
        quantized_training: The training with quantization of the best candidate; the search sets
            its time.
        distillation: The losses of the teacher in the trainings in floating point. None is the
            default losses, with hints where that helps: for classifiers that learn from the
            original and keep all of its channels.
        exits: The early exits that variants of the best candidate are tried with; None tries none.
        ignore: Names or patterns of layers whose output channels and blocks are kept.
        samples: Number of training samples that damages are predicted on.
        race: Share of the time in which candidates compete; the winner is trained in the rest.
        candidates: Largest number of candidates in the first round.
        survivors: One of this many candidates survives each round.
        sampler: What proposes how damages are weighed: ``gp``, a Gaussian process over the scores
            so far, or ``random``, as a baseline.

    Example:
        >>> Search(race=0.2).race
        0.2
    """

    quantize: Quantization = Quantization()
    training: Training = _TRAINING
    final_training: Training | None = None
    quantized_training: Training = Training(time=60, lr=0.001, weight_decay=1e-5, clip_norm=1.0,
                                            compute=_COMPUTE)
    distillation: Distillation | None = None
    exits: EarlyExits | None = EarlyExits(places=2)
    ignore: tuple[str, ...] = ()
    samples: int = Field(default=512, ge=2)
    race: float = Field(default=0.3, gt=0, lt=1)
    candidates: int = Field(default=9, ge=1)
    survivors: int = Field(default=3, ge=2)
    sampler: Literal["gp", "random"] = "gp"

    def keep_last_epochs(self) -> Search:
        """The settings, with trainings that do not compare epochs on the validation samples.

        If the model was trained on those, weights that were fitted or trained little seem better on
        them than they are. All trainings of the search end with small steps.

        Example:
            >>> Search().keep_last_epochs().quantized_training.keep
            'last'
        """
        final_training = self.resolve_final_training()
        return self.replace(training=self.training.replace(keep="last"),
                            final_training=final_training.replace(keep="last"),
                            quantized_training=self.quantized_training.replace(keep="last"))

    def resolve_final_training(self) -> Training:
        """The training of the best candidate.

        Example:
            >>> Search().resolve_final_training().lr
            0.015
            >>> Search(training=Training(time=60, lr=0.001)).resolve_final_training().lr
            0.001
        """
        if self.final_training is not None:
            return self.final_training
        return (_TRAINING.replace(lr=_LARGER_LR) if self.training == _TRAINING
                else self.training)
