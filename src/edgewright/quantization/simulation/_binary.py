"""1-bit quantization: two levels, ``-scale`` and ``scale``, with the gradients of ReActNet.

Of the published estimators, ReActNet's (Liu et al. 2020) suits a fixed graph best: its sign with a
learned shift is a comparison on the device, and its gradients do not depend on the training
progress. IR-Net's (Qin et al. 2020) decays over the epochs and standardizes the weights in every
step. AdaBin's levels (Tu et al. 2022) have a nonzero center, which costs one addition per value
unless it is folded into biases, and folding is wrong at the padding of a convolution. A shift and a
batch norm after the layer can express the same levels.

The scale is initialized to the mean magnitude, as in XNOR-Net (Rastegari et al. 2016, eq. 6), and
learned from there (XNOR-Net++, Bulat & Tzimiropoulos 2019).
"""

from __future__ import annotations

from typing import Any, Final, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgewright.errors import DataError
from edgewright.quantization.scheme import Role

_LARGEST_WEIGHT: Final = 1.0


def binary_signs(x: Tensor, shift: Tensor) -> Tensor:
    """-1 where ``x < shift``, otherwise 1.

    Args:
        x: Any shape.
        shift: Broadcasts with ``x``.

    Example:
        >>> binary_signs(torch.tensor([-0.5, 0.0, 2.0]), torch.tensor(0.0))
        tensor([-1.,  1.,  1.])
    """
    return torch.ge(x, shift).to(x.dtype).mul_(2).sub_(1)


@final
class BinaryLevels:
    """The observer of a binary activation: finds the threshold and the distance of its levels.

    It stores three numbers. The distance of a batch is relative to the mean of all values so far.

    Example:
        >>> levels = BinaryLevels()
        >>> levels.update(torch.tensor([0.0, 0.0, 1.0, 3.0]))
        >>> levels.range()
        (tensor(0.), tensor(2.))
    """

    def __init__(self) -> None:
        self._count, self._sum, self._distance = 0, 0.0, 0.0

    def update(self, x: Tensor) -> None:
        """Observe the values of ``x``.

        Args:
            x: Any shape.

        Raises:
            DataError: A value is NaN or infinite.
        """
        total = float(x.sum(dtype=torch.float64))
        if total - total != 0:
            raise DataError("a value is NaN or infinite, but binary levels need finite values; "
                            "check the calibration data for such values")
        self._count += x.numel()
        self._sum += total
        mean = self._sum / max(self._count, 1)
        self._distance += float((x.float() - mean).abs().sum(dtype=torch.float64))

    def range(self) -> tuple[Tensor, Tensor]:
        """The two levels, shape () each: the mean minus and plus the mean distance from it.

        Raises:
            DataError: No values were observed.
        """
        if self._count == 0:
            raise DataError("no values were observed; binary levels need at least one")
        mean, distance = self._sum / self._count, self._distance / self._count
        return torch.tensor(mean - distance), torch.tensor(mean + distance)


def binarize(x: Tensor, scale: Tensor, shift: Tensor, role: Role,
             factor: float = 1.0) -> Tensor:
    """``scale`` where ``x >= shift``, otherwise ``-scale``.

    The gradient of a weight passes where its magnitude is at most 1. The gradient of an activation
    is that of a piecewise quadratic sign, as wide as the scale (Liu et al. 2020, eq. 7, where the
    scale is 1): ``2 - 2 |x - shift| / scale`` within one scale of the shift, otherwise 0. The
    gradient of the shift is its negative; the gradient of the scale is the sign.

    Args:
        x: Real values, any shape, float32.
        scale: Positive, broadcasts with ``x``.
        shift: Shaped as ``scale``; 0 for weights.
        role: Whether ``x`` is a weight or an activation.
        factor: Multiplies the gradients of ``scale`` and ``shift``.

    Example:
        >>> x = torch.tensor([-2.0, -0.25, 0.5], requires_grad=True)
        >>> binarize(x, torch.tensor(1.0), torch.tensor(0.0), "activation").sum().backward()
        >>> x.grad
        tensor([0.0000, 1.5000, 1.0000])
    """
    out: Tensor = _Binarize.apply(  # type: ignore[no-untyped-call]
        x, scale, shift, role, factor)
    return out


@final
class _Binarize(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, role: Role,
                factor: float) -> Tensor:
        ctx.save_for_backward(x, scale, shift)
        ctx.role, ctx.factor = role, factor
        return binary_signs(x, shift).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor
                 ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, scale, shift = ctx.saved_tensors
        of_scale = of_shift = None
        if ctx.role == "weight":
            of_x = torch.ops.aten.hardtanh_backward(  # its limits are exclusive
                gradient, x, *(end * (1 + 2.0**-23) for end in (-_LARGEST_WEIGHT, _LARGEST_WEIGHT)))
        else:
            slope = torch.sub(x, shift).abs_().mul_(-2 / scale).add_(2).clamp_(min=0)
            of_x = slope.mul_(gradient)
        if ctx.needs_input_grad[1]:
            of_scale = (gradient * binary_signs(x, shift)).sum_to_size(scale.shape) * ctx.factor
        if ctx.needs_input_grad[2]:
            of_shift = -of_x.sum_to_size(shift.shape) * ctx.factor
        return of_x, of_scale, of_shift, None, None
