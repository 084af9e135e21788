"""Distillation: a small model learns from a large one."""

from edgewright.distill._as_teacher import TeacherLike, as_program, as_teacher
from edgewright.distill._cache import cache_teacher
from edgewright.distill._cached_teacher import CachedTeacher
from edgewright.distill._chain import fit_chain
from edgewright.distill._config import Distillation
from edgewright.distill._distilling import Distilling
from edgewright.distill._ensemble import Ensemble
from edgewright.distill._feature_losses import FEATURE_LOSSES, FeatureLoss, FeatureMethod
from edgewright.distill._features import FeatureStudent
from edgewright.distill._file_teacher import FileTeacher
from edgewright.distill._fit import fit, objective_for
from edgewright.distill._initialize import initialize
from edgewright.distill._logit_losses import LOGIT_LOSSES, LogitLoss
from edgewright.distill._pairs import FeaturePair, find_pairs
from edgewright.distill._self_distilling import SelfDistilling
from edgewright.distill._student import student
from edgewright.distill._tapping import tapped
from edgewright.distill._teacher import ModuleTeacher, Taught, Teacher

__all__ = [
    "FEATURE_LOSSES",
    "LOGIT_LOSSES",
    "CachedTeacher",
    "Distillation",
    "Distilling",
    "Ensemble",
    "FeatureLoss",
    "FeatureMethod",
    "FeaturePair",
    "FeatureStudent",
    "FileTeacher",
    "LogitLoss",
    "ModuleTeacher",
    "SelfDistilling",
    "Taught",
    "Teacher",
    "TeacherLike",
    "as_program",
    "as_teacher",
    "cache_teacher",
    "find_pairs",
    "fit",
    "fit_chain",
    "initialize",
    "objective_for",
    "student",
    "tapped",
]
