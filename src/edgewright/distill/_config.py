"""What is learnt from a teacher, and how."""

from __future__ import annotations

from typing import Literal, Self, final

from pydantic import Field, model_validator

from edgewright.core import Settings
from edgewright.errors import UsageError


@final
class Distillation(Settings):
    """How much to learn from the teacher, from which of its tensors, and how softly.

    With z the student's logits and v the teacher's, the loss is ::

        (1 - alpha) * CE(z, label) + alpha * logit_loss(z, v)
            + feature_weight * mean of feature_loss over the pairs

    averaged over the student's exits, each of which learns from the teacher's last output. With
    ``alpha=1`` the labels are not looked at; with ``mse`` or ``smooth_l1`` the outputs need then be
    no classes (a regression), and epochs are compared by this loss on the validation split.

    Attributes:
        logits: ``hinton``, ``decoupled``, ``standardized``; ``mse`` or ``smooth_l1`` fit the
            outputs themselves. See the functions of these names.
        temperature: Divides the logits of both before the softmax; higher shows more of what the
            teacher thinks of the wrong classes. The paper of ``standardized`` uses 2.
        alpha: Share of the teacher in the loss; the labels have the rest.
        target_weight: Weight of the target class's part of ``decoupled``, alpha in its paper.
        nontarget_weight: Weight of the other classes' part of ``decoupled``, beta in its paper.
        features: Tensors inside the network that are to agree too, in `fit` alone: ``hints``,
            ``attention``, ``relational`` or ``similarity``; None for none.
        feature_weight: Of the features; None for the papers' own: 1000 for attention, 25 for
            relational, 3000 for similarity; and 10 for hints, whose paper has none.
        pairs: Names of nodes, the student's and the teacher's, whose tensors are to agree; empty
            finds them.
        self_weight: Of the last exit as a teacher of the earlier ones, where there are any; 0 for
            none. See `SelfDistillationLoss`.

    Raises:
        UsageError: A value out of its range, an unknown name, or pairs without features.

    Example:
        >>> Distillation().temperature, Distillation().alpha
        (4.0, 0.9)
        >>> Distillation(pairs=(("relu", "relu"),))
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: Distillation: pairs are given, but no features; set features='hints' or another, or leave the pairs out
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
                             "features='hints' or another, or leave the pairs out")
        return self
