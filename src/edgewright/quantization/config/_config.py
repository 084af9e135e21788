"""`Quantization`: how a program is quantized, as a user or a recipe says it."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias, final

from pydantic import BeforeValidator, Field

from edgewright.core import Settings
from edgewright.quantization.calibration import MSE, Entropy, MinMax, Percentile
from edgewright.quantization.scheme import (
    PTQ,
    TARGETS,
    Activations,
    Bits,
    Granularity,
    Method,
    MixedPrecision,
    Named,
    Operators,
    PerChannel,
    Precision,
    RangeEstimator,
    StaticRange,
    Target,
    check_bits,
)

RANGE_ESTIMATORS: Final = Named(minmax=MinMax, percentile=Percentile, mse=MSE, entropy=Entropy,
                                protocol=RangeEstimator)
Estimator: TypeAlias = Annotated[RangeEstimator, RANGE_ESTIMATORS]


@final
class Quantization(Settings):
    """One scheme: which integers stand for what, and how they are found.

    The defaults are 8-bit integers without training. For a smaller file, take fewer bits of
    weights, and `PTQ` with learned rounding; if that loses too much accuracy, ``method="qat"``;
    `MixedPrecision` leaves bits where they matter. Without data, ``activations="dynamic"`` or None.

    A setting that has settings of its own is an object. Its name is short for the object with
    defaults, in Python and in a recipe's YAML; ``{name: settings}`` sets it there:

    .. code-block:: yaml

        quantize:
          activations: 4                      # or dynamic, null, {static: ...}
          granularity: {per_group: 32}        # or per_tensor, per_channel
          range_estimator: {percentile: 99.9} # or minmax, mse, entropy
          method: {ptq: {rounding: brecq}}    # or ptq, qat, {qat: {quantizer: lsq+}}

    Attributes:
        weights: Bits of the weights: 8, 4, 3, 2 or 1.
        activations: Bits of the activations, as the weights, with ranges that are fixed
            (`StaticRange`, if more is to be said); ``dynamic`` (`DynamicRange`: 8 bits, ranges
            taken from each input while running); None leaves them in floating point.
        layers: Bits of single layers, by name or pattern, before those of all; the first pattern
            that fits counts. None leaves the layer in floating point.
        first_last_bits: Bits that layers next to the model's inputs and outputs have at least,
            unless ``layers`` says otherwise; None treats them as all others.
        mixed: Chooses the bits of the layers that ``layers`` does not name.
        granularity: What shares a scale in the weights: `PerTensor`, `PerChannel` or `PerGroup`.
        affine_weights: Weights have zero points too, not only scales.
        power_of_two: Scales are powers of two, for targets that only shift.
        operators: What is quantized: convolutions, linear layers, sums and products of two
            values, and with ``other`` the weights of everything else (embeddings, recurrent
            layers, transposed and 3-D convolutions, products with parameters), which are integers
            in the file and computed with in floating point. With dynamic activations so are those
            of convolutions.
        target: The runtime whose rules the scheme has to keep, by name, or `TargetRules`.
        method: `PTQ` takes no gradient step through the network; `QAT` trains it with fake
            quantizers, after a calibration to start from.
        range_estimator: How ranges are found: `MinMax`, `Percentile`, `MSE` (the smallest squared
            error), `Entropy` (the smallest divergence of the histograms), or an object of your own
            that is a `RangeEstimator`.
        calibration_samples: Training samples the ranges are taken from.

    Raises:
        UsageError: Bits that no rule allows, an unknown name, or a value out of its range.

    Example:
        >>> Quantization(weights=4, layers={"head": Precision(weights=8)}).weights
        4
        >>> Quantization(granularity="per_tensor", range_estimator="percentile").range_estimator
        Percentile(percent=99.99)
        >>> config = Quantization(method={"ptq": {"equalize": True, "rounding": {"adaround": 500}}})
        >>> config == Quantization(method=PTQ(equalize=True, rounding={"adaround": 500}))
        True
        >>> Quantization.model_validate(config.model_dump(mode="json")) == config
        True
    """

    weights: Annotated[Bits, BeforeValidator(check_bits)] = 8
    activations: Activations | None = StaticRange()
    layers: dict[str, Precision | None] = Field(default_factory=dict)
    first_last_bits: Bits | None = 8
    mixed: MixedPrecision | None = None
    granularity: Granularity = PerChannel()
    affine_weights: bool = False
    power_of_two: bool = False
    operators: tuple[Operators, ...] = ("convolution", "linear", "elementwise", "other")
    target: Target = TARGETS["onnxruntime"]
    method: Method = PTQ()
    range_estimator: Estimator = MSE()
    calibration_samples: int = Field(default=1024, ge=1)
