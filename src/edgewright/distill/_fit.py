"""Training a program, from labels or from a teacher."""

from __future__ import annotations

from pathlib import Path

from edgewright.distill._as_teacher import TeacherLike, as_program, as_teacher
from edgewright.distill._cache import cache_teacher
from edgewright.distill._config import Distillation
from edgewright.distill._distillation_loss import DistillationLoss, looks_at_labels
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
    """Train a program on the labels, and on a teacher where there is one.

    Args:
        program: The program to train; it is left as it is.
        task: Its data.
        training: Optimiser, schedule, precision; None for the defaults.
        teacher: A program, a module, a file (``.pt2``, ``.onnx``, ``.edge``), a model reference,
            a `Teacher`, or several of these, of which the average teaches; it has the same inputs
            and classes. None learns from the labels alone.
        distillation: What is learnt from the teacher; None for the defaults. Features are paired
            by their names in both, or by depth; see `find_pairs`.
        cache: File in which the teacher's words are kept, so that it is asked once; see
            `cache_teacher`. None asks it at every step.
        views: How many views of every sample are kept; the epochs take them in turn.
        seed: Of the order of samples, their augmentation, and dropout.
        checkpoint: Written after every epoch, and resumed from.
        progress: Is told of every step.

    Returns:
        A new program with the weights of the best epoch on the validation split.

    Raises:
        UsageError: The program is quantised, so its weights are integers; the teacher cannot
            teach; or a cache is asked for with what it does not hold: features, mixed samples.
        ModelError: Teacher and student have different classes, or no features to compare.
        StorageError: The cache is of another teacher, of other data or views, or damaged.
        TrainingError: The loss is no longer finite.

    Example:
        >>> import torch
        >>> x, y = torch.randn(64, 4), torch.arange(64) % 2
        >>> program = Program.capture(torch.nn.Linear(4, 2), x[:2])
        >>> trained = fit(program, Task((x, y), test=(x, y)), Training(epochs=1))
        >>> trained is program
        False
    """
    if program.is_quantized:
        raise UsageError("a quantised program cannot be trained; train before quantising, or "
                         "quantise with method='qat', which trains")
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
    """Distillation where there is a teacher, else the labels alone; without features.

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
    """The teacher, once it is seen that a cache can stand in for it."""
    if teacher is None:
        raise UsageError(f"the cache {path} is to keep what a teacher says, but there is no "
                         "teacher; give one, or leave cache out")
    if settings.features is not None:
        raise UsageError(f"features={settings.features!r} cannot be learnt from a teacher cache, "
                         "which keeps logits alone; set features=None, or leave cache out")
    if not looks_at_labels(settings):
        raise UsageError(f"logits={settings.logits!r} with alpha=1 looks at no label, so its "
                         "epochs are compared by what the teacher says of the validation samples, "
                         "which a teacher cache does not hold; set alpha below 1, or leave cache "
                         "out")
    if mixing := config.augment.mixing_names:
        raise UsageError(f"{' and '.join(mixing)} cannot be used with a teacher cache, which keeps "
                         "what was said of single samples; leave it at 0, or leave cache out")
    return teacher


def _load_or_make_cache(teacher: TeacherLike, program: Program, task: Task, config: Training,
                        path: Path, views: int, progress: Progress | None) -> Teacher:
    """What the teacher says, from a file; made now where it is not there."""
    check_program(program, task)
    asked, device = as_teacher(teacher), single_device_fabric(config).device
    sample = to_device(next(task.train.select(range(1)).batches(1)), device)
    asked.to(device)
    classes = tuple(asked.teach(sample).logits.shape[1:])
    expected = tuple(shape_of(outputs_of(program)[-1])[1:])
    if classes != expected:
        raise ModelError(f"the teacher {asked.name} puts out {classes} logits a sample, the "
                         f"student {expected}; they must have the same classes")
    first = config.augment.view(0)
    return cache_teacher(asked, task, path, views=None if first is None else views,
                         policy="standard" if first is None else first.policy, device=device,
                         progress=progress)
