"""How training samples are varied and mixed."""

from __future__ import annotations

from typing import Any, final

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgewright.core import Settings
from edgewright.task import Policy, View


@final
class Augmentation(Settings):
    """Random variations of the training samples, which make up for having few of them.

    In `Training` a policy alone stands for it: ``augment="rand_augment"``, ``augment=False``.

    Attributes:
        policy: ``standard`` crops and mirrors images, where the split holds them as such;
            ``rand_augment`` (Cubuk et al. 2020) distorts them before that, by torchvision, and
            refuses other data; None leaves samples as they are.
        mixup: Alpha of mixup (Zhang et al. 2018), which mixes samples and labels in pairs; 0 does
            not. Long trainings gain from it (0.2 is common), short ones lose.
        cutmix: Alpha of CutMix (Yun et al. 2019), which pastes a box of one image into another;
            with mixup too, every batch draws one of both.

    Raises:
        UsageError: An unknown policy, or a negative alpha.

    Example:
        >>> Augmentation(mixup=0.2).is_mixing, Augmentation(policy=None).view(3)
        (True, None)
    """

    policy: Policy | None = "standard"
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
    def _policy_alone(self, write: SerializerFunctionWrapHandler) -> Any:
        return write(self) if self.is_mixing else self.policy or False

    @property
    def is_mixing(self) -> bool:
        """Whether samples are mixed with each other."""
        return bool(self.mixup or self.cutmix)

    @property
    def mixing_names(self) -> tuple[str, ...]:
        """The kinds of mixing that are on: ``mixup``, ``cutmix``."""
        return tuple(name for name in ("mixup", "cutmix") if getattr(self, name))

    def view(self, number: int) -> View | None:
        """The variation of the inputs with a number; None where they stay as they are.

        Example:
            >>> Augmentation(policy="rand_augment").view(3)
            View(number=3, policy='rand_augment')
        """
        return None if self.policy is None else View(number, self.policy)
