"""One bit: two levels, ``-scale`` and ``scale``, with the gradients of ReActNet.

Of the published estimators, ReActNet's (Liu et al. 2020) is the one that fits a fixed graph: its
sign with a learned shift is a comparison on the device, and its gradients do not depend on how far
the training is. IR-Net's (Qin et al. 2020) decays over the epochs and standardises the weights in
every step; AdaBin's (Tu et al. 2022) levels have a centre other than 0, which costs an addition a
value unless it is folded into biases, where the padding of a convolution then disagrees. A shift
and a batch norm after the layer can express the same levels.

The scale starts at the mean magnitude, which is XNOR-Net's (Rastegari et al. 2016, eq. 6), and is
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
    """-1 where ``x < shift``, else 1; the sign of 0 is 1.

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
    """The observer of a binary activation: finds where its levels part and how far they lie apart.

    Keeps three numbers. The distance of a batch is from the mean of all that was seen so far.

    Example:
        >>> levels = BinaryLevels()
        >>> levels.update(torch.tensor([0.0, 0.0, 1.0, 3.0]))
        >>> levels.range()
        (tensor(0.), tensor(2.))
    """

    def __init__(self) -> None:
        self._count, self._sum, self._distance = 0, 0.0, 0.0

    def update(self, x: Tensor) -> None:
        """Take the numbers of ``x`` into account.

        Args:
            x: Any shape.

        Raises:
            DataError: A number is NaN or infinite.
        """
        total = float(x.sum(dtype=torch.float64))
        if total - total != 0:
            raise DataError("a value is NaN or infinite; binary levels need finite ones. Look for "
                            "such values in the data of the calibration")
        self._count += x.numel()
        self._sum += total
        mean = self._sum / max(self._count, 1)
        self._distance += float((x.float() - mean).abs().sum(dtype=torch.float64))

    def range(self) -> tuple[Tensor, Tensor]:
        """The two levels, shape () each: the mean less and plus the mean distance from it.

        Raises:
            DataError: Nothing was seen.
        """
        if self._count == 0:
            raise DataError("no value was seen; binary levels need one at least")
        mean, distance = self._sum / self._count, self._distance / self._count
        return torch.tensor(mean - distance), torch.tensor(mean + distance)


def binarize(x: Tensor, scale: Tensor, shift: Tensor, role: Role,
             factor: float = 1.0) -> Tensor:
    """``scale`` where ``x >= shift``, else ``-scale``.

    A weight's gradient passes where its magnitude is at most 1. An activation's is that of a
    piecewise quadratic sign, as wide as the scale (Liu et al. 2020, eq. 7, whose values have a
    scale of 1): ``2 - 2 |x - shift| / scale`` within a scale of the shift, else 0; the shift's is
    its negative. The scale's gradient is the sign.

    Args:
        x: Real values, any shape, float32.
        scale: Positive, broadcasts with ``x``.
        shift: Shaped as ``scale``; 0 for weights.
        role: What ``x`` is, whose gradient is taken.
        factor: The gradients of ``scale`` and ``shift`` are multiplied with it.

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
            of_x = torch.ops.aten.hardtanh_backward(  # which takes no equality at its ends
                gradient, x, *(end * (1 + 2.0**-23) for end in (-_LARGEST_WEIGHT, _LARGEST_WEIGHT)))
        else:
            slope = torch.sub(x, shift).abs_().mul_(-2 / scale).add_(2).clamp_(min=0)
            of_x = slope.mul_(gradient)
        if ctx.needs_input_grad[1]:
            of_scale = (gradient * binary_signs(x, shift)).sum_to_size(scale.shape) * ctx.factor
        if ctx.needs_input_grad[2]:
            of_shift = -of_x.sum_to_size(shift.shape) * ctx.factor
        return of_x, of_scale, of_shift, None, None
