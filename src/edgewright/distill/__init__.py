"""Knowledge distillation: train a student from a teacher."""

from edgewright.distill._as_teacher import TeacherLike, as_program, as_teacher, compile_teacher
from edgewright.distill._cache import cache_teacher
from edgewright.distill._cached_teacher import CachedTeacher
from edgewright.distill._chain import fit_chain
from edgewright.distill._compiled_teacher import CompiledTeacher
from edgewright.distill._config import Distillation
from edgewright.distill._distillation_loss import DistillationLoss
from edgewright.distill._ensemble import Ensemble
from edgewright.distill._feature_losses import FEATURE_LOSSES, FeatureLoss, FeatureMethod
from edgewright.distill._features import FeatureStudent
from edgewright.distill._file_teacher import FileTeacher
from edgewright.distill._fit import fit, make_objective
from edgewright.distill._initialize import initialize
from edgewright.distill._logit_losses import LOGIT_LOSSES, LogitLoss
from edgewright.distill._pairs import FeaturePair, find_pairs
from edgewright.distill._self_distillation_loss import SelfDistillationLoss
from edgewright.distill._student import make_student
from edgewright.distill._tap_features import tap_features
from edgewright.distill._teacher import ModuleTeacher, Teacher, TeacherOutput

__all__ = [
    "FEATURE_LOSSES",
    "LOGIT_LOSSES",
    "CachedTeacher",
    "CompiledTeacher",
    "Distillation",
    "DistillationLoss",
    "Ensemble",
    "FeatureLoss",
    "FeatureMethod",
    "FeaturePair",
    "FeatureStudent",
    "FileTeacher",
    "LogitLoss",
    "ModuleTeacher",
    "SelfDistillationLoss",
    "Teacher",
    "TeacherLike",
    "TeacherOutput",
    "as_program",
    "as_teacher",
    "cache_teacher",
    "compile_teacher",
    "find_pairs",
    "fit",
    "fit_chain",
    "initialize",
    "make_objective",
    "make_student",
    "tap_features",
]
