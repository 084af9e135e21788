"""How to train: optimiser, schedule, precision."""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field

from edgewright.training._settings import Settings

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@final
class Training(Settings):
    """The settings of one training run.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Samples a step. A last batch of a single sample is left out, for batch norm
            cannot use it.
        lr: Peak learning rate.
        optimizer: ``sgd`` with ``momentum``, or ``adamw``.
        momentum: Of SGD.
        weight_decay: On tensors of two or more dimensions only (not on biases and norms).
        schedule: ``cosine`` to 0 (Loshchilov & Hutter 2017), ``one_cycle`` (Smith & Topin 2018,
            learning rate only), or ``constant``; by step.
        warmup_epochs: Linear rise of the learning rate; ``one_cycle`` has its own.
        label_smoothing: Share of the target spread over all classes.
        augment: Vary the training inputs, where the split knows how.
        patience: Stop after so many epochs without a better validation accuracy.
        precision: ``auto`` is bf16-mixed on a CUDA device that has it, else 32-true.
        accelerator: Device; ``auto`` takes the best there is.
        clip_norm: Largest norm of the gradient; None leaves it alone.
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
    lr: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, allow_inf_nan=False)
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment: bool = True
    patience: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    channels_last: bool = True

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
