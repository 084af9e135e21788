"""Train a program from labels or from a teacher."""

from __future__ import annotations

from pathlib import Path

from edgewright.distill._as_teacher import TeacherLike, as_program, as_teacher
from edgewright.distill._cache import cache_teacher
from edgewright.distill._config import Distillation
from edgewright.distill._distillation_loss import DistillationLoss, uses_labels
from edgewright.distill._feature_losses import FEATURE_LOSSES
from edgewright.distill._features import FeatureStudent
from edgewright.distill._pairs import find_pairs
from edgewright.distill._self_distillation_loss import SelfDistillationLoss
from edgewright.distill._teacher import ModuleTeacher, Teacher
from edgewright.errors import ModelError, UsageError
from edgewright.graph import shape_of
from edgewright.program import Program, outputs_of
from edgewright.task import Task
from edgewright.training import (
    LabelLoss,
    Objective,
    Progress,
    Training,
    check_program,
    single_device_fabric,
    to_device,
    train,
)


def fit(program: Program, task: Task, training: Training | None = None,  # noqa: PLR0913 - public
        teacher: TeacherLike | None = None, *, distillation: Distillation | None = None,
        cache: str | Path | None = None, views: int = 4, seed: int = 0,
        checkpoint: Path | None = None, progress: Progress | None = None) -> Program:
    """Train a program on the labels, and on a teacher if there is one.

    Args:
        program: The program to train; it is not modified.
        task: The data.
        training: Optimizer, schedule, precision; None for the defaults.
        teacher: A program, a module, a file (``.pt2``, ``.onnx``, ``.edge``), a model reference,
            a `Teacher`, or several of these, whose logits are averaged; it must have the same
            inputs and classes. None trains on the labels only.
        distillation: The distillation losses; None for the defaults. Features are paired by name
            or by depth; see `find_pairs`.
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
            used; or a cache is combined with features or mixed samples.
        ModelError: Teacher and student have different classes, or no features to compare.
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
    if cache is not None:
        teacher = _check_cacheable(teacher, config, settings, cache)
        teacher = _load_or_make_cache(teacher, program, task, config, Path(cache), views, progress)
    if teacher is not None and settings.features is not None:
        student, objective = _make_feature_student(program, teacher, task, config, settings, seed)
        train(student, task, config, objective, seed=seed, checkpoint=checkpoint,
              progress=progress)
        return program.with_state(student.network_state())
    module = program.module(train=True)
    objective = make_objective(teacher, settings, config.label_smoothing)
    train(module, task, config, objective, seed=seed, checkpoint=checkpoint, progress=progress)
    return program.with_state(module.state_dict())


def make_objective(teacher: TeacherLike | None, distillation: Distillation | None = None,
                   label_smoothing: float = 0.0) -> Objective:
    """The distillation loss if there is a teacher, else the label loss; without features.

    Example:
        >>> make_objective(None).name
        'LabelLoss(0.0)'
    """
    settings = Distillation() if distillation is None else distillation
    objective = (LabelLoss(label_smoothing) if teacher is None else
                 DistillationLoss(as_teacher(teacher), settings, label_smoothing=label_smoothing))
    return SelfDistillationLoss(objective, settings) if settings.self_weight else objective


def _make_feature_student(program: Program, teacher: TeacherLike, task: Task, config: Training,
                          settings: Distillation, seed: int) -> tuple[FeatureStudent, Objective]:
    source = as_program(teacher, task.train.example(2))
    pairs = find_pairs(program, source, settings.pairs)
    method = FEATURE_LOSSES[str(settings.features)]
    student = FeatureStudent(program, pairs, projected=method.projected, seed=seed).train()
    objective = DistillationLoss(
        ModuleTeacher(source, taps=[pair.teacher for pair in pairs]), settings,
        label_smoothing=config.label_smoothing, features=len(pairs))
    if settings.self_weight:
        return student, SelfDistillationLoss(objective, settings, features=len(pairs))
    return student, objective


def _check_cacheable(teacher: TeacherLike | None, config: Training, settings: Distillation,
                     path: str | Path) -> TeacherLike:
    """Return the teacher after checking that the settings work with a cache."""
    if teacher is None:
        raise UsageError(f"the cache {path} stores a teacher's outputs, but there is no teacher; "
                         "give one, or omit cache")
    if settings.features is not None:
        raise UsageError(f"features={settings.features!r} cannot be learned from a teacher cache, "
                         "which stores only logits; set features=None, or omit cache")
    if not uses_labels(settings):
        raise UsageError(f"logits={settings.logits!r} with alpha=1 uses no labels, so epochs are "
                         "compared by the teacher's outputs on the validation samples, which a "
                         "teacher cache does not hold; set alpha below 1, or omit cache")
    if mixing := config.augment.mixing_names:
        raise UsageError(f"{' and '.join(mixing)} cannot be used with a teacher cache, which "
                         "stores outputs for single samples only; leave it at 0, or omit cache")
    return teacher


def _load_or_make_cache(teacher: TeacherLike, program: Program, task: Task, config: Training,
                        path: Path, views: int, progress: Progress | None) -> Teacher:
    """A cached teacher from a file, which is created if it does not exist."""
    check_program(program, task)
    live, device = as_teacher(teacher), single_device_fabric(config).device
    sample = to_device(next(task.train.select(range(1)).batches(1)), device)
    live.to(device)
    classes = tuple(live.teach(sample).logits.shape[1:])
    expected = tuple(shape_of(outputs_of(program)[-1])[1:])
    if classes != expected:
        raise ModelError(f"the teacher {live.name} returns {classes} logits per sample, the "
                         f"student {expected}; they must have the same classes")
    first = config.augment.view(0)
    return cache_teacher(live, task, path, views=None if first is None else views,
                         policy="standard" if first is None else first.policy, device=device,
                         progress=progress)
