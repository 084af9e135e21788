"""What kinds of predictions have in common, and a reference for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgewright.goals import Bernoulli, Categorical, Direction, PredictionKind, Values

KINDS = [Categorical(), Bernoulli(), Values(), Direction()]
shapes = st.lists(st.integers(2, 4), min_size=2, max_size=4)
seeds = st.integers(0, 2**31)


def draw(shape: list[int], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    return first, noise


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@given(shape=shapes, seed=seeds)
def test_agreement_is_a_share_for_each_sample(kind: PredictionKind, shape: list[int],
                                              seed: int) -> None:
    first, noise = draw(shape, seed)
    found = kind.agree(first, first + noise)
    assert found.shape == (shape[0],)
    assert bool(((found >= 0) & (found <= 1)).all())
    assert bool((kind.agree(first, first.clone()) == 1).all())
    assert kind.agreement


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@given(shape=shapes, seed=seeds)
def test_centering_twice_changes_nothing_more(kind: PredictionKind, shape: list[int],
                                              seed: int) -> None:
    centered = kind.center(draw(shape, seed)[0])
    torch.testing.assert_close(kind.center(centered), centered, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@given(shape=shapes, seed=seeds)
def test_the_distance_of_equals_is_zero_and_of_others_positive(kind: PredictionKind,
                                                               shape: list[int], seed: int) -> None:
    first, noise = draw(shape, seed)
    assert float(kind.distance(first, first.clone())) == pytest.approx(0, abs=1e-6)
    assert float(kind.distance(first + noise, first)) > 0


@given(shape=shapes, seed=seeds, axis=st.integers(1, 3))
def test_categorical_by_hand(shape: list[int], seed: int, axis: int) -> None:
    first, noise = draw(shape, seed)
    kind = Categorical(min(axis, len(shape) - 1))
    second = first + noise
    logits = kind.class_logits(first)
    assert logits is not None
    flat = zip(logits.reshape(shape[0], -1, logits.shape[-1]).tolist(),
               second.movedim(kind.axis, -1).reshape(shape[0], -1, logits.shape[-1]).tolist(),
               strict=True)
    expected = [sum(a.index(max(a)) == b.index(max(b)) for a, b in zip(one, other, strict=True))
                / len(one) for one, other in flat]
    assert kind.agree(first, second).tolist() == pytest.approx(expected)
    torch.testing.assert_close(logits.softmax(-1), first.softmax(kind.axis).movedim(kind.axis, -1))
    torch.testing.assert_close(kind.center(first).softmax(kind.axis), first.softmax(kind.axis))
    assert kind.center(first).sum(kind.axis).abs().max() < 1e-5


@given(shape=shapes, seed=seeds, temperature=st.floats(0.5, 8))
def test_bernoulli_as_two_classes(shape: list[int], seed: int, temperature: float) -> None:
    first, noise = draw(shape, seed)
    kind = Bernoulli()
    logits = kind.class_logits(first)
    assert logits is not None
    found = (logits / temperature).softmax(-1)
    torch.testing.assert_close(found[..., 1], torch.sigmoid(first / temperature))
    torch.testing.assert_close(found.sum(-1), torch.ones(shape))
    same = (first > 0) == (first + noise > 0)
    assert torch.equal(kind.agree(first, first + noise), same.flatten(1).float().mean(1))


@given(shape=shapes, seed=seeds, scale=st.sampled_from([1e-4, 1.0, 1e4]))
def test_values_do_not_depend_on_their_unit(shape: list[int], seed: int, scale: float) -> None:
    first, noise = draw(shape, seed)
    second = first + 0.05 * noise
    kind = Values(tolerance=0.05)
    near = (first - second).abs() / first.std(correction=0)
    expected = (near <= 0.05).flatten(1).float().mean(1)
    clear = bool(((near - 0.05).abs() > 1e-4).all())
    assert not clear or torch.equal(kind.agree(scale * first, scale * second), expected)
    assert float(kind.distance(scale * second, scale * first)) == pytest.approx(
        float(F.mse_loss(second, first) / first.var(correction=0) / 2), rel=1e-3)
    assert kind.class_logits(first) is None
    assert kind.center(first) is first


@pytest.mark.parametrize("teacher", [torch.full((4, 2), 3.0), torch.zeros(4, 2),
                                     torch.full((1, 1), 0.1)])
def test_the_distance_to_a_constant_teacher_is_finite(teacher: Any) -> None:
    student = (teacher + 0.5).requires_grad_()
    loss = Values().distance(student, teacher)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    assert float(Values().distance(teacher, teacher)) == 0


@given(shape=shapes, seed=seeds, scale=st.floats(0.1, 10))
def test_directions_do_not_depend_on_length(shape: list[int], seed: int, scale: float) -> None:
    first, noise = draw(shape, seed)
    kind = Direction(cosine=0.9)
    cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in
               zip(first.flatten(1), (first + noise).flatten(1), strict=True)]
    if all(abs(cosine - 0.9) > 1e-4 for cosine in cosines):
        expected = [float(cosine >= 0.9) for cosine in cosines]
        assert kind.agree(first, scale * (first + noise)).tolist() == expected
    assert float(kind.distance(scale * (first + noise), first)) == pytest.approx(
        1 - sum(cosines) / len(cosines), abs=1e-5)
    torch.testing.assert_close(kind.center(scale * first), kind.center(first))
    torch.testing.assert_close(kind.center(first).norm(dim=1), torch.ones(shape[0]))
