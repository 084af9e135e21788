"""How a quantized network is made accurate: without training (PTQ), or by training (QAT)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, final

from pydantic import Field

from edgewright.core import Settings
from edgewright.quantization.scheme._named import Named, Positional
from edgewright.training import Training


@final
class Nearest(Settings):
    """Each weight is rounded to the nearest integer.

    Example:
        >>> Nearest()
        Nearest()
    """


@final
class AdaRound(Positional):
    """Which way each weight is rounded is learned, layer by layer (Nagel et al. 2020).

    For weights of 4 bits and fewer without training; see `BRECQ` for a little more accuracy.

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
    """Which way each weight is rounded is learned, block by block (Li et al. 2021).

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


Rounding: TypeAlias = Annotated[Nearest | AdaRound | BRECQ, Named(
    nearest=Nearest, adaround=AdaRound, brecq=BRECQ)]


@final
class PTQ(Settings):
    """Post-training quantization: calibrated, with no gradient step through the whole network.

    8 bits rarely need more than the defaults. If accuracy is lost, try ``rounding="brecq"`` with
    weights of few bits, and ``equalize`` where channels differ much in range (depthwise
    convolutions).

    Attributes:
        equalize: Before calibrating, even out the ranges of neighbouring layers' channels.
        correct_bias: After quantizing, take the mean error of each output channel off the bias.
        rounding: How weights are rounded: ``nearest``, ``adaround`` or ``brecq``, or `AdaRound`
            and `BRECQ` with their steps.

    Raises:
        UsageError: An unknown name, or a value out of its range.

    Example:
        >>> PTQ(rounding="adaround").rounding
        AdaRound(steps=1000)
    """

    equalize: bool = False
    correct_bias: bool = False
    rounding: Rounding = Nearest()

    def __str__(self) -> str:
        """The method, and how it rounds if not to the nearest."""
        return "ptq" if isinstance(self.rounding, Nearest) else f"ptq ({self.rounding})"


@final
class QAT(Settings):
    """Quantization-aware training: with fake quantizers, after a calibration to start from.

    If 8 bits, or 4 with learned rounding, lose too much accuracy, and there is time to train.

    Attributes:
        quantizer: What is learned besides the weights: ``lsq`` step sizes, ``lsq+`` step sizes and
            offsets of the activations, ``pact`` upper limits of the activations.
        freeze_norms_after: Share of the training after which batch norms keep their statistics;
            0 from the start, 1 never.
        training: The schedule.

    Raises:
        UsageError: An unknown name, or a value out of its range.

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


METHODS: Final = Named(ptq=PTQ, qat=QAT)
Method: TypeAlias = Annotated[PTQ | QAT, METHODS]
