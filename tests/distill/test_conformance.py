"""What every distillation objective must do, whatever it compares."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgewright.distill import FEATURE_LOSSES, LOGIT_LOSSES, Distillation, DistillationLoss
from edgewright.task import Batch

OBJECTIVES = {**{name: {"logits": name} for name in LOGIT_LOSSES},
              **{name: {"features": name} for name in FEATURE_LOSSES}}
LABELS = {"indices": torch.tensor([0, 2, 1, 1]),
          "mixed": torch.tensor([[0.8, 0.0, 0.2], [0.3, 0.1, 0.6], [0, 1.0, 0], [0.1, 0.7, 0.2]])}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def parts(count: int = 4) -> Any:
    """Features and logits, of the student and of the teacher."""
    return [(torch.randn(count, 5, 3, 3), torch.randn(count, 3)) for _ in range(2)]


def objective(saying: Any, name: str, teacher: Any, alpha: float = 1.0) -> Any:
    settings = Distillation(alpha=alpha, **OBJECTIVES[name])
    return DistillationLoss(saying(teacher[1], teacher[0]), settings,
                            features=int(settings.features is not None))


def outputs(name: str, student: Any) -> Any:
    return student if name in FEATURE_LOSSES else student[1:]


def batch(labels: Any, count: int = 4) -> Any:
    return Batch((), labels[:count], torch.arange(count))


@every_objective
@pytest.mark.parametrize("labels", LABELS)
def test_losses_are_zero_if_the_student_equals_the_teacher(saying: Any, name: Any,
                                                           labels: Any) -> None:
    student, _ = parts()
    found = objective(saying, name, student).loss(outputs(name, student), batch(LABELS[labels]))
    assert found.shape == ()
    assert float(found) == pytest.approx(0, abs=1e-6)


@every_objective
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_losses_are_finite_and_only_the_student_gets_a_gradient(saying: Any, name: Any, labels: Any,
                                                                count: int) -> None:
    student, teacher = parts(count)
    for tensor in (*student, *teacher):
        tensor.requires_grad_()
    given = outputs(name, student)
    loss = objective(saying, name, teacher, alpha=0.5).loss(given, batch(LABELS[labels], count))
    loss.backward()
    assert float(loss.detach()) > 0
    assert all(torch.isfinite(tensor.grad).all() for tensor in given)
    assert all(tensor.grad is None for tensor in teacher)
    assert bool((student[1].grad != 0).any())
    if name in FEATURE_LOSSES and (count > 2 or name != "relational") \
            and (count > 1 or name != "similarity"):
        assert bool((student[0].grad != 0).any())


@every_objective
def test_a_step_against_its_gradient_lowers_it(saying: Any, name: Any) -> None:
    student, teacher = parts()
    told = objective(saying, name, teacher)
    given = tuple(tensor.requires_grad_() for tensor in outputs(name, student))
    loss = told.loss(given, batch(LABELS["indices"]))
    grads = torch.autograd.grad(loss, given)
    size = 1e-3 / sum(float(grad.square().sum()) for grad in grads)
    moved = tuple(tensor.detach() - size * grad for tensor, grad in zip(given, grads, strict=True))
    assert float(told.loss(moved, batch(LABELS["indices"]))) < float(loss.detach())


@every_objective
def test_half_precision_matches_single_precision(saying: Any, name: Any) -> None:
    student, teacher = parts()
    given = tuple(tensor.bfloat16() for tensor in outputs(name, student))
    told = objective(saying, name, teacher, alpha=0.5)
    found = told.loss(given, batch(LABELS["indices"]))
    want = told.loss(tuple(tensor.float() for tensor in given), batch(LABELS["indices"]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, want)


@every_objective
def test_the_name_includes_the_settings(saying: Any, name: Any) -> None:
    student, _ = parts()
    names = {objective(saying, name, student).name, objective(saying, name, student, 0.5).name}
    assert len(names) == 2
    assert all(f'"{name}"' in one for one in names)
