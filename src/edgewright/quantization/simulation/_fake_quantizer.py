"""`FakeQuantizer`: one point of a network where values are put on a grid."""

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

Mode = Literal["pass", "observe", "quantize"]
Learns = Literal["nothing", "lsq", "lsq+", "pact"]

_SCALES: Final = (2.0**-100, 2.0**100)
_LEAST_SHARE: Final = 2.0**-10  # of the scale that a range or the values gave


@final
class FakeQuantizer(nn.Module):
    """Passes values on, watches their range, or puts them on a grid, as ``mode`` says.

    What is learned may step out of its bounds: ``used_scale`` and ``used_zero_point`` are what
    counts. Their gradients go straight through to the parameters, so that these come back.

    With 8 to 2 bits `fake_quantize` computes, with 1 bit `binarize`. The scale's gradient is
    multiplied with ``1 / sqrt(N Qp)``, N the values that share a scale (of an activation: those of
    one sample, see `forward`) and Qp the integers above zero (LSQ, Esser et al. 2020, section
    2.2); LSQ+'s offset has the same factor (Bhalgat et al. 2020). PACT (Choi et al. 2018) learns
    the upper end of the range, alpha, from clipped values alone: its factor is such that a step of
    gradient descent moves the scale as if alpha were the parameter, without the paper's decay of
    alpha.

    Args:
        grid: The integers, their spacing, and what they stand for: a weight or an activation.
        shape: Of the scale: () one in all, (C,) one an entry of ``grid.axis``, (C, G) one a
            group of a row.
        learns: What training finds: ``nothing``; ``lsq`` the scale; ``lsq+`` the scale and, where
            the grid is not symmetric, the zero point; ``pact`` the upper end. At 1 bit the scale
            and, of an activation, the shift, whichever of them it is.

    Attributes:
        grid: As given.
        learns: As given.
        scale: Parameter; `used_scale` is what counts.
        zero_point: Parameter in units of integers; `used_zero_point` is what counts.
        shift: Parameter, where the levels of an activation part at 1 bit; else None.
        mode: ``pass``, ``observe`` or ``quantize``; not part of the state dict.
        observer: What ``observe`` tells.

    Example:
        >>> grid = Grid(4, signed=False, symmetric=False, role="activation")
        >>> quantizer = FakeQuantizer(grid)
        >>> quantizer.set_range(torch.tensor(-1.0), torch.tensor(2.0))
        >>> quantizer.mode = "quantize"
        >>> quantizer(torch.tensor([0.0, 0.29, 7.0])), quantizer.integers(torch.tensor(7.0))
        (tensor([0.0000, 0.2000, 2.0000]), tensor(15.))
    """

    def __init__(self, grid: Grid, shape: tuple[int, ...] = (), *,
                 learns: Learns = "nothing") -> None:
        super().__init__()
        self.grid = grid
        self.learns: Learns = learns
        self.mode: Mode = "pass"
        self.observer: Observer | None = None
        learned = learns != "nothing"
        self.scale = nn.Parameter(torch.ones(shape), requires_grad=learned)
        self.zero_point = nn.Parameter(torch.full(shape, float(grid.middle)),
                                       requires_grad=learns == "lsq+" and not grid.symmetric)
        has_shift = grid.bits == 1 and grid.role == "activation"
        self.shift = (nn.Parameter(torch.zeros(shape), requires_grad=learned) if has_shift
                      else None)
        self.least_scale: Tensor
        self.register_buffer("least_scale", torch.full(shape, _LEAST_SHARE))

    def used_scale(self) -> Tensor:
        """The scale in use: at least 1/1024 of what it started from, a power of two if asked for.

        Learned powers of two are rounded to the nearest exponent.
        """
        scale = torch.maximum(self.scale.detach(), self.least_scale).clamp_(max=_SCALES[1])
        if self.grid.power_of_two:
            scale = torch.exp2(torch.round(torch.log2(scale)))
        return _straight_through(self.scale, scale)

    def used_zero_point(self) -> Tensor:
        """The zero point in use: a whole number within the grid's limits."""
        rounded = torch.round(self.zero_point.detach()).clamp_(*self.grid.limits)
        return _straight_through(self.zero_point, rounded)

    def relative_steps(self) -> dict[str, float]:
        """AdamW's steps of scale and shift are relative to the scale, as it is now.

        A scale may be a hundred times smaller than the learning rate, and steps of that size would
        throw it from one of its bounds to the other.
        """
        size = float(self.used_scale().detach().mean())
        return {"scale": size} if self.shift is None else {"scale": size, "shift": size}

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Take the scale and the zero point from a range of reals, widened to contain 0.

        Powers of two are rounded up. A range of nothing but 0 takes the others' mean scale. At 1
        bit an activation's range is its two levels, and not widened.

        Args:
            low: Shaped as the scale.
            high: Shaped as the scale.

        Raises:
            DataError: The range is not finite.
        """
        low, high = low.to(self.scale), high.to(self.scale)
        if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
            raise DataError(f"the range {low.min():g} to {high.max():g} cannot be quantised; it "
                            "has to be finite. Look for NaN or infinite values in the weights and "
                            "in the data of the calibration")
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
    def set_from(self, x: Tensor) -> None:
        """Take the scale from values: ``2 mean(|x|) / sqrt(Qp)`` (Esser et al. 2020, section 2.1).

        At 1 bit it is ``mean(|x - shift|)``, and the shift of an activation is the mean. The zero
        point stays.

        Args:
            x: What will be quantised.
        """
        rows = self._by_scale(x.float())
        if self.shift is not None:
            mean = rows.mean(1, keepdim=True)
            self.shift.copy_(mean.reshape(self.shift.shape))
            rows = rows - mean
        mean = rows.abs().mean(1).reshape(self.scale.shape)
        self._set_scale(mean if self.grid.bits == 1 else 2 * mean / self._positive_steps**0.5)

    def integers(self, x: Tensor) -> Tensor:
        """The integers that stand for ``x``, shaped as it, in float32; without gradients.

        What ``forward`` returns when quantising is exactly
        ``used_scale() * (integers(x) - used_zero_point())``.
        """
        with torch.no_grad():
            values, scale, zero_point = self._aligned(
                x.float(), self.used_scale(), self.used_zero_point())
            if self.grid.bits == 1:
                signs = binary_signs(values, self._aligned_shift(scale))
                return signs.add_(zero_point).reshape(x.shape)
            integers = quantized_integers(values, scale, zero_point, self.grid.limits)
            return integers.reshape(x.shape)

    def forward(self, x: Tensor, sample_values: int | None = None) -> Tensor:
        """``x`` itself, or the values of the grid nearest to it, of the type of ``x``.

        Args:
            x: What is quantised.
            sample_values: How many values of an activation one sample has; where left out, its
                samples lie along the first dimension.
        """
        if self.mode == "observe" and self.observer is not None:
            self.observer.update(x.detach())
        if self.mode != "quantize":
            return x
        values, scale, zero_point = self._aligned(
            x.float(), self.used_scale(), self.used_zero_point())
        if self.grid.bits == 1:
            quantized = binarize(values, scale, self._aligned_shift(scale), self.grid.role,
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
        """The integers above the one that stands for zero."""
        grid = self.grid
        return grid.limits[1] - grid.middle if grid.symmetric else grid.steps

    def _gradients(self, x: Tensor, sample_values: int | None) -> GridGradients:
        if self.learns == "pact":
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
        scale = torch.where(positive, scale, substitute).clamp_(*_SCALES)
        if self.grid.power_of_two:
            scale = torch.exp2(torch.ceil(torch.log2(scale)))
        self.scale.copy_(scale)
        self.least_scale.copy_(scale * _LEAST_SHARE)

    def _by_scale(self, x: Tensor) -> Tensor:
        """``x`` as (scales, values that share it)."""
        if self.scale.ndim == 1:
            x = x.movedim(self.grid.axis or 0, 0)
        return x.reshape(self.scale.numel(), -1)

    def _aligned(self, x: Tensor, scale: Tensor, zero_point: Tensor
                 ) -> tuple[Tensor, Tensor, Tensor]:
        """All three so that they broadcast; ``x`` by row and group where groups share a scale."""
        if scale.ndim == 0:
            return x, scale, zero_point
        axis = self.grid.axis or 0
        divides = scale.ndim == 1 or x.shape[-1] % scale.shape[1] == 0
        if x.shape[axis] != len(scale) or not divides:
            raise UsageError(f"a tensor of shape {tuple(x.shape)} does not fit scales of shape "
                             f"{tuple(scale.shape)} along dimension {axis}; the entries of that "
                             "dimension have a scale each, or one for each equal part of a row")
        if scale.ndim == 1:
            shape = [1] * x.ndim
            shape[axis] = -1
            return x, scale.view(shape), zero_point.view(shape)
        return x.reshape(*scale.shape, -1), scale[..., None], zero_point[..., None]

    def _aligned_shift(self, scale: Tensor) -> Tensor:
        if self.shift is None:
            return torch.zeros_like(scale)
        return self.shift.view(scale.shape)


def _straight_through(parameter: Tensor, value: Tensor) -> Tensor:
    """``value``, whose gradient is that of ``parameter``."""
    return value + (parameter - parameter.detach()) if parameter.requires_grad else value
