"""Training: one loop, into which objectives plug."""

from edgewright.training._config import Training
from edgewright.training._constrained import Constrained
from edgewright.training._evaluate import Predictions, evaluate_module, predict
from edgewright.training._objective import LabelLoss, Objective, as_outputs, label_loss
from edgewright.training._progress import NoProgress, Progress, RichProgress
from edgewright.training._record import EpochRecord, TrainingRecord
from edgewright.training._settings import Settings
from edgewright.training._step_hook import Step, StepHook
from edgewright.training._train import train

__all__ = [
    "Constrained",
    "EpochRecord",
    "LabelLoss",
    "NoProgress",
    "Objective",
    "Predictions",
    "Progress",
    "RichProgress",
    "Settings",
    "Step",
    "StepHook",
    "Training",
    "TrainingRecord",
    "as_outputs",
    "evaluate_module",
    "label_loss",
    "predict",
    "train",
]
