"""The settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, final

from pydantic import BeforeValidator, Field, model_validator

from edgewright.core import Settings, parse_quantity
from edgewright.errors import UsageError
from edgewright.training._augmentation import Augmentation
from edgewright.training._compute import Compute
from edgewright.training._optimizer import OPTIMIZERS, SGD, OptimizerConfig
from edgewright.training._record import EpochRecord
from edgewright.training._schedule import SCHEDULES, CosineSchedule, LearningRateSchedule, Position


def _parse_seconds(value: Any) -> Any:
    return parse_quantity(value, "duration") if isinstance(value, str) else value


@final
class Training(Settings):
    """The settings of one training run.

    Related settings are grouped into objects. The name of a built-in object stands for that object
    with its defaults, in Python and in a recipe's YAML::

        epochs: 60
        lr: 0.1
        optimizer: sgd                                  # or {sgd: {momentum: 0.8}}
        schedule: {cosine: 1}                           # a warm-up of one epoch; or cosine
        augment: {policy: standard, mixup: 0.2}         # or standard, rand_augment, false
        compute: cpu                                    # or {accelerator: cuda, devices: 2}

    To improve a result, first train longer, then tune the learning rate (try a third and three
    times the value); the other settings matter less.

    Attributes:
        epochs: Passes over the training split; with ``time``, the maximum. None, the default with
            ``time``, trains until the time is used.
        time: Limit on the training's duration, for example "90 s", "20 min" or "1 h"; a number is
            in seconds. It includes preparation, validation, averaging and checkpoints. The schedule
            follows the share of the time that is used, so that it reaches its end when the time
            does, on any machine; ``warmup_epochs`` and ``rise_epochs`` remain epochs. The training
            ends after the last step that leaves time for validation, also within an epoch. How many
            steps fit depends on the machine, so runs are not repeatable exactly.
        batch_size: Samples per step. A last batch of a single sample is skipped, because batch norm
            cannot process it; the same holds for a batch with fewer than two samples per part of
            ``accumulate`` and per device.
        accumulate: Number of parts that a batch is split into to save memory; gradients are
            accumulated over the parts before the step. Without batch norm the step is the same;
            objectives that compare samples compare those within a part.
        lr: Peak learning rate.
        optimizer: ``sgd`` (`SGD`), ``adamw`` (`AdamW`), or an `OptimizerConfig` of your own. SGD is
            the usual choice for convolutional networks, AdamW (with a smaller ``lr``) for
            transformers.
        weight_decay: Applied to tensors of two or more dimensions only (not to biases and norms).
        schedule: ``cosine``, ``one_cycle``, ``constant``, ``plateau`` (`CosineSchedule` and so
            on, which also configure warm-up), or a `LearningRateSchedule` of your own.
        label_smoothing: Share of the target that is distributed over all classes.
        augment: Augmentation and mixing of the training samples: an `Augmentation`, or its policy
            alone; True is ``standard``, False disables augmentation.
        ema: Decay per step of an exponential moving average of weights and buffers (0.999 averages
            over about a thousand steps); the average is then validated and returned. None uses the
            weights themselves.
        patience: Stop after this many epochs without a better validation score: accuracy, or the
            score that the objective defines. None trains for all epochs.
        clip_norm: Maximum norm of the gradient; None does not clip.
        keep: ``best`` keeps the weights of the epoch with the best validation score. ``last`` keeps
            those of the last epoch: for schedules that end with small steps, if the validation
            samples cannot tell good epochs, for example because the model was trained on them
            before.
        compute: Devices, precision, compilation: a `Compute`, or its accelerator alone.

    Raises:
        UsageError: An unknown name, a value out of range, or neither ``epochs`` nor ``time``.

    Example:
        >>> Training(epochs=6, lr=0.01).optimizer
        SGD(momentum=0.9, nesterov=False)
        >>> long = Training(optimizer=SGD(nesterov=True), schedule=CosineSchedule(warmup_epochs=1),
        ...                 augment=Augmentation(mixup=0.2), compute="cpu")
        >>> long.model_dump(include={"optimizer", "schedule", "compute"})
        {'optimizer': {'sgd': {'momentum': 0.9, 'nesterov': True}}, 'schedule': {'cosine': 1.0}, 'compute': 'cpu'}
        >>> short = Training(time="20 min")
        >>> short.epochs, short.time
        (None, 1200.0)
        >>> Training(epochs=0)
        Traceback (most recent call last):
            ...
        edgewright.errors.SettingsError: Training: epochs: Input should be greater than or equal to 1, got 0
    """  # noqa: E501 - the messages are one line

    epochs: int | None = Field(default=5, ge=1)
    time: Annotated[float | None, BeforeValidator(_parse_seconds)] = Field(
        default=None, gt=0, allow_inf_nan=False)
    batch_size: int = Field(default=128, ge=1)
    accumulate: int = Field(default=1, ge=1)
    lr: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    optimizer: Annotated[OptimizerConfig, OPTIMIZERS] = SGD()
    weight_decay: float = Field(default=5e-4, ge=0, allow_inf_nan=False)
    schedule: Annotated[LearningRateSchedule, SCHEDULES] = CosineSchedule()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment: Augmentation = Augmentation()
    ema: float | None = Field(default=None, gt=0, lt=1)
    patience: int | None = Field(default=None, ge=1)
    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    keep: Literal["best", "last"] = "best"
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _default_epochs(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("time") is not None:
            return {"epochs": None, **given}
        return given

    @model_validator(mode="after")
    def _check_end(self) -> Self:
        if self.epochs is None and self.time is None:
            raise UsageError("Training: epochs=None needs a limit on the time; give epochs or time")
        return self

    def learning_rate(self, step: int, steps_per_epoch: int,
                      history: tuple[EpochRecord, ...] = (),
                      elapsed: float | None = None) -> float:
        """The learning rate of a step.

        Args:
            step: Index of the step, counted from 0 over the whole run.
            steps_per_epoch: Steps per epoch.
            history: The epochs before this step's epoch.
            elapsed: Share of the time that is used, if ``time`` is limited.

        Example:
            >>> config = Training(epochs=2, lr=1.0)
            >>> [round(config.learning_rate(step, 2), 3) for step in range(4)]
            [1.0, 0.854, 0.5, 0.146]
        """
        return self.lr * self.schedule.factor(
            Position(step, steps_per_epoch, self.epochs, history, elapsed))
