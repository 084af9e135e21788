"""`Quantization`: the quantization settings of a user or a recipe."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias, final

from pydantic import BeforeValidator, Field

from edgewright.core import Choice, Settings
from edgewright.quantization.calibration import MSE, Entropy, MinMax, Percentile
from edgewright.quantization.scheme import (
    PTQ,
    TARGETS,
    Activations,
    Bits,
    DeploymentTarget,
    Granularity,
    Method,
    MixedPrecision,
    Operators,
    PerChannel,
    Precision,
    RangeEstimator,
    StaticRange,
    check_bits,
)

RANGE_ESTIMATORS: Final = Choice(minmax=MinMax, percentile=Percentile, mse=MSE, entropy=Entropy,
                                 protocol=RangeEstimator)
Estimator: TypeAlias = Annotated[RangeEstimator, RANGE_ESTIMATORS]


@final
class Quantization(Settings):
    """Settings for quantizing a program: number of bits, grids, calibration and method.

    The defaults give 8-bit post-training quantization. For a smaller file, use fewer bits for the
    weights together with `PTQ` and learned rounding; if that loses too much accuracy, use
    ``method="qat"``; `MixedPrecision` keeps more bits in the layers that need them. If no data is
    available, use ``activations="dynamic"`` or None.

    A setting with options of its own is an object. In Python and in a recipe's YAML its name
    stands for the object with default options, and ``{name: options}`` sets the options:

    .. code-block:: yaml

        quantize:
          activations: 4                      # or dynamic, null, {static: ...}
          granularity: {per_group: 32}        # or per_tensor, per_channel
          range_estimator: {percentile: 99.9} # or minmax, mse, entropy
          method: {ptq: {rounding: brecq}}    # or ptq, qat, {qat: {quantizer: lsq+}}

    Attributes:
        weights: Bits of the weights: 8, 4, 3, 2 or 1.
        activations: Bits of the activations (8, 4, 3, 2 or 1) with calibrated ranges, or a
            `StaticRange` for more options; ``dynamic`` (`DynamicRange`: 8 bits, ranges computed
            from each input at run time); None keeps activations in floating point.
        layers: Bits of individual layers, by name or pattern, which override those of all layers;
            the first matching pattern applies. None keeps the layer in floating point.
        first_last_bits: Minimum bits of layers next to the model's inputs and outputs, unless
            ``layers`` sets them; None treats these layers like all others.
        mixed: Chooses the bits of the layers that ``layers`` does not name.
        granularity: Which weights share a scale: `PerTensor`, `PerChannel` or `PerGroup`.
        affine_weights: Use zero points for weights, not only scales.
        power_of_two: Restrict scales to powers of two, for targets that only shift.
        operators: What is quantized: convolutions, linear layers, additions and multiplications
            of two tensors (``elementwise``), and with ``other`` the weights of all other operators
            (embeddings, recurrent layers, transposed and 3-D convolutions, products with
            parameters), which are stored as integers but computed in floating point. With dynamic
            activations this also applies to the weights of convolutions.
        target: The runtime whose rules the scheme must satisfy, by name, or `TargetRules`.
        method: `PTQ` takes no gradient step through the network; `QAT` calibrates the network and
            then trains it with fake quantizers.
        range_estimator: How ranges are found: `MinMax`, `Percentile`, `MSE` (smallest squared
            error), `Entropy` (smallest divergence of the histograms), or your own object that
            implements `RangeEstimator`. `MSE` is a good default; `MinMax` is the fastest.
        calibration_samples: Number of training samples used for calibration.

    Raises:
        UsageError: An unsupported number of bits, an unknown name, or a value out of range.

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
    target: DeploymentTarget = TARGETS["onnxruntime"]
    method: Method = PTQ()
    range_estimator: Estimator = MSE()
    calibration_samples: int = Field(default=1024, ge=1)
