"""Devices, precision and compilation of a training."""

from __future__ import annotations

from typing import Any, Literal, cast, final

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgewright.core import Settings

ComputePrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


@final
class Compute(Settings):
    """Devices, precision and compilation: how fast a training runs, not what it trains.

    `Training` also accepts the accelerator alone: ``compute="cpu"``.

    Attributes:
        accelerator: Kind of device; ``auto`` uses the best one available.
        devices: Number of devices that share each batch, one process per device. Losses and
            gradients are averaged over the whole batch. Batch norm, dropout, mixing, and
            objectives that compare samples see one device's samples only; the first device's
            running statistics are kept.
        precision: ``auto`` is bf16-mixed on a CUDA device that supports it, else 32-true.
            ``fastest`` is bf16-mixed where that is faster: on a CUDA device that supports it, and
            on a CPU with bfloat16 instructions if a measured pass takes less time. As this
            depends on timing, weights may differ by rounding from run to run; the record states
            the decision.
        compile: Run training passes through ``torch.compile``; True raises if that is impossible.
            ``auto`` compiles if it seems worthwhile, measures, and keeps the faster version. As
            this depends on timing, weights may differ by rounding from run to run; the record
            states the decision. Choose False if results must be exactly reproducible.
        channels_last: Use the channels-last memory format for 4-D tensors during training, if the
            model supports it.

    Raises:
        UsageError: An unknown name, or a value out of range.

    Example:
        >>> Compute(accelerator="cuda", devices=2, compile="auto").precision
        'auto'
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    precision: Literal["auto", "fastest", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    compile: bool | Literal["auto"] = False
    channels_last: bool = True

    @model_validator(mode="before")
    @classmethod
    def _from_accelerator(cls, given: Any) -> Any:
        return {"accelerator": given} if isinstance(given, str) else given

    @model_serializer(mode="wrap")
    def _write_accelerator(self, write: SerializerFunctionWrapHandler) -> Any:
        is_plain = self == Compute(accelerator=self.accelerator)
        return self.accelerator if is_plain else write(self)

    def resolve_precision(self) -> ComputePrecision:
        """Resolve ``auto`` and ``fastest`` to the precision used on this machine.

        On a CPU ``fastest`` still has to be measured; see `find_fastest_precision`.

        Example:
            >>> Compute(accelerator="cpu").resolve_precision()
            '32-true'
        """
        if self.precision not in {"auto", "fastest"}:
            return cast("ComputePrecision", self.precision)
        on_cuda = self.accelerator in {"auto", "cuda"} and torch.cuda.is_available()
        return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported() else "32-true"


def has_bfloat16_instructions() -> bool:
    """Whether this machine's CPU multiplies bfloat16 matrices faster than float32 ones."""
    return bool(torch.cpu._is_avx512_bf16_supported()
                or torch.cpu._is_amx_tile_supported())
