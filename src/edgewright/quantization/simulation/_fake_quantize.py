"""Fake quantization with gradients for the values and for the grid.

The quantized value is ``scale * (clamp(round(x / scale) + zero_point) - zero_point)``, rounding
halves to even. It *divides* by the scale to match ONNX Runtime's QuantizeLinear; the operators of
``quantized_decomposed`` and ATen's fake quantizers multiply by the inverse, which gives another
integer where ``x / scale`` is within a rounding error of the middle between two integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, None, None]


@final
@dataclass(frozen=True)
class GridGradients:
    """How the gradients of the scale and the zero point are computed.

    Attributes:
        factor: Multiplies both gradients.
        rounding: Whether the gradient of the scale includes the rounding error of values within
            the range, as in LSQ, or only clipped values, as in PACT.

    Example:
        >>> GridGradients(factor=0.5).rounding
        True
    """

    factor: float = 1.0
    rounding: bool = True


def quantized_integers(x: Tensor, scale: Tensor, zero_point: Tensor,
                       limits: tuple[int, int]) -> Tensor:
    """The integers that represent ``x``, in floating point.

    Args:
        x: Real values, any shape, float32.
        scale: Positive, broadcasts with ``x``.
        zero_point: Whole numbers, shaped as ``scale``.
        limits: The lowest and the highest integer.

    Example:
        >>> one, zero = torch.tensor(1.0), torch.tensor(0.0)
        >>> quantized_integers(torch.tensor([-3.0, 0.5, 1.5, 200.0]), one, zero, (-2, 127))
        tensor([ -2.,   0.,   2., 127.])
    """
    return torch.div(x, scale).round_().add_(zero_point).clamp_(*limits)


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, limits: tuple[int, int],
                  gradients: GridGradients = GridGradients()) -> Tensor:
    """Round ``x`` to the nearest values of a grid; only input and output are saved for backward.

    The gradient of ``x`` passes within the range of the grid, limits included. The gradient of the
    scale is that of LSQ (Esser et al. 2020, eq. 3): ``round(x / scale) - x / scale`` within the
    range, and the clipped integer minus the zero point outside. The gradient of the zero point
    comes from clipped values only, so that a gradient step changes ``-scale * zero_point`` as LSQ+
    (Bhalgat et al. 2020, eq. 6) changes its offset.

    Args:
        x: Real values, any shape, float32.
        scale: Positive, broadcasts with ``x``.
        zero_point: Whole numbers, shaped as ``scale``.
        limits: The lowest and the highest integer.
        gradients: How the gradients of the scale and the zero point are computed.

    Example:
        >>> scale = torch.tensor(0.5, requires_grad=True)
        >>> x = torch.tensor([0.4, 1.3, 9.0])
        >>> fake_quantize(x, scale, torch.tensor(0.0), (0, 3)).sum().backward()
        >>> scale.grad  # (1 - 0.8) + (3 - 2.6) + 3
        tensor(3.6000)
    """
    out: Tensor = _FakeQuantize.apply(  # type: ignore[no-untyped-call]
        x, scale, zero_point, limits, gradients)
    return out


@final
class _FakeQuantize(torch.autograd.Function):
    """Computes in place where possible; ATen's fused operators are slower on a CPU (scalar loops).

    The gradient of the scale sums ``gradient * (out - x)`` instead of the two products separately:
    at 8 bits their difference would lose most of float32's digits.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, limits: tuple[int, int],
                gradients: GridGradients) -> Tensor:
        out = quantized_integers(x, scale, zero_point, limits).sub_(zero_point).mul_(scale)
        needs_grid_gradient = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        ctx.save_for_backward(x, scale, zero_point, *((out,) if needs_grid_gradient else ()))
        ctx.limits, ctx.gradients = limits, gradients
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> _Gradients:
        x, scale, zero_point, *outs = ctx.saved_tensors
        of_x = _within(gradient, x, *_ends(scale, zero_point, ctx.limits))
        if not outs:
            return of_x, None, None, None, None
        (out,) = outs
        factor, of_scale, of_zero_point = ctx.gradients.factor / scale, None, None
        difference = out - x
        rounding = _dot(of_x, difference, scale) if ctx.gradients.rounding else 0.0
        clipped = (gradient - of_x if torch.compiler.is_compiling()
                   else torch.sub(gradient, of_x, out=difference))
        if ctx.needs_input_grad[1]:
            of_scale = (rounding + _dot(clipped, out, scale)) * factor
        if ctx.needs_input_grad[2]:
            of_zero_point = -clipped.sum_to_size(scale.shape) * factor
        return of_x, of_scale, of_zero_point, None, None


def _ends(scale: Tensor, zero_point: Tensor, limits: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The lowest and the highest real number of the grid."""
    return (limits[0] - zero_point) * scale, (limits[1] - zero_point) * scale


def _within(gradient: Tensor, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``gradient`` where ``low <= x <= high``, otherwise 0."""
    is_eager = not torch.compiler.is_compiling()
    if is_eager and low.ndim == 0 and x.device.type == "cpu":  # item() would wait for other devices
        infinity = torch.tensor(float("inf"))
        below, above = torch.nextafter(low, -infinity), torch.nextafter(high, infinity)
        inside: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, below.item(), above.item())
        return inside
    return torch.where((x >= low) & (x <= high), gradient, 0.0)


def _dot(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """The sum of ``a * b`` over the values that share a scale."""
    if scale.ndim == 0 and not torch.compiler.is_compiling():
        for layout in (torch.contiguous_format, torch.channels_last, torch.channels_last_3d):
            if a.is_contiguous(memory_format=layout) and b.is_contiguous(memory_format=layout):
                return torch.dot(*(t.as_strided((t.numel(),), (1,)) for t in (a, b)))
    return (a * b).sum_to_size(scale.shape)
