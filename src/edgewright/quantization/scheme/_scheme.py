"""`Scheme`: a validated and resolved quantization config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, final

from edgewright.quantization.scheme._activations import ActivationMode
from edgewright.quantization.scheme._granularity import Granularity, PerGroup, PerTensor
from edgewright.quantization.scheme._grid import Grid
from edgewright.quantization.scheme._method import PTQ, QAT
from edgewright.quantization.scheme._precision import MixedPrecision, Precision
from edgewright.quantization.scheme._range_estimator import RangeEstimator
from edgewright.quantization.scheme._targets import TargetRules

Operators = Literal["convolution", "linear", "elementwise", "other"]


@final
@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The settings that every step of quantization reads; `resolve` creates it.

    A scheme satisfies the rules of its target, and all shorthands of the config are expanded.

    Attributes:
        target: The rules of the target runtime.
        activation_mode: How activations are quantized.
        precision: Default bits of a layer.
        layers: Bits of individual layers, by name or pattern; None means floating point.
        first_last_bits: Minimum bits of layers next to inputs and outputs; None for no minimum.
        mixed: Chooses the bits of the layers that ``layers`` does not name.
        granularity: Which weights share a scale.
        affine_weights: Whether weights have zero points.
        symmetric_activations: Whether the zero point of activations is fixed in the middle.
        power_of_two: Whether scales are powers of two.
        operators: Which operators are quantized.
        range_estimator: How ranges are found.
        calibration_samples: Number of training samples for calibration.
        method: Post-training quantization or quantization-aware training, with its settings.

    Example:
        >>> from edgewright.quantization import Quantization, resolve
        >>> scheme = resolve(Quantization(weights=4, target="litert"))
        >>> scheme.precision.weights, scheme.target.one_grid
        (4, True)
        >>> scheme.activation_grid(8).limits
        (-128, 127)
    """

    target: TargetRules
    activation_mode: ActivationMode
    precision: Precision
    layers: Mapping[str, Precision | None]
    first_last_bits: int | None
    mixed: MixedPrecision | None
    granularity: Granularity
    affine_weights: bool
    symmetric_activations: bool
    power_of_two: bool
    operators: tuple[Operators, ...]
    range_estimator: RangeEstimator
    calibration_samples: int
    method: PTQ | QAT

    def precision_of(self, pattern: str | None, *, is_first_or_last: bool) -> Precision | None:
        """The bits of a layer; None means floating point.

        Args:
            pattern: The pattern of ``layers`` that the layer matches, or None.
            is_first_or_last: Whether the layer is next to an input or an output of the model.
        """
        if pattern is not None:
            return self.layers[pattern]
        return (self.precision.at_least(self.first_last_bits or 0) if is_first_or_last
                else self.precision)

    def activation_grid(self, bits: int) -> Grid:
        """The grid for activations of ``bits`` bits; 1-bit grids are always symmetric."""
        return Grid(bits, signed=self.target.signed_activations,
                    symmetric=self.symmetric_activations or bits == 1,
                    power_of_two=self.power_of_two, role="activation")

    def weight_grid(self, bits: int, axis: int | None = 0, *, inputs: int | None = None) -> Grid:
        """The grid for weights of ``bits`` bits.

        Symmetric 8-bit weights exclude -128: LiteRT's specification requires it, and the other
        runtimes do the same. With fewer bits all integers are used, because none is near the limit
        of the integer type. 1-bit grids are always symmetric.

        Args:
            bits: 8, 4, 3, 2 or 1.
            axis: The dimension of the output channels; None for one scale per tensor.
            inputs: Number of inputs per output channel of a matrix; None for other weights. If the
                group size does not divide it, there is one scale per output channel.
        """
        symmetric = bits == 1 or not self.affine_weights
        group = self.granularity.size if isinstance(self.granularity, PerGroup) else None
        if group is not None and (inputs is None or inputs % group):
            group = None
        return Grid(bits, signed=True, symmetric=symmetric,
                    axis=None if isinstance(self.granularity, PerTensor) else axis,
                    group=group, power_of_two=self.power_of_two,
                    narrow=symmetric and bits == 8, role="weight")

    def with_bits(self, weights: int, activations: int | None = None) -> Scheme:
        """A copy with different default bits."""
        read = self.precision.activations if activations is None else activations
        return replace(self, precision=Precision(weights=weights, activations=read))
