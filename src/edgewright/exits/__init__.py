"""Early exits: easy inputs get their prediction before the end of the network."""

from edgewright.exits._attach import add_exits
from edgewright.exits._calibrate import CalibratedPoint, calibrate_exits
from edgewright.exits._config import (
    DEFAULT_POINT,
    EarlyExits,
    ExitCalibration,
    ExitCostModel,
    HeadTraining,
    JointTraining,
)
from edgewright.exits._detach import remove_exits
from edgewright.exits._features import Features, NetworkSize
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
from edgewright.exits._placement import ExitPlan, limit_exits, plan_exits
from edgewright.exits._places import ExitPlace, count_possible_exits, find_exit_places
from edgewright.exits._predictions import compute_exit_curve, predict_exits
from edgewright.exits._resolution import AtResolution

__all__ = [
    "DEFAULT_POINT",
    "HEADS",
    "AtResolution",
    "AutoHead",
    "CalibratedPoint",
    "ConvolutionalHead",
    "EarlyExits",
    "ExitCalibration",
    "ExitCostModel",
    "ExitPlace",
    "ExitPlan",
    "Features",
    "Head",
    "HeadDesign",
    "HeadTraining",
    "JointTraining",
    "NetworkSize",
    "PooledHead",
    "TemporalHead",
    "TokenHead",
    "add_exits",
    "calibrate_exits",
    "compute_exit_curve",
    "count_possible_exits",
    "find_exit_places",
    "limit_exits",
    "list_head_tensors",
    "measure_head",
    "plan_exits",
    "predict_exits",
    "remove_exits",
]
