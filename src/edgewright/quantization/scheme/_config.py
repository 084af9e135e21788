"""How a program is quantised."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

from pydantic import Field, field_validator

from edgewright.core import Settings
from edgewright.errors import UsageError
from edgewright.quantization.scheme._precision import BITS, Bits, MixedPrecision
from edgewright.training import Training

Target = Literal["onnxruntime", "onnxruntime-arm", "openvino", "executorch", "litert"]
Operators = Literal["convolution", "linear", "elementwise", "other"]


@final
class Precision(Settings):
    """The bits of some layers.

    Attributes:
        weights: Bits of the weights; None leaves them in floating point, and the activations too.
        activations: Bits of what the layers read; None quantises it for others alone.
    """

    weights: Bits | None = 8
    activations: Bits | None = 8

    def at_least(self, bits: int) -> Precision:
        """This one with no fewer than ``bits``; what is in floating point stays so."""
        return self.replace(**{
            name: max(own, bits) for name, own in (("weights", self.weights),
                                                   ("activations", self.activations))
            if own is not None})


@final
class Quantization(Settings):
    """One scheme: which integers stand for what, and how they are found.

    Attributes:
        weights: Bits of the weights: 8, 4, 3, 2 or 1.
        activations: Bits of the activations, as the weights.
        layers: Bits of single layers, by name or pattern, before those of all; the first pattern
            that fits counts. None leaves the layer in floating point.
        ends: Bits that layers next to the model's inputs and outputs have at least, unless
            ``layers`` says otherwise; None treats them as all others.
        mixed: Chooses the bits of the layers that ``layers`` does not name.
        mode: ``static`` (the activations' ranges are fixed), ``dynamic`` (they are taken from each
            input while running), or ``weight_only`` (the activations stay in floating point).
        granularity: What shares a scale in the weights: ``tensor``, output ``channel``, or
            ``group``: ``group_size`` consecutive inputs of an output channel.
        group_size: Inputs that share a scale with ``granularity="group"``; where it does not
            divide them, and in convolutions, a whole output channel does.
        affine_weights: Weights have zero points too, not only scales.
        symmetric: Activations have their zero point in the middle.
        power_of_two: Scales are powers of two, for targets that only shift.
        operators: What is quantised: convolutions, linear layers, sums and products of two
            values, and with ``other`` the weights of everything else (embeddings, recurrent
            layers, transposed and 3-D convolutions, products with parameters), which are integers
            in the file and computed with in floating point. With ``dynamic`` so are those of
            convolutions.
        target: The runtime whose rules the scheme has to keep.
        method: ``ptq`` takes no gradient step through the network; ``qat`` trains it with fake
            quantisers, after a calibration to start from.
        ranges: How calibration finds a range: ``minmax``, ``percentile``, ``mse`` (the smallest
            squared error) or ``entropy`` (the smallest divergence of the histograms).
        percentile: Share, in percent, of the values that ``ranges="percentile"`` keeps.
        calibration_samples: Training samples the ranges are taken from.
        equalize: Before calibrating, even out the ranges of neighbouring layers' channels.
        correct_bias: After quantising, take the mean error of each output channel off the bias.
        rounding: How ``ptq`` rounds weights: ``nearest``, ``adaround`` (layer by layer) or
            ``brecq`` (block by block).
        rounding_steps: Gradient steps a layer or block of ``adaround`` and ``brecq``.
        quantizer: What ``qat`` learns besides the weights: ``lsq`` step sizes, ``lsq+`` step sizes
            and offsets of the activations, ``pact`` upper limits of the activations.
        freeze_norms: Share of the training after which batch norms keep their statistics.
        training: The schedule of ``qat``.

    Raises:
        UsageError: Bits that no rule allows, an unknown name, or a value out of its range.

    Example:
        >>> Quantization(weights=4, layers={"head": Precision(weights=8)}).weights
        4
    """

    weights: Bits = 8
    activations: Bits = 8
    layers: dict[str, Precision | None] = Field(default_factory=dict)
    ends: Bits | None = 8
    mixed: MixedPrecision | None = None
    mode: Literal["static", "dynamic", "weight_only"] = "static"
    granularity: Literal["tensor", "channel", "group"] = "channel"
    group_size: int = Field(default=32, ge=2)
    affine_weights: bool = False
    symmetric: bool = False
    power_of_two: bool = False
    operators: tuple[Operators, ...] = ("convolution", "linear", "elementwise", "other")
    target: Target = "onnxruntime"
    method: Literal["ptq", "qat"] = "ptq"
    ranges: Literal["minmax", "percentile", "mse", "entropy"] = "mse"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    calibration_samples: int = Field(default=1024, ge=1)
    equalize: bool = False
    correct_bias: bool = False
    rounding: Literal["nearest", "adaround", "brecq"] = "nearest"
    rounding_steps: int = Field(default=1000, ge=1)
    quantizer: Literal["lsq", "lsq+", "pact"] = "lsq"
    freeze_norms: float = Field(default=0.5, ge=0, le=1)
    training: Training = Training(epochs=2, lr=0.001, weight_decay=1e-5, clip_norm=1.0)

    @field_validator("weights", "activations", mode="before")
    @classmethod
    def _known_bits(cls, bits: Any) -> Any:
        if bits not in BITS:
            raise UsageError(f"quantisation to {bits!r} bits is not supported; weights and "
                             f"activations can have {', '.join(map(str, BITS))} bits")
        return bits
