"""Goals: what a model's outputs are for. Loss, metrics, and what counts as the same decision."""

from edgewright.goals._binary import Binary, MultiLabel
from edgewright.goals._classification import Classification, Segmentation
from edgewright.goals._custom import CustomGoal, check_loss
from edgewright.goals._detection import Detection
from edgewright.goals._embedding import Embedding
from edgewright.goals._exit_confidence import make_exit_confidence
from edgewright.goals._goal import Agreement, Goal, SinglePrediction
from edgewright.goals._kinds import Bernoulli, Categorical, Direction, PredictionKind, Values
from edgewright.goals._metrics import Metric, NamedMetric, read_metric
from edgewright.goals._multi_task import MultiTask
from edgewright.goals._named_goals import GOALS, GoalLike, as_goal
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import Prediction, check_prediction, named_outputs, select_output
from edgewright.goals._regression import Reconstruction, Regression
from edgewright.goals._scales import kinds_with_scales, measure_scales
from edgewright.goals._targets import list_targets

__all__ = [
    "GOALS",
    "Agreement",
    "Bernoulli",
    "Binary",
    "Categorical",
    "Classification",
    "CustomGoal",
    "Detection",
    "Direction",
    "Embedding",
    "Goal",
    "GoalLike",
    "Metric",
    "MultiLabel",
    "MultiTask",
    "NamedMetric",
    "Origin",
    "Prediction",
    "PredictionKind",
    "Reconstruction",
    "Regression",
    "Segmentation",
    "SinglePrediction",
    "Values",
    "as_goal",
    "check_loss",
    "check_prediction",
    "kinds_with_scales",
    "list_targets",
    "make_exit_confidence",
    "measure_scales",
    "named_outputs",
    "read_metric",
    "select_output",
]
