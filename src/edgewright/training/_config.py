"""How to train: optimiser, schedule, precision."""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field

from edgewright.core import Settings
from edgewright.task import Policy, View

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@final
class Training(Settings):
    """The settings of one training run.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Samples a step. A last batch of a single sample is left out, for batch norm
            cannot use it; likewise one with fewer than two samples for each part of ``accumulate``
            and each of the ``devices``.
        accumulate: Parts of a batch, run one after the other and then followed together, so that
            less memory is needed. Without batch norm the step is the same; objectives that relate
            samples to each other relate those of a part.
        lr: Peak learning rate.
        optimizer: ``sgd`` with ``momentum``, or ``adamw``.
        momentum: Of SGD.
        weight_decay: On tensors of two or more dimensions only (not on biases and norms).
        schedule: ``cosine`` to 0 (Loshchilov & Hutter 2017), ``one_cycle`` (Smith & Topin 2018,
            learning rate only), ``constant``, all by step, or ``plateau``: a tenth after every
            ``plateau_epochs`` without a better validation score (as He et al. 2016).
        plateau_epochs: Counted only where the objective's constraints have settled.
        warmup_epochs: Linear rise of the learning rate; the length of the rise of ``one_cycle``,
            for which 0 is three tenths of the run.
        label_smoothing: Share of the target spread over all classes.
        mixup: Alpha of mixup (Zhang et al. 2018), which mixes samples and labels in pairs; 0 does
            not.
        cutmix: Alpha of CutMix (Yun et al. 2019), which pastes a box of one image into another;
            with mixup too, every batch draws one of both.
        ema: Decay of an exponential moving average of weights and buffers by step (0.999 is one of
            about a thousand steps), which is then what is validated and what training gives;
            None for the weights themselves.
        augment: Vary the training inputs: ``standard`` (or True) crops and mirrors images, where
            the split holds them as such; ``rand_augment`` (Cubuk et al. 2020) distorts them before
            that, by torchvision, and refuses other data.
        patience: Stop after so many epochs without a better validation score: accuracy, or what
            else the objective is judged by.
        precision: ``auto`` is bf16-mixed on a CUDA device that has it, else 32-true.
        accelerator: Kind of device; ``auto`` takes the best there is.
        devices: How many of them share each batch, one process each. Means over the samples and
            gradients are those of the whole batch. Batch norm, dropout, mixing, and objectives
            that relate samples see a device's share; the first device's running statistics count.
        clip_norm: Largest norm of the gradient; None leaves it alone.
        compile: Run training passes through ``torch.compile``; True refuses where that is not
            possible. ``auto`` compiles where that is thought to pay, tries it, and keeps what is
            faster; as that is decided by the clock, weights may differ in rounding from run to
            run, and the record says what was decided.
        channels_last: Memory format of 4-d tensors during training, where the model allows it.

    Raises:
        UsageError: An unknown name, or a value out of its range.

    Example:
        >>> Training(epochs=2).lr
        0.05
        >>> Training(epochs=0)
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: Training: epochs: Input should be greater than or equal to 1, got 0
    """  # noqa: E501 - the message is one line

    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=128, ge=1)
    accumulate: int = Field(default=1, ge=1)
    lr: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, allow_inf_nan=False)
    schedule: Literal["cosine", "one_cycle", "constant", "plateau"] = "cosine"
    plateau_epochs: int = Field(default=5, ge=1)
    warmup_epochs: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    cutmix: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    ema: float | None = Field(default=None, gt=0, lt=1)
    augment: bool | Policy = True
    patience: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    compile: bool | Literal["auto"] = False
    channels_last: bool = True

    def view(self, number: int) -> View | None:
        """The variation of the inputs with a number; None where they stay as they are.

        Example:
            >>> Training(augment="rand_augment").view(3), Training(augment=False).view(3)
            (View(number=3, policy='rand_augment'), None)
        """
        if not self.augment:
            return None
        return View(number, "standard" if self.augment is True else self.augment)

    def resolved_precision(self) -> Precision:
        """The precision that ``auto`` stands for on this machine.

        Example:
            >>> Training(accelerator="cpu").resolved_precision()
            '32-true'
        """
        if self.precision != "auto":
            return self.precision
        on_cuda = self.accelerator in {"auto", "cuda"} and torch.cuda.is_available()
        return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported() else "32-true"
