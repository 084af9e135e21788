"""Distillation through a chain of teacher assistants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgewright.distill._as_teacher import TeacherLike
from edgewright.distill._config import Distillation
from edgewright.distill._fit import fit
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import Progress, Training


def fit_chain(programs: Sequence[Program], task: Task,  # noqa: PLR0913 - public
              training: Training | None = None, teacher: TeacherLike | None = None, *,
              distillation: Distillation | None = None, seed: int = 0,
              checkpoints: Path | None = None,
              progress: Progress | None = None) -> tuple[Program, ...]:
    """Train each program from the one before it, the first from the teacher.

    Mirzadeh et al. 2020, "Improved knowledge distillation via teacher assistant": a student that is
    much smaller than its teacher learns more from a network of intermediate size.

    Args:
        programs: From the largest assistant down to the student; they are not modified.
        task: The data.
        training: Settings for each training; None for the defaults.
        teacher: Teacher of the first program; None trains it from the labels only.
        distillation: Settings for each training; None for the defaults.
        seed: Seed for each training, as in `fit`.
        checkpoints: Folder for one checkpoint per program; an interrupted chain resumes from there.
        progress: Receives every step.

    Returns:
        The trained programs in the same order, the student last.

    Raises:
        UsageError: There are no programs; otherwise as `fit`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> x, y = torch.randn(64, 4), torch.arange(64) % 2
        >>> wide, narrow = (Program.capture(nn.Sequential(nn.Linear(4, n), nn.Linear(n, 2)), x[:2])
        ...                 for n in (8, 2))
        >>> task = Task((x, y), test=(x, y))
        >>> assistant, student = fit_chain([wide, narrow], task, Training(epochs=1))
        >>> student.costs().parameters < assistant.costs().parameters
        True
    """
    if not programs:
        raise UsageError("a chain needs at least one program, the student last; got none")
    trained: list[Program] = []
    for index, program in enumerate(programs):
        trained.append(fit(
            program, task, training, trained[-1] if trained else teacher,
            distillation=distillation, seed=seed, progress=progress,
            checkpoint=checkpoints / f"{index}.ckpt" if checkpoints else None))
    return tuple(trained)
