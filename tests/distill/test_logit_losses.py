"""Every loss against its definition, one sample and one class at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.distill import LOGIT_LOSSES, Distillation
from edgewright.distill._logit_losses import target_classes

TARGETS = torch.tensor([0, 3, 1, 2, 2])


def softmax(row: Any) -> Any:
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def divergence(of: Any, by: Any) -> Any:
    return sum(p * math.log(p / q) for p, q in zip(of, by, strict=True))


def hinton(z: Any, v: Any, target: Any, config: Any) -> Any:
    student, teacher = (softmax([x / config.temperature for x in row]) for row in (z, v))
    return config.temperature**2 * divergence(teacher, student)


def decoupled(z: Any, v: Any, target: Any, config: Any) -> Any:
    said, told = (softmax([x / config.temperature for x in row]) for row in (z, v))
    pairs = [[p[target], sum(x for c, x in enumerate(p) if c != target)] for p in (told, said)]
    others = [[x / pair[1] for c, x in enumerate(p) if c != target]
              for p, pair in zip((told, said), pairs, strict=True)]
    return config.temperature**2 * (config.target_weight * divergence(*pairs)
                                    + config.nontarget_weight * divergence(*others))


def z_scores(row: Any) -> Any:
    mean = sum(row) / len(row)
    spread = math.sqrt(sum((x - mean)**2 for x in row) / len(row))
    return [(x - mean) / spread for x in row]


def standardized(z: Any, v: Any, target: Any, config: Any) -> Any:
    return hinton(z_scores(z), z_scores(v), target, config)


def mse(z: Any, v: Any, target: Any, config: Any) -> Any:
    return sum((a - b)**2 for a, b in zip(z, v, strict=True)) / 2 / len(z)


def smooth_l1(z: Any, v: Any, target: Any, config: Any) -> Any:
    gaps = [abs(a - b) for a, b in zip(z, v, strict=True)]
    return sum(gap**2 / 2 if gap < 1 else gap - 0.5 for gap in gaps) / len(z)


REFERENCES = {function.__name__: function
              for function in (hinton, decoupled, standardized, mse, smooth_l1)}
every_loss = pytest.mark.parametrize("name", LOGIT_LOSSES)


def by_hand(name: str, student: Any, teacher: Any, targets: Any, config: Any) -> Any:
    rows = zip(student.flatten(0, -2).tolist(), teacher.flatten(0, -2).tolist(),
               targets.flatten().tolist(), strict=True)
    found = [REFERENCES[name](z, v, target, config) for z, v, target in rows]
    return sum(found) / len(found)


def logits(*shape: Any) -> Any:
    return 3 * torch.randn(*shape, dtype=torch.float64)


@every_loss
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_equals_its_definition(name: Any, temperature: float) -> None:
    config = Distillation(temperature=temperature, target_weight=0.7, nontarget_weight=3)
    student, teacher = logits(5, 4), logits(5, 4)
    found = LOGIT_LOSSES[name](student, teacher, TARGETS, config)
    want = by_hand(name, student, teacher, TARGETS, config)
    assert float(found) == pytest.approx(want, rel=1e-9)


@every_loss
def test_of_a_sequence_every_position_counts_as_a_sample(name: Any) -> None:
    student, teacher = logits(2, 3, 4), logits(2, 3, 4)
    targets = torch.randint(0, 4, (2, 3))
    found = LOGIT_LOSSES[name](student, teacher, targets, Distillation())
    want = by_hand(name, student, teacher, targets, Distillation())
    assert float(found) == pytest.approx(want, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 10), st.floats(-20, 20), st.floats(0.1, 5))
def test_what_each_is_blind_to(seed: Any, temperature: Any, shift: Any, scale: Any) -> None:
    torch.manual_seed(seed)
    student, teacher = logits(5, 4), logits(5, 4)
    config = Distillation(temperature=temperature)
    for name, loss in LOGIT_LOSSES.items():
        plain = float(loss(student, teacher, TARGETS, config))
        moved = float(loss(student + shift, teacher, TARGETS, config))
        scaled = float(loss(scale * student, teacher, TARGETS, config))
        assert name in {"mse", "smooth_l1"} or moved == pytest.approx(plain, rel=1e-6, abs=1e-9)
        assert name != "standardized" or scaled == pytest.approx(plain, rel=1e-6, abs=1e-9)


def test_decoupled_is_hintons_loss_where_it_is_weighed_by_what_the_teacher_leaves() -> None:
    """Zhao et al. 2022, equation 6, sample by sample."""
    student, teacher = logits(5, 4), logits(5, 4)
    for row in range(5):
        one = slice(row, row + 1)
        left = 1 - float((teacher[one] / 4).softmax(1)[0, TARGETS[row]])
        config = Distillation(nontarget_weight=left)
        whole = LOGIT_LOSSES["hinton"](student[one], teacher[one], TARGETS[one], config)
        parts = LOGIT_LOSSES["decoupled"](student[one], teacher[one], TARGETS[one], config)
        torch.testing.assert_close(parts, whole)


def test_at_a_high_temperature_the_gradient_is_that_of_matching_logits() -> None:
    """Hinton et al. 2015, equation 4: T^2 times the gradient tends to (z - v) / N, zero-meaned."""
    student, teacher = logits(2, 5).requires_grad_(), logits(2, 5)
    LOGIT_LOSSES["hinton"](student, teacher, TARGETS, Distillation(temperature=1e4)).backward()
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(student.grad, (centred / 5 / 2).detach(), rtol=1e-3, atol=1e-4)


def test_extreme_and_equal_logits_stay_finite() -> None:
    sure = torch.tensor([[200.0, -200.0, 0.0], [0.0, 0.0, 0.0]])
    other = torch.tensor([[-200.0, 200.0, 0.0], [7.0, 7.0, 7.0]])
    targets = torch.tensor([0, 1])
    for loss in LOGIT_LOSSES.values():
        student = other.clone().requires_grad_()
        found = loss(student, sure, targets, Distillation(temperature=1.0))
        found.backward()
        assert torch.isfinite(found)
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()


def test_the_target_of_mixed_labels_is_the_largest() -> None:
    mixed = torch.tensor([[0.3, 0.7], [0.6, 0.4]])
    assert target_classes(torch.zeros(2, 2), mixed).tolist() == [1, 0]
    assert target_classes(torch.zeros(2, 2), torch.tensor([0, 1])).tolist() == [0, 1]
