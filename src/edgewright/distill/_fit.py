"""Training a program, from labels or from a teacher."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edgewright.distill._hinton import Distillation, HintonDistillation
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import LabelLoss, Objective, Progress, Training, train


def fit(program: Program, task: Task, training: Training | None = None,  # noqa: PLR0913 - public
        teacher: Program | nn.Module | None = None, *, distillation: Distillation | None = None,
        seed: int = 0, checkpoint: Path | None = None,
        progress: Progress | None = None) -> Program:
    """Train a program on the labels, and on a teacher's outputs where there is one.

    Args:
        program: The program to train; it is left as it is.
        task: Its data.
        training: Optimiser, schedule, precision; None for the defaults.
        teacher: A program or a module with the same inputs and classes; None learns from the
            labels alone.
        distillation: Temperature and alpha; None for the defaults.
        seed: Of the order of samples, their augmentation, and dropout.
        checkpoint: Written after every epoch, and resumed from.
        progress: Is told of every step.

    Returns:
        A new program with the weights of the best epoch on the validation split.

    Raises:
        UsageError: The program is quantised, so its weights are integers.
        TrainingError: The loss is no longer finite.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> x, y = torch.randn(64, 4), torch.arange(64) % 2
        >>> program = Program.capture(nn.Linear(4, 2), x[:2])
        >>> trained = fit(program, Task((x, y), test=(x, y)), Training(epochs=1))
        >>> trained is program
        False
    """
    if program.is_quantized:
        raise UsageError("a quantised program cannot be trained; train before quantising, or "
                         "quantise with method='qat', which trains")
    config = Training() if training is None else training
    objective = objective_for(teacher, distillation, config.label_smoothing)
    module = program.module(train=True)
    train(module, task, config, objective, seed=seed, checkpoint=checkpoint, progress=progress)
    return program.with_state(module.state_dict())


def objective_for(teacher: Program | nn.Module | None, distillation: Distillation | None = None,
                  label_smoothing: float = 0.0) -> Objective:
    """Distillation where there is a teacher, else the labels alone.

    Example:
        >>> objective_for(None).name
        'LabelLoss(0.0)'
    """
    if teacher is None:
        return LabelLoss(label_smoothing)
    module = teacher.module() if isinstance(teacher, Program) else teacher
    return HintonDistillation(module, distillation, label_smoothing=label_smoothing)
