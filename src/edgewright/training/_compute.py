"""Where a training is computed, and how."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgewright.core import Settings

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@final
class Compute(Settings):
    """Devices, precision and compilation; none of them changes what is trained, only how fast.

    In `Training` the kind of device alone stands for it: ``compute="cpu"``.

    Attributes:
        accelerator: Kind of device; ``auto`` takes the best there is.
        devices: How many of them share each batch, one process per device. Means over the samples
            and gradients are those of the whole batch. Batch norm, dropout, mixing, and objectives
            that relate samples see a device's share; the first device's running statistics count.
        precision: ``auto`` is bf16-mixed on a CUDA device that has it, else 32-true.
        compile: Run training passes through ``torch.compile``; True refuses where that is not
            possible. ``auto`` compiles where that is thought to pay, tries it, and keeps what is
            faster; as that is decided by the clock, weights may differ in rounding from run to
            run, and the record says what was decided.
        channels_last: Memory format of 4-d tensors during training, where the model allows it.

    Raises:
        UsageError: An unknown name, or a value out of its range.

    Example:
        >>> Compute(accelerator="cuda", devices=2, compile="auto").precision
        'auto'
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    compile: bool | Literal["auto"] = False
    channels_last: bool = True

    @model_validator(mode="before")
    @classmethod
    def _from_accelerator(cls, given: Any) -> Any:
        return {"accelerator": given} if isinstance(given, str) else given

    @model_serializer(mode="wrap")
    def _accelerator_alone(self, write: SerializerFunctionWrapHandler) -> Any:
        is_plain = self == Compute(accelerator=self.accelerator)
        return self.accelerator if is_plain else write(self)

    def resolve_precision(self) -> Precision:
        """The precision that ``auto`` stands for on this machine.

        Example:
            >>> Compute(accelerator="cpu").resolve_precision()
            '32-true'
        """
        if self.precision != "auto":
            return self.precision
        on_cuda = self.accelerator in {"auto", "cuda"} and torch.cuda.is_available()
        return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported() else "32-true"
