"""`Scheme`: a quantization config, checked and resolved."""

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
    """What every step of quantization reads, as `resolve` makes it from a `Quantization`.

    It keeps the rules of its target, and holds values where the config has shorthands for them.

    Attributes:
        target: The runtime's rules.
        mode: How activations are quantized.
        precision: Bits of the layers that nothing else is said of.
        layers: Bits of single layers, by name or pattern; None leaves them in floating point.
        first_last_bits: Bits that layers next to inputs and outputs have at least.
        mixed: Chooses the bits of the layers that ``layers`` does not name.
        granularity: What shares a scale in the weights.
        affine_weights: Weights have zero points.
        symmetric_activations: Activations have their zero point in the middle.
        power_of_two: Scales are powers of two.
        operators: What is quantized.
        range_estimator: How ranges are found.
        calibration_samples: Training samples the ranges are taken from.
        method: With training or without, and its settings.

    Example:
        >>> from edgewright.quantization import Quantization, resolve
        >>> scheme = resolve(Quantization(weights=4, target="litert"))
        >>> scheme.precision.weights, scheme.target.one_grid
        (4, True)
        >>> scheme.activation_grid(8).limits
        (-128, 127)
    """

    target: TargetRules
    mode: ActivationMode
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
        """The bits of a layer; None leaves it in floating point.

        Args:
            pattern: The one of ``layers`` that the layer matches, if any does.
            is_first_or_last: Whether it is next to an input or an output of the model.
        """
        if pattern is not None:
            return self.layers[pattern]
        return (self.precision.at_least(self.first_last_bits or 0) if is_first_or_last
                else self.precision)

    def activation_grid(self, bits: int) -> Grid:
        """The grid of activations of ``bits`` bits. One bit is symmetric in every scheme."""
        return Grid(bits, signed=self.target.signed_activations,
                    symmetric=self.symmetric_activations or bits == 1,
                    power_of_two=self.power_of_two, role="activation")

    def weight_grid(self, bits: int, axis: int | None = 0, *, inputs: int | None = None) -> Grid:
        """The grid of weights of ``bits`` bits.

        Symmetric 8-bit weights leave out -128, which LiteRT's specification demands and the others
        do too; with fewer bits every integer counts, and none comes near the type's end. One bit is
        symmetric in every scheme.

        Args:
            bits: 8, 4, 3, 2 or 1.
            axis: The dimension of the output channels; None for one scale in all.
            inputs: Of each output channel of a matrix, which groups may divide; None for what
                is no matrix. Where they do not, output channels have a scale each.
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
        """This scheme with other bits for the layers that nothing else is said of."""
        read = self.precision.activations if activations is None else activations
        return replace(self, precision=Precision(weights=weights, activations=read))
