"""Training: one loop with pluggable objectives."""

from edgewright.training._augmentation import Augmentation
from edgewright.training._check_outputs import check_program, sample_batch
from edgewright.training._compute import Compute, has_bfloat16_instructions
from edgewright.training._config import Training
from edgewright.training._constrained_objective import ConstrainedObjective
from edgewright.training._evaluate import (
    evaluate_module,
    measure_loss,
    run_batches,
    to_device,
    update_metric,
)
from edgewright.training._experiment_trackers import (
    ExperimentTracker,
    OpenLog,
    TrackingProgress,
    open_experiment_tracker,
)
from edgewright.training._memory_format import set_memory_format
from edgewright.training._objective import GoalLoss, Objective, WrappedObjective
from edgewright.training._optimizer import OPTIMIZERS, SGD, AdamW, OptimizerConfig
from edgewright.training._outputs import split_exits
from edgewright.training._parameter_groups import check_trainable
from edgewright.training._progress import NoProgress, Progress, RichProgress, format_seconds
from edgewright.training._record import EpochRecord, TrainingRecord
from edgewright.training._schedule import (
    SCHEDULES,
    ConstantSchedule,
    CosineSchedule,
    LearningRateSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    Position,
)
from edgewright.training._score import Score
from edgewright.training._single_device import single_device_fabric
from edgewright.training._step_hook import Step, StepHook
from edgewright.training._stored_targets import (
    StoredTargets,
    count_stored_views,
    requires_sample_ids,
)
from edgewright.training._train import train

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "AdamW",
    "Augmentation",
    "Compute",
    "ConstantSchedule",
    "ConstrainedObjective",
    "CosineSchedule",
    "EpochRecord",
    "ExperimentTracker",
    "GoalLoss",
    "LearningRateSchedule",
    "NoProgress",
    "Objective",
    "OneCycleSchedule",
    "OpenLog",
    "OptimizerConfig",
    "PlateauSchedule",
    "Position",
    "Progress",
    "RichProgress",
    "Score",
    "Step",
    "StepHook",
    "StoredTargets",
    "TrackingProgress",
    "Training",
    "TrainingRecord",
    "WrappedObjective",
    "check_program",
    "check_trainable",
    "count_stored_views",
    "evaluate_module",
    "format_seconds",
    "has_bfloat16_instructions",
    "measure_loss",
    "open_experiment_tracker",
    "requires_sample_ids",
    "run_batches",
    "sample_batch",
    "set_memory_format",
    "single_device_fabric",
    "split_exits",
    "to_device",
    "train",
    "update_metric",
]
