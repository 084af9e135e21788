"""The settings of distillation."""

from __future__ import annotations

from typing import Literal, Self, final

from pydantic import Field, model_validator

from edgewright.core import Settings
from edgewright.errors import UsageError


@final
class Distillation(Settings):
    """The distillation losses, their weights, and the temperature.

    With z the student's outputs and v the teacher's, the loss is ::

        (1 - alpha) * loss(z, targets) + alpha * mean over the predictions of soft_loss(z, v)
            + feature_weight * mean of feature_loss over the pairs

    averaged over the student's exits, each of which learns from the teacher's final output. The
    first loss is that of the task's goal. The soft loss is the logit loss for predictions with
    classes (for segmentations at every pixel; for yes-or-no answers with two classes); for values
    half the squared difference in units of the teacher's variance; for embeddings one minus the
    cosine. With ``alpha=1`` no targets are needed (except by ``decoupled``); with ``mse`` or
    ``smooth_l1`` the outputs then need not fit the goal, and epochs are compared by this loss on
    the validation split.

    The defaults suit most classifiers. If accuracy matters more than training time, add
    ``features="attention"`` (or ``"hints"`` for architectures of one family).

    Attributes:
        logits: The loss on the outputs: ``hinton`` (the standard), ``decoupled``, ``standardized``
            (if the student is much smaller and cannot match the teacher's logit scale), ``mse`` or
            ``smooth_l1`` (regress the outputs themselves, whatever they mean). See the functions of
            these names.
        temperature: Divides the logits of both before the softmax; a higher value gives more weight
            to the teacher's probabilities of the wrong classes. The paper of ``standardized`` uses
            2.
        alpha: Weight of the teacher in the loss; the targets have weight ``1 - alpha``.
        target_weight: Weight of the target class's part of ``decoupled``, alpha in its paper.
        nontarget_weight: Weight of the other classes' part of ``decoupled``, beta in its paper.
        features: Loss on tensors inside the network, in `fit` only: ``hints``, ``attention``,
            ``relational`` or ``similarity``; None for no feature loss.
        feature_weight: Weight of the feature loss; None for the papers' values: 1000 for attention,
            25 for relational, 3000 for similarity; and 10 for hints, whose paper has none.
        pairs: Pairs of node names, the student's and the teacher's, whose tensors are compared;
            empty finds them automatically.
        self_weight: Weight of self-distillation from the last exit to the earlier ones, if there
            are any; 0 for none. See `SelfDistillationLoss`.

    Raises:
        UsageError: A value out of range, an unknown name, or pairs without features.

    Example:
        >>> Distillation().temperature, Distillation().alpha
        (4.0, 0.9)
        >>> Distillation(pairs=(("relu", "relu"),))
        Traceback (most recent call last):
            ...
        edgewright.errors.SettingsError: Distillation: pairs are given, but no features; set features='hints' or another, or remove the pairs
    """  # noqa: E501 - the message is one line

    logits: Literal["hinton", "decoupled", "standardized", "mse", "smooth_l1"] = "hinton"
    temperature: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    alpha: float = Field(default=0.9, ge=0, le=1)
    target_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    nontarget_weight: float = Field(default=8.0, ge=0, allow_inf_nan=False)
    features: Literal["hints", "attention", "relational", "similarity"] | None = None
    feature_weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    pairs: tuple[tuple[str, str], ...] = ()
    self_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _pairs_are_of_features(self) -> Self:
        if self.pairs and self.features is None:
            raise UsageError("Distillation: pairs are given, but no features; set "
                             "features='hints' or another, or remove the pairs")
        return self
