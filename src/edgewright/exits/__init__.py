"""Early exits: easy inputs leave the network before its end."""

from edgewright.exits._answers import answers_of, exit_curve
from edgewright.exits._attach import add_exits
from edgewright.exits._calibrate import Calibration, calibrate_exits
from edgewright.exits._config import DEFAULT_POINT, EarlyExits
from edgewright.exits._detach import remove_exits
from edgewright.exits._names import head_tensors
from edgewright.exits._placement import ExitPlan, limit_exits, plan_exits
from edgewright.exits._places import ExitPlace, exit_places, possible_exits
from edgewright.exits._resolution import AtResolution

__all__ = [
    "DEFAULT_POINT",
    "AtResolution",
    "Calibration",
    "EarlyExits",
    "ExitPlace",
    "ExitPlan",
    "add_exits",
    "answers_of",
    "calibrate_exits",
    "exit_curve",
    "exit_places",
    "head_tensors",
    "limit_exits",
    "plan_exits",
    "possible_exits",
    "remove_exits",
]
