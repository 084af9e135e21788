"""What candidates learn from the teacher."""

from __future__ import annotations

from edgewright.distill import CompiledTeacher, Distillation, find_pairs
from edgewright.errors import ModelError
from edgewright.goals import Classification
from edgewright.pipeline import RunSettings


def choose_distillation(settings: RunSettings) -> Distillation:
    """The losses of the teacher: hints, too, where candidates are the teacher without some blocks.

    A shortened network was fitted to the original's features, which hints (Romero et al. 2015) keep
    it close to: ResNet-56 without 18 of its 27 blocks reached 89.8 % in three epochs with them, and
    89.1 % without (``benchmarks/search/recovery.py``). Other goals have losses of other sizes, for
    which the weight of the hints was not measured.

    Args:
        settings: Model, data and teacher.
    """
    teacher, plain = settings.teacher, Distillation()
    is_original = isinstance(teacher, CompiledTeacher) and teacher.program is settings.original
    if not is_original or not isinstance(settings.task.goal, Classification):
        return plain
    try:
        find_pairs(settings.original, settings.original)
    except ModelError:
        return plain
    return plain.replace(features="hints")
