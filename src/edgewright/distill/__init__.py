"""Distillation: a small model learns from a large one."""

from edgewright.distill._fit import fit, objective_for
from edgewright.distill._hinton import Distillation, HintonDistillation

__all__ = ["Distillation", "HintonDistillation", "fit", "objective_for"]
