"""`FakeQuantizer`: a module that observes or quantizes one weight or activation."""

from __future__ import annotations

from typing import Final, Literal, final

import torch
from torch import Tensor, nn

from edgewright.errors import DataError, UsageError
from edgewright.quantization.scheme import Grid, Observer
from edgewright.quantization.simulation._binary import binarize, binary_signs
from edgewright.quantization.simulation._fake_quantize import (
    GridGradients,
    fake_quantize,
    quantized_integers,
)

QuantizerMode = Literal["pass", "observe", "quantize"]
LearnedRange = Literal["nothing", "lsq", "lsq+", "pact"]

_SCALE_BOUNDS: Final = (2.0**-100, 2.0**100)
_MIN_SCALE_SHARE: Final = 2.0**-10  # minimum of a learned scale, relative to its initial value


@final
class FakeQuantizer(nn.Module):
    """Passes values through, observes their range, or quantizes them, depending on ``mode``.

    Learned parameters may leave their bounds; ``effective_scale`` and ``effective_zero_point`` are
    the bounded values used for quantization. Their gradients pass straight through to the
    parameters, so that these can return into the bounds.

    With 2 to 8 bits values are quantized by `fake_quantize`, with 1 bit by `binarize`. The gradient
    of the scale is multiplied by ``1 / sqrt(N Qp)``, where N is the number of values that share a
    scale (for an activation, those of one sample; see `forward`) and Qp the number of integers
    above zero (LSQ, Esser et al. 2020, section 2.2). The offset of LSQ+ has the same factor
    (Bhalgat et al. 2020). PACT (Choi et al. 2018) learns the upper limit of the range, alpha, from
    clipped values only: its factor makes a gradient step change the scale as if alpha were the
    parameter, without the paper's decay of alpha.

    Args:
        grid: The grid, of a weight or an activation.
        shape: Shape of the scale: () for one per tensor, (C,) for one per entry of ``grid.axis``,
            (C, G) for one per group of a row.
        learned_range: What training learns: ``nothing``; ``lsq``, the scale; ``lsq+``, the scale
            and, if the grid is asymmetric, the zero point; ``pact``, the upper limit. With 1 bit,
            each of the last three learns the scale and, for an activation, the shift.

    Attributes:
        grid: The grid.
        learned_range: What training learns.
        scale: Parameter; see `effective_scale` for the value in use.
        zero_point: Parameter in integer units; see `effective_zero_point` for the value in use.
        shift: Parameter, the threshold of a 1-bit activation; otherwise None.
        mode: ``pass``, ``observe`` or ``quantize``; not part of the state dict.
        observer: Receives the values in mode ``observe``.

    Example:
        >>> grid = Grid(4, signed=False, symmetric=False, role="activation")
        >>> quantizer = FakeQuantizer(grid)
        >>> quantizer.set_range(torch.tensor(-1.0), torch.tensor(2.0))
        >>> quantizer.mode = "quantize"
        >>> quantizer(torch.tensor([0.0, 0.29, 7.0])), quantizer.integers(torch.tensor(7.0))
        (tensor([0.0000, 0.2000, 2.0000]), tensor(15.))
    """

    def __init__(self, grid: Grid, shape: tuple[int, ...] = (), *,
                 learned_range: LearnedRange = "nothing") -> None:
        super().__init__()
        self.grid = grid
        self.learned_range: LearnedRange = learned_range
        self.mode: QuantizerMode = "pass"
        self.observer: Observer | None = None
        learned = learned_range != "nothing"
        self.scale = nn.Parameter(torch.ones(shape), requires_grad=learned)
        self.zero_point = nn.Parameter(torch.full(shape, float(grid.middle)),
                                       requires_grad=learned_range == "lsq+" and not grid.symmetric)
        has_shift = grid.bits == 1 and grid.role == "activation"
        self.shift = (nn.Parameter(torch.zeros(shape), requires_grad=learned) if has_shift
                      else None)
        self.least_scale: Tensor
        self.register_buffer("least_scale", torch.full(shape, _MIN_SCALE_SHARE))

    def effective_scale(self) -> Tensor:
        """The scale in use: at least 1/1024 of its initial value, a power of two if required.

        Learned power-of-two scales are rounded to the nearest exponent.
        """
        scale = torch.maximum(self.scale.detach(), self.least_scale).clamp_(max=_SCALE_BOUNDS[1])
        if self.grid.power_of_two:
            scale = torch.exp2(torch.round(torch.log2(scale)))
        return _straight_through(self.scale, scale)

    def effective_zero_point(self) -> Tensor:
        """The zero point in use: a whole number within the grid's limits."""
        rounded = torch.round(self.zero_point.detach()).clamp_(*self.grid.limits)
        return _straight_through(self.zero_point, rounded)

    def relative_steps(self) -> dict[str, float]:
        """Factors for AdamW's steps of scale and shift: the current scale.

        A scale can be a hundred times smaller than the learning rate; steps of the size of the
        learning rate would move it from one bound to the other.
        """
        size = float(self.effective_scale().detach().mean())
        return {"scale": size} if self.shift is None else {"scale": size, "shift": size}

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Set the scale and the zero point from a range of real numbers, extended to contain 0.

        Power-of-two scales are rounded up. An all-zero range gets the mean of the other scales. For
        a 1-bit activation the range is its two levels and is not extended.

        Args:
            low: Lower limits, shaped as the scale.
            high: Upper limits, shaped as the scale.

        Raises:
            DataError: The range is not finite.
        """
        low, high = low.to(self.scale), high.to(self.scale)
        if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
            raise DataError(f"the range {low.min():g} to {high.max():g} cannot be quantized "
                            "because it is not finite; check the weights and the calibration data "
                            "for NaN or infinite values")
        if self.shift is not None:
            self.shift.copy_((low + high) / 2)
            self._set_scale((high - low) / 2)
            return
        low, high = low.clamp(max=0), high.clamp(min=0)
        least, most = self.grid.limits
        if self.grid.symmetric:
            below, above = self.grid.middle - least, most - self.grid.middle
            self._set_scale(torch.maximum(-low / below, high / above))
        else:
            self._set_scale((high - low) / self.grid.steps)
            self.zero_point.copy_(torch.round(least - low / self.scale).clamp_(least, most))

    @torch.no_grad()
    def initialize_scale(self, x: Tensor) -> None:
        """Initialize the scale to ``2 mean(|x|) / sqrt(Qp)`` (Esser et al. 2020, section 2.1).

        With 1 bit it is ``mean(|x - shift|)``, and the shift of an activation is the mean. The zero
        point does not change.

        Args:
            x: The values that will be quantized.
        """
        rows = self._group_by_scale(x.float())
        if self.shift is not None:
            mean = rows.mean(1, keepdim=True)
            self.shift.copy_(mean.reshape(self.shift.shape))
            rows = rows - mean
        mean = rows.abs().mean(1).reshape(self.scale.shape)
        self._set_scale(mean if self.grid.bits == 1 else 2 * mean / self._positive_steps**0.5)

    def integers(self, x: Tensor) -> Tensor:
        """The integers that represent ``x``, of the same shape, as float32; without gradients.

        In mode ``quantize``, ``forward`` returns exactly
        ``effective_scale() * (integers(x) - effective_zero_point())``.
        """
        with torch.no_grad():
            values, scale, zero_point = self._align(
                x.float(), self.effective_scale(), self.effective_zero_point())
            if self.grid.bits == 1:
                signs = binary_signs(values, self._align_shift(scale))
                return signs.add_(zero_point).reshape(x.shape)
            integers = quantized_integers(values, scale, zero_point, self.grid.limits)
            return integers.reshape(x.shape)

    def forward(self, x: Tensor, sample_values: int | None = None) -> Tensor:
        """Return ``x`` itself, or its nearest grid values in mode ``quantize``.

        Args:
            x: The weight or activation.
            sample_values: Number of values per sample of an activation; by default, samples lie
                along the first dimension.
        """
        if self.mode == "observe" and self.observer is not None:
            self.observer.update(x.detach())
        if self.mode != "quantize":
            return x
        values, scale, zero_point = self._align(
            x.float(), self.effective_scale(), self.effective_zero_point())
        if self.grid.bits == 1:
            quantized = binarize(values, scale, self._align_shift(scale), self.grid.role,
                                 self._lsq_factor(x, sample_values))
        else:
            quantized = fake_quantize(values, scale, zero_point, self.grid.limits,
                                      self._gradients(x, sample_values))
        return quantized.reshape(x.shape).to(x.dtype)

    def extra_repr(self) -> str:
        """The grid, the shape of the scale and the mode."""
        return f"{self.grid}, shape={tuple(self.scale.shape)}, mode={self.mode!r}"

    @property
    def _positive_steps(self) -> int:
        """The number of integers above the zero point."""
        grid = self.grid
        return grid.limits[1] - grid.middle if grid.symmetric else grid.steps

    def _gradients(self, x: Tensor, sample_values: int | None) -> GridGradients:
        if self.learned_range == "pact":
            return GridGradients(1 / self.grid.steps**2, rounding=False)
        return GridGradients(self._lsq_factor(x, sample_values))

    def _lsq_factor(self, x: Tensor, sample_values: int | None) -> float:
        if self.grid.role == "weight":
            sharers = x.numel() // self.scale.numel()
        else:
            sharers = x[:1].numel() if sample_values is None else sample_values
        return float((max(sharers, 1) * self._positive_steps) ** -0.5)

    def _set_scale(self, scale: Tensor) -> None:
        positive = scale > 0
        substitute = scale[positive].mean() if bool(positive.any()) else 1.0
        scale = torch.where(positive, scale, substitute).clamp_(*_SCALE_BOUNDS)
        if self.grid.power_of_two:
            scale = torch.exp2(torch.ceil(torch.log2(scale)))
        self.scale.copy_(scale)
        self.least_scale.copy_(scale * _MIN_SCALE_SHARE)

    def _group_by_scale(self, x: Tensor) -> Tensor:
        """Reshape ``x`` to (scales, values that share the scale)."""
        if self.scale.ndim == 1:
            x = x.movedim(self.grid.axis or 0, 0)
        return x.reshape(self.scale.numel(), -1)

    def _align(self, x: Tensor, scale: Tensor, zero_point: Tensor
                 ) -> tuple[Tensor, Tensor, Tensor]:
        """Reshape all three so that they broadcast; ``x`` by row and group if there are groups."""
        if scale.ndim == 0:
            return x, scale, zero_point
        axis = self.grid.axis or 0
        divides = scale.ndim == 1 or x.shape[-1] % scale.shape[1] == 0
        if x.shape[axis] != len(scale) or not divides:
            raise UsageError(f"a tensor of shape {tuple(x.shape)} does not fit scales of shape "
                             f"{tuple(scale.shape)} along dimension {axis}; expected one scale per "
                             "entry of that dimension, or one per group of equal size in a row")
        if scale.ndim == 1:
            shape = [1] * x.ndim
            shape[axis] = -1
            return x, scale.view(shape), zero_point.view(shape)
        return x.reshape(*scale.shape, -1), scale[..., None], zero_point[..., None]

    def _align_shift(self, scale: Tensor) -> Tensor:
        if self.shift is None:
            return torch.zeros_like(scale)
        return self.shift.view(scale.shape)


def _straight_through(parameter: Tensor, value: Tensor) -> Tensor:
    """``value`` with a straight-through gradient to ``parameter``."""
    return value + (parameter - parameter.detach()) if parameter.requires_grad else value
