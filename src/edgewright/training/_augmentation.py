"""Augmentation and mixing of training samples."""

from __future__ import annotations

from typing import Any, final

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgewright.core import Settings
from edgewright.task import AugmentationPolicy, View


@final
class Augmentation(Settings):
    """Random augmentation of the training samples, against overfitting.

    `Training` also accepts the policy alone: ``augment="rand_augment"``, ``augment=False``.

    Attributes:
        policy: ``standard`` crops and mirrors images if the split holds uint8 images and the
            targets are not about positions in them (classes, but not pixels or boxes).
            ``rand_augment`` (Cubuk et al. 2020) also distorts them with torchvision and raises for
            other data; use it for long trainings on color images. None disables augmentation.
        mixup: Alpha of mixup (Zhang et al. 2018), which mixes pairs of samples and their labels; 0
            disables it. It helps long trainings (0.2 is common) and hurts short ones.
        cutmix: Alpha of CutMix (Yun et al. 2019), which pastes a box of one image into another; 0
            disables it. With mixup also set, each batch randomly uses one of the two.

    Raises:
        UsageError: An unknown policy, or a negative alpha.

    Example:
        >>> Augmentation(mixup=0.2).is_mixing, Augmentation(policy=None).view(3)
        (True, None)
    """

    policy: AugmentationPolicy | None = "standard"
    mixup: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    cutmix: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _from_policy(cls, given: Any) -> Any:
        if given is True:
            return {}
        if given is False or given is None:
            return {"policy": None}
        return {"policy": given} if isinstance(given, str) else given

    @model_serializer(mode="wrap")
    def _write_policy(self, write: SerializerFunctionWrapHandler) -> Any:
        return write(self) if self.is_mixing else self.policy or False

    @property
    def is_mixing(self) -> bool:
        """Whether samples are mixed with each other."""
        return bool(self.mixup or self.cutmix)

    @property
    def mixing_names(self) -> tuple[str, ...]:
        """The kinds of mixing that are enabled: ``mixup``, ``cutmix``."""
        return tuple(name for name in ("mixup", "cutmix") if getattr(self, name))

    def view(self, number: int) -> View | None:
        """The view of the inputs with the given number; None without augmentation.

        Example:
            >>> Augmentation(policy="rand_augment").view(3)
            View(number=3, policy='rand_augment')
        """
        return None if self.policy is None else View(number, self.policy)
