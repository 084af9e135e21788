"""Convert programs, modules, files and references to a `Teacher` or a program."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from torch import Tensor, nn

from edgewright.distill._compiled_teacher import CompiledTeacher
from edgewright.distill._ensemble import Ensemble
from edgewright.distill._file_teacher import FileTeacher
from edgewright.distill._teacher import ModuleTeacher, Teacher
from edgewright.errors import EdgewrightWarning, UsageError
from edgewright.program import Program
from edgewright.task import load_model

OneTeacher: TypeAlias = Teacher | Program | nn.Module | Path | str
TeacherLike: TypeAlias = OneTeacher | Sequence[OneTeacher]

_PROGRAM: Final = ".pt2"
_FILES: Final = frozenset({_PROGRAM, ".onnx", ".edge"})


def as_teacher(given: TeacherLike) -> Teacher:
    """Make a teacher from a program, a module, a file, a model reference, or several of these.

    Args:
        given: A path, or a string that ends in ``.pt2`` (a saved program), ``.onnx`` or ``.edge``,
            is a file. Any other string is a reference for `load_model`, whose factory loads its own
            weights. A sequence makes an `Ensemble` that averages the teachers.

    Raises:
        UsageError: An unknown reference, or an object that cannot be a teacher.
        ModelError: The program or the factory cannot be used.
        BundleError: The exported file cannot be used.

    Example:
        >>> as_teacher("torch.nn:Identity").name.split()[0]
        'Identity'
    """
    model = _read(given)
    if isinstance(model, Program | nn.Module):
        return ModuleTeacher(model)
    if isinstance(model, Teacher):
        return model
    if isinstance(model, Sequence):
        return Ensemble([as_teacher(one) for one in model])
    raise UsageError(f"a {type(given).__name__} cannot be a teacher; expected a program, a module, "
                     "a file, a model reference, a Teacher, or a sequence of these")


def compile_teacher(given: TeacherLike, example: tuple[Tensor, ...]) -> Teacher:
    """Make a teacher for many trainings: a program or module is compiled when that pays.

    Args:
        given: As for `as_teacher`.
        example: Inputs of two samples, to capture a module with.

    Raises:
        UsageError: An unknown reference, or an object that cannot be a teacher.
        ModelError: The program or the module cannot be used.
        BundleError: The exported file cannot be used.

    Example:
        >>> import torch
        >>> type(compile_teacher(nn.Linear(4, 2), (torch.zeros(2, 4),))).__name__
        'CompiledTeacher'
    """
    model = _read(given)
    if isinstance(model, Program | nn.Module):
        return CompiledTeacher(as_program(model, example))
    return as_teacher(model)


def as_program(given: TeacherLike, example: tuple[Tensor, ...]) -> Program:
    """Convert a teacher to a program with named nodes; a module is captured.

    Args:
        given: As for `as_teacher`, but it must be a program or a module.
        example: Inputs of two samples.

    Raises:
        UsageError: It has no graph: an exported file, a teacher cache, or several teachers.
        ModelError: The module cannot be captured.

    Example:
        >>> import torch
        >>> as_program(nn.Linear(4, 2), (torch.zeros(2, 4),)).costs().macs
        8
    """
    model = _read(given)
    if isinstance(model, nn.Module):
        with warnings.catch_warnings():  # a teacher is never used in training mode
            warnings.simplefilter("ignore", EdgewrightWarning)
            return Program.capture(model, example)
    if isinstance(model, CompiledTeacher):
        return model.program
    if isinstance(model, Program):
        return model
    raise UsageError(f"a teacher that is a {type(model).__name__} has no features; give one "
                     "program or module, or set features=None in Distillation")


def _read(given: TeacherLike) -> TeacherLike:
    if not isinstance(given, str | Path):
        return given
    suffix = Path(given).suffix
    if suffix == _PROGRAM:
        return Program.load(given)
    if isinstance(given, Path) or suffix in _FILES:
        return FileTeacher(given)
    return load_model(given)
