"""Whatever may teach, as a `Teacher`, or as a program whose features teach."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from torch import Tensor, nn

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
    """A teacher of a program, a module, a file, a model reference, or the mean of several.

    Args:
        given: A string that ends in ``.pt2`` (a saved program), ``.onnx`` or ``.edge`` is a file,
            as every path is; another one is a reference that `load_model` takes, whose factory
            loads its own weights. Of several the average teaches; see `Ensemble`.

    Raises:
        UsageError: An unknown reference, or something that cannot teach.
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
    raise UsageError(f"a {type(given).__name__} cannot teach; expected a program, a module, a "
                     "file, a model reference, a Teacher, or a sequence of these")


def as_program(given: TeacherLike, example: tuple[Tensor, ...]) -> Program:
    """The teacher as a program, for its nodes; a module is captured.

    Args:
        given: As for `as_teacher`, but what is a program or can be captured.
        example: Inputs of two samples.

    Raises:
        UsageError: There is no program in it: an exported file, a teacher cache, several teachers.
        ModelError: The module cannot be captured.

    Example:
        >>> import torch
        >>> as_program(nn.Linear(4, 2), (torch.zeros(2, 4),)).costs().macs
        8
    """
    model = _read(given)
    if isinstance(model, nn.Module):
        with warnings.catch_warnings():  # what a teacher does in training matters to no one
            warnings.simplefilter("ignore", EdgewrightWarning)
            return Program.capture(model, example)
    if isinstance(model, Program):
        return model
    raise UsageError(f"features cannot be had of a teacher that is a {type(model).__name__}; give "
                     "one program or module, or set features=None in Distillation")


def _read(given: TeacherLike) -> TeacherLike:
    if not isinstance(given, str | Path):
        return given
    suffix = Path(given).suffix
    if suffix == _PROGRAM:
        return Program.load(given)
    if isinstance(given, Path) or suffix in _FILES:
        return FileTeacher(given)
    return load_model(given)
