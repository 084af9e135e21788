"""Train a program from labels or from a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from edgewright.distill._as_teacher import TeacherLike, as_program, as_teacher
from edgewright.distill._cache import cache_teacher, find_logits
from edgewright.distill._compiled_teacher import CompiledTeacher
from edgewright.distill._config import Distillation
from edgewright.distill._distillation_loss import DistillationLoss, regresses_outputs
from edgewright.distill._feature_losses import FEATURE_LOSSES
from edgewright.distill._features import FeatureStudent
from edgewright.distill._pairs import find_pairs
from edgewright.distill._self_distillation_loss import SelfDistillationLoss
from edgewright.distill._teacher import ModuleTeacher, Teacher
from edgewright.errors import ModelError, UsageError
from edgewright.goals import Classification, Goal
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import (
    GoalLoss,
    Objective,
    Progress,
    Training,
    sample_batch,
    single_device_fabric,
    split_exits,
    to_device,
    train,
)


def fit(program: Program, task: Task, training: Training | None = None,  # noqa: PLR0913 - public
        teacher: TeacherLike | None = None, *, distillation: Distillation | None = None,
        objective: Objective | None = None, cache: str | Path | None = None, views: int = 4,
        seed: int = 0, checkpoint: Path | None = None, progress: Progress | None = None) -> Program:
    """Train a program on the task's targets, and on a teacher if there is one.

    With a teacher and ``Distillation(alpha=1)`` the task needs no targets.

    Args:
        program: The program to train; it is not modified.
        task: The data.
        training: Optimizer, schedule, precision; None for the defaults.
        teacher: A program, a module, a file (``.pt2``, ``.onnx``, ``.edge``), a model reference,
            a `Teacher`, or several of these, whose outputs are averaged; it must have the same
            inputs, and predictions of the same names and shapes. None trains on the targets only.
        distillation: The distillation losses; None for the defaults. Features are paired by name
            or by depth; see `find_pairs`.
        objective: Another loss to minimize, instead of the goal's and of a teacher.
        cache: File for the teacher's outputs, so that the teacher runs only once per view; see
            `cache_teacher`. Use it if the teacher is slow and there are many epochs. None runs the
            teacher at every step.
        views: Number of views of every sample in the cache; the epochs cycle through them.
        seed: Seed of the sample order, augmentation, and dropout.
        checkpoint: File that is written after every epoch and resumed from.
        progress: Receives every step.

    Returns:
        A new program with the weights of the best epoch on the validation split.

    Raises:
        UsageError: The program is quantized, so its weights are integers; the teacher cannot be
            used; a cache is combined with features or mixed samples; or an objective is combined
            with a teacher, a cache or label smoothing.
        ModelError: Predictions of teacher and student do not match, or there are no features to
            compare.
        StorageError: The cache is for another teacher, other data or views, or is damaged.
        TrainingError: The loss is not finite.

    Example:
        >>> import torch
        >>> x, y = torch.randn(64, 4), torch.arange(64) % 2
        >>> program = Program.capture(torch.nn.Linear(4, 2), x[:2])
        >>> trained = fit(program, Task((x, y), test=(x, y)), Training(epochs=1))
        >>> trained is program
        False
    """
    if program.is_quantized:
        raise UsageError("a quantized program cannot be trained; train before quantizing, or "
                         "quantize with method='qat', which trains")
    config = Training() if training is None else training
    settings = Distillation() if distillation is None else distillation
    if objective is not None:
        _check_alone(teacher, config, settings, cache)
    elif cache is not None:
        teacher = _check_cacheable(teacher, config, settings, cache)
        teacher = _load_or_make_cache(teacher, program, task, config, Path(cache), views, progress)
    if teacher is not None and settings.features is not None:
        student, loss = _make_feature_student(program, teacher, task, config, settings, seed)
        train(student, task, config, loss, seed=seed, checkpoint=checkpoint,
              progress=progress)
        return program.with_state(student.network_state())
    module = program.module(train=True)
    loss = objective or make_objective(teacher, task.goal, settings, config.label_smoothing)
    train(module, task, config, loss, seed=seed, checkpoint=checkpoint, progress=progress)
    return program.with_state(module.state_dict())


def make_objective(teacher: TeacherLike | None, goal: Goal | None = None,
                   distillation: Distillation | None = None,
                   label_smoothing: float = 0.0) -> Objective:
    """The distillation loss if there is a teacher, else the goal's loss; without features.

    Args:
        teacher: As for `fit`.
        goal: The task's goal; None for a classification.
        distillation: The distillation losses; None for the defaults.
        label_smoothing: Label smoothing of a goal with classes; 0 keeps the goal's own.

    Raises:
        UsageError: The teacher cannot be used, or label smoothing for a goal without classes.

    Example:
        >>> from edgewright.goals import Embedding
        >>> make_objective(None, Embedding()).goal.name
        'embedding'
    """
    settings = Distillation() if distillation is None else distillation
    goal = Classification() if goal is None else goal
    objective = (GoalLoss(goal, label_smoothing) if teacher is None else
                 DistillationLoss(as_teacher(teacher), settings,
                                  goal=goal.smooth_labels(label_smoothing)))
    return _add_self_distillation(objective, settings, goal)


def _add_self_distillation(objective: Objective, settings: Distillation, goal: Goal,
                           features: int = 0) -> Objective:
    if not settings.self_weight:
        return objective
    return SelfDistillationLoss(objective, settings, goal=goal, features=features)


def _make_feature_student(program: Program, teacher: TeacherLike, task: Task, config: Training,
                          settings: Distillation, seed: int) -> tuple[FeatureStudent, Objective]:
    source = as_program(teacher, task.train.example(2))
    pairs = find_pairs(program, source, settings.pairs)
    method = FEATURE_LOSSES[str(settings.features)]
    student = FeatureStudent(program, pairs, projected=method.projected, seed=seed).train()
    taps = [pair.teacher for pair in pairs]
    objective = DistillationLoss(
        teacher.tap(taps) if isinstance(teacher, CompiledTeacher) else ModuleTeacher(source, taps),
        settings, goal=task.goal.smooth_labels(config.label_smoothing), features=len(pairs))
    return student, _add_self_distillation(objective, settings, task.goal, len(pairs))


def _check_alone(teacher: TeacherLike | None, config: Training, settings: Distillation,
                 cache: str | Path | None) -> None:
    """Check that nothing is given that an objective of the user's own does not use."""
    unused = {"a teacher": teacher is not None, "a cache": cache is not None,
              f"label_smoothing={config.label_smoothing}": config.label_smoothing != 0,
              "distillation settings": settings != Distillation()}
    if found := [name for name, given in unused.items() if given]:
        raise UsageError(f"an objective replaces the goal's loss and the teacher's, so "
                         f"{' and '.join(found)} would have no effect; omit it, or the objective")


def _check_cacheable(teacher: TeacherLike | None, config: Training, settings: Distillation,
                     path: str | Path) -> TeacherLike:
    """Return the teacher after checking that the settings work with a cache."""
    if teacher is None:
        raise UsageError(f"the cache {path} stores a teacher's outputs, but there is no teacher; "
                         "give one, or omit cache")
    if settings.features is not None:
        raise UsageError(f"features={settings.features!r} cannot be learned from a teacher cache, "
                         "which stores only logits; set features=None, or omit cache")
    if regresses_outputs(settings):
        raise UsageError(f"logits={settings.logits!r} with alpha=1 uses no targets, so epochs are "
                         "compared by the teacher's outputs on the validation samples, which a "
                         "teacher cache does not hold; set alpha below 1, or omit cache")
    if mixing := config.augment.mixing_names:
        raise UsageError(f"{' and '.join(mixing)} cannot be used with a teacher cache, which "
                         "stores outputs for single samples only; leave it at 0, or omit cache")
    return teacher


def _run_on_samples(program: Program, task: Task) -> Any:
    """What the final exit returns for training samples, checked by the goal; targets may lack."""
    batch = sample_batch(task)
    outputs = split_exits(program.run(*batch.inputs), program.exits)[-1]
    task.goal.check_outputs(outputs, batch.inputs)
    task.check(outputs)
    return outputs


def _load_or_make_cache(teacher: TeacherLike, program: Program, task: Task, config: Training,
                        path: Path, views: int, progress: Progress | None) -> Teacher:
    """A cached teacher from a file, which is created if it does not exist."""
    expected = _shape(find_logits(task.goal, _run_on_samples(program, task)))
    live, device = as_teacher(teacher), single_device_fabric(config).device
    sample = to_device(next(task.train.select(range(1)).batches(1)), device)
    live.to(device)
    classes = _shape(find_logits(task.goal, live.teach(sample).outputs))
    if classes != expected:
        raise ModelError(f"the teacher {live.name} returns {classes} logits per sample, the "
                         f"student {expected}; they must have the same classes")
    first = config.augment.view(0)
    return cache_teacher(live, task, path, views=None if first is None else views,
                         policy="standard" if first is None else first.policy, device=device,
                         progress=progress)


def _shape(logits: Tensor) -> tuple[int, ...]:
    """Shape for one sample."""
    return tuple(logits.shape[1:])
