"""Early exits: easy inputs get their prediction before the end of the network."""

from edgewright.exits._attach import add_exits
from edgewright.exits._calibrate import (
    MIN_CALIBRATION_SAMPLES,
    AcceptRules,
    CalibratedPoint,
    calibrate_exits,
    calibrate_scores,
)
from edgewright.exits._config import (
    DEFAULT_POINT,
    EarlyExits,
    ExitCalibration,
    ExitCostModel,
    HeadTraining,
    JointTraining,
)
from edgewright.exits._dense_head import DenseHead
from edgewright.exits._detach import cut_at, remove_exits
from edgewright.exits._features import Features, NetworkSize, OutputSizes
from edgewright.exits._goal import check_goal
from edgewright.exits._head_designs import (
    HEADS,
    AutoHead,
    ConvolutionalHead,
    Head,
    HeadDesign,
    PooledHead,
    TemporalHead,
    TokenHead,
    measure_head,
)
from edgewright.exits._names import list_head_tensors
from edgewright.exits._placement import ExitPlan, fit_exits, limit_exits, plan_exits
from edgewright.exits._places import ExitPlace, count_possible_exits, find_exit_places
from edgewright.exits._predictions import (
    ExitPredictions,
    compute_exit_curve,
    find_exits,
    predict_exits,
    score_exits,
)
from edgewright.exits._resolution import AtResolution

__all__ = [
    "DEFAULT_POINT",
    "HEADS",
    "MIN_CALIBRATION_SAMPLES",
    "AcceptRules",
    "AtResolution",
    "AutoHead",
    "CalibratedPoint",
    "ConvolutionalHead",
    "DenseHead",
    "EarlyExits",
    "ExitCalibration",
    "ExitCostModel",
    "ExitPlace",
    "ExitPlan",
    "ExitPredictions",
    "Features",
    "Head",
    "HeadDesign",
    "HeadTraining",
    "JointTraining",
    "NetworkSize",
    "OutputSizes",
    "PooledHead",
    "TemporalHead",
    "TokenHead",
    "add_exits",
    "calibrate_exits",
    "calibrate_scores",
    "check_goal",
    "compute_exit_curve",
    "count_possible_exits",
    "cut_at",
    "find_exit_places",
    "find_exits",
    "fit_exits",
    "limit_exits",
    "list_head_tensors",
    "measure_head",
    "plan_exits",
    "predict_exits",
    "remove_exits",
    "score_exits",
]
