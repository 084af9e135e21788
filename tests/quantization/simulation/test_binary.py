"""Binarization, compared with a slow reference and with the published gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgewright.errors import DataError
from edgewright.quantization.scheme import Role
from edgewright.quantization.simulation import BinaryLevels
from edgewright.quantization.simulation._binary import binarize


def slow_binarize(x: Tensor, scale: Tensor, shift: Tensor, role: Role,
                  factor: float) -> Tensor:
    """Out of plain operations, whose gradients autograd finds."""
    scale, shift = (t.detach() + (t - t.detach()) * factor for t in (scale, shift))
    signs = torch.where(x >= shift, 1.0, -1.0)
    if role == "weight":
        smooth = x.clamp(-1, 1)
        return signs * scale + (smooth - smooth.detach())
    unit = scale.detach()
    ratio = ((x - x.detach()) - (shift - shift.detach()) + (x - shift).detach()) / unit
    parabola = torch.where(ratio >= 0, 2 * ratio - ratio**2, 2 * ratio + ratio**2)
    smooth = torch.where(ratio.abs() < 1, parabola, torch.sign(ratio)) * unit
    return signs * scale + (smooth - smooth.detach())


def gradients_of(function: Any, role: Role, leaves: list[Tensor]) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in leaves]
    out = function(*leaves, role, 0.3)
    out.backward(torch.sin(torch.arange(out.numel()) + 1.0).reshape(out.shape))
    return [out.detach(), *(torch.zeros_like(t) if t.grad is None else t.grad for t in leaves)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.floats(0.1, 3))
def test_activation_gradients_equal_the_reference(seed: int, by_channel: bool, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 5, 1, 1) if by_channel else ()
    x = torch.randn(3, 5, 4, 4, generator=generator)
    scale = torch.rand(shape, generator=generator) * size + 0.1
    shift = torch.randn(shape, generator=generator) / 2
    fast = gradients_of(binarize, "activation", [x, scale, shift])
    slow = gradients_of(slow_binarize, "activation", [x, scale, shift])
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_weight_gradients_equal_the_reference(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 4, 3, 3, generator=generator)
    x[0, 0, 0] = torch.tensor([-1.0, 0.0, 1.0])
    scale = torch.rand(6, 1, 1, 1, generator=generator) + 0.1
    for one, other in zip(*(gradients_of(function, "weight", [x, scale])
                            for function in (_without_shift(binarize),
                                             _without_shift(slow_binarize))), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def _without_shift(function: Any) -> Callable[..., Any]:
    return lambda x, scale, *rest: function(x, scale, torch.zeros_like(scale), *rest)


def test_activation_gradients_match_the_paper() -> None:
    x = torch.tensor([-1.5, -0.75, -0.25, 0.25, 0.75, 1.5], requires_grad=True)
    binarize(x, torch.tensor(1.0), torch.tensor(0.0), "activation").sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2 - 1.5, 2 - 0.5, 2 - 0.5, 2 - 1.5, 0]


def test_weight_gradient_passes_up_to_magnitude_one() -> None:
    x = torch.tensor([-1.01, -1.0, 0.0, 1.0, 1.01], requires_grad=True)
    binarize(x, torch.tensor(0.2), torch.tensor(0.0), "weight").sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_mean_magnitude_minimizes_the_error() -> None:
    w = torch.randn(50, generator=torch.Generator().manual_seed(0))
    zero = torch.tensor(0.0)
    errors = {share: (w - binarize(w, w.abs().mean() * share, zero, "weight")).square().sum().item()
              for share in (0.9, 1.0, 1.1)}
    assert min(errors, key=errors.__getitem__) == 1.0


def test_levels_are_the_mean_plus_and_minus_the_distance() -> None:
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)).relu()
    levels = BinaryLevels()
    for part in x.split(500):
        levels.update(part)
    mean, distance = x.mean(), (x - x.mean()).abs().mean()
    low, high = levels.range()
    torch.testing.assert_close((low + high) / 2, mean)
    torch.testing.assert_close((high - low) / 2, distance, rtol=0.03, atol=0)


def test_levels_of_no_values_or_nan_are_rejected() -> None:
    with pytest.raises(DataError, match="no values were observed"):
        BinaryLevels().range()
    for value in ("nan", "inf"):
        with pytest.raises(DataError, match="a value is NaN or infinite"):
            BinaryLevels().update(torch.tensor([1.0, float(value)]))
