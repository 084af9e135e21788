from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edgewright.distill import Distillation, HintonDistillation, objective_for
from edgewright.errors import ModelError, UsageError
from edgewright.task import Batch, Task
from edgewright.training import LabelLoss, Training, train


class Fixed(nn.Module):
    """A teacher that ignores its input, and whose dropout would show if it were left on."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.dropout = nn.Dropout(0.5)

    def forward(self, *inputs):
        return self.logits * 0 + 7, self.dropout(self.logits)


def labelled(targets):
    return Batch((), targets, torch.arange(len(targets)))


def softmax(row, temperature):
    powers = [math.exp(v / temperature) for v in row]
    return [p / sum(powers) for p in powers]


def by_hand(outputs, taught, targets, temperature, alpha):
    """The definition, one sample at a time."""
    total = 0.0
    for logits in outputs:
        for z, v, label in zip(logits.tolist(), taught.tolist(), targets.tolist(), strict=True):
            student, teacher = softmax(z, temperature), softmax(v, temperature)
            kl = sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))
            hard = -math.log(softmax(z, 1)[label])
            total += alpha * temperature**2 * kl + (1 - alpha) * hard
    return total / (len(targets) * len(outputs))


@pytest.mark.parametrize(("temperature", "alpha"), [(4.0, 0.9), (1.0, 0.5), (0.5, 1.0), (8.0, 0.0)])
@pytest.mark.parametrize("exits", [1, 3])
def test_the_loss_equals_the_definition(temperature, alpha, exits):
    torch.manual_seed(0)
    outputs = tuple(3 * torch.randn(5, 4) for _ in range(exits))
    taught, targets = 3 * torch.randn(5, 4), torch.tensor([0, 3, 1, 2, 2])
    settings = Distillation(temperature=temperature, alpha=alpha)
    found = HintonDistillation(Fixed(taught), settings).loss(outputs, labelled(targets))
    assert float(found.detach()) == pytest.approx(by_hand(outputs, taught, targets, temperature, alpha),
                                         rel=1e-5)


def test_at_a_high_temperature_the_gradient_is_that_of_matching_logits():
    """Hinton et al. 2015, equation 4: T^2 times the gradient tends to (z - v) / N, zero-meaned."""
    torch.manual_seed(0)
    student = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    taught = torch.randn(2, 5, dtype=torch.float64)
    objective = HintonDistillation(Fixed(taught), Distillation(temperature=1e4, alpha=1.0))
    objective.loss((student,), labelled(torch.tensor([0, 1]))).backward()
    centred = (student - student.mean(1, keepdim=True)) - (taught - taught.mean(1, keepdim=True))
    torch.testing.assert_close(student.grad, (centred / 5 / 2).detach(), rtol=1e-3, atol=1e-4)


def test_the_teacher_gets_no_gradient_and_stays_in_evaluation_mode():
    teacher = Fixed(torch.randn(2, 3)).train()
    student = torch.randn(2, 3, requires_grad=True)
    objective = HintonDistillation(teacher)
    objective.loss((student,), labelled(torch.tensor([0, 1]))).backward()
    assert not teacher.training
    assert teacher.logits.grad is None
    assert student.grad is not None


def test_the_teacher_sees_the_inputs_of_the_student():
    seen = []

    class Watching(nn.Linear):
        def forward(self, x):
            seen.append(x.clone())
            return super().forward(x)

    x, y = torch.randn(32, 4), torch.arange(32) % 2
    teacher, student = Watching(4, 2), Watching(4, 2)
    train(student, Task((x, y), (x, y), (x[1:], y[1:])),
          Training(epochs=1, batch_size=16, accelerator="cpu"), HintonDistillation(teacher))
    assert len(seen) == 6  # the student's label check, two steps of both, its validation
    assert torch.equal(seen[1], seen[2])
    assert torch.equal(seen[3], seen[4])


def test_label_smoothing_reaches_the_labels_share():
    outputs, targets = (torch.randn(4, 3),), torch.tensor([0, 1, 2, 0])
    settings = Distillation(alpha=0.0)
    objective = HintonDistillation(Fixed(torch.randn(4, 3)), settings, label_smoothing=0.2)
    expected = LabelLoss(0.2).loss(outputs, labelled(targets))
    torch.testing.assert_close(objective.loss(outputs, labelled(targets)), expected)


def test_other_classes_are_refused():
    objective = HintonDistillation(Fixed(torch.zeros(2, 4)))
    with pytest.raises(ModelError, match=r"teacher's output has shape \(2, 4\), the student's "
                                         r"\(2, 3\); they must have the same classes"):
        objective.loss((torch.zeros(2, 3),), labelled(torch.tensor([0, 1])))


@pytest.mark.parametrize("arguments", [{"temperature": 0}, {"alpha": 1.1}, {"alpha": -0.1}])
def test_values_out_of_range_are_usage_errors(arguments):
    with pytest.raises(UsageError, match=f"Distillation: {next(iter(arguments))}: Input should"):
        Distillation(**arguments)


def test_the_name_tells_settings_apart():
    names = {HintonDistillation(Fixed(torch.zeros(1)), Distillation(temperature=t, alpha=a),
                                label_smoothing=s).name
             for t in (1.0, 2.0) for a in (0.1, 0.2) for s in (0.0, 0.1)}
    assert len(names) == 8


def test_without_a_teacher_the_labels_teach():
    assert objective_for(None, label_smoothing=0.1).name == LabelLoss(0.1).name
    assert isinstance(objective_for(nn.Identity()), HintonDistillation)
