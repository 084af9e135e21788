"""Quantization methods: post-training quantization and quantization-aware training."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, final

from pydantic import Field

from edgewright.core import Choice, Positional, Settings
from edgewright.training import Training


@final
class Nearest(Settings):
    """Round each weight to the nearest integer.

    Example:
        >>> Nearest()
        Nearest()
    """


@final
class AdaRound(Positional):
    """Learn for each weight whether it is rounded up or down, layer by layer (Nagel et al. 2020).

    Use it for weights of 4 bits or fewer without training. `BRECQ` is usually a little more
    accurate.

    Attributes:
        steps: Gradient steps per layer.

    Example:
        >>> AdaRound(steps=500)
        AdaRound(steps=500)
    """

    steps: int = Field(default=1000, ge=1)

    def __init__(self, steps: int = 1000) -> None:
        self._set(steps=steps)

    def __str__(self) -> str:
        """In words."""
        return "adaround"


@final
class BRECQ(Positional):
    """Learn for each weight whether it is rounded up or down, block by block (Li et al. 2021).

    Use it for weights of 4 bits or fewer without training.

    Attributes:
        steps: Gradient steps per block.

    Example:
        >>> BRECQ()
        BRECQ(steps=1000)
    """

    steps: int = Field(default=1000, ge=1)

    def __init__(self, steps: int = 1000) -> None:
        self._set(steps=steps)

    def __str__(self) -> str:
        """In words."""
        return "brecq"


Rounding: TypeAlias = Annotated[Nearest | AdaRound | BRECQ, Choice(
    nearest=Nearest, adaround=AdaRound, brecq=BRECQ)]


@final
class PTQ(Settings):
    """Post-training quantization: calibration, without gradient steps through the whole network.

    The defaults are usually enough for 8 bits. If accuracy drops, try ``rounding="brecq"`` for
    weights of few bits, and ``equalize`` if the ranges of channels differ a lot (depthwise
    convolutions).

    Attributes:
        equalize: Before calibration, equalize the channel ranges of neighboring layers.
        correct_bias: After quantization, subtract the mean error of each output channel from the
            bias.
        rounding: How weights are rounded: ``nearest``, ``adaround`` or ``brecq``, or `AdaRound`
            and `BRECQ` with their options.

    Raises:
        UsageError: An unknown name, or a value out of range.

    Example:
        >>> PTQ(rounding="adaround").rounding
        AdaRound(steps=1000)
    """

    equalize: bool = False
    correct_bias: bool = False
    rounding: Rounding = Nearest()

    def __str__(self) -> str:
        """The method, and the rounding unless it is to the nearest."""
        return "ptq" if isinstance(self.rounding, Nearest) else f"ptq ({self.rounding})"


@final
class QAT(Settings):
    """Quantization-aware training: calibrate, then train with fake quantizers.

    Use it if post-training quantization, with learned rounding for few bits, loses too much
    accuracy and there is time to train.

    Attributes:
        quantizer: What is learned besides the weights: step sizes (``lsq``), step sizes and
            offsets of the activations (``lsq+``), or upper limits of the activations (``pact``).
        freeze_norms_after: Fraction of the training after which the running statistics of batch
            norms are frozen; 0 freezes them from the start, 1 never.
        training: The training settings.

    Raises:
        UsageError: An unknown name, or a value out of range.

    Example:
        >>> QAT(training=Training(epochs=5)).quantizer
        'lsq'
    """

    quantizer: Literal["lsq", "lsq+", "pact"] = "lsq"
    freeze_norms_after: float = Field(default=0.5, ge=0, le=1)
    training: Training = Training(epochs=2, lr=0.001, weight_decay=1e-5, clip_norm=1.0)

    def __str__(self) -> str:
        """The method and the quantizer."""
        return f"qat ({self.quantizer})"


METHODS: Final = Choice(ptq=PTQ, qat=QAT)
Method: TypeAlias = Annotated[PTQ | QAT, METHODS]
