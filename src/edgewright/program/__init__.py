"""The captured model: its graph, costs, channel groups, cuts; saved and loaded safely."""

from edgewright.program._channels import ChannelGroup, ChannelGroups
from edgewright.program._costs import Costs, NodeCost
from edgewright.program._module import CapturedModule
from edgewright.program._program import Program
from edgewright.program._slicing import remove_channels

__all__ = ["CapturedModule", "ChannelGroup", "ChannelGroups", "Costs", "NodeCost", "Program",
           "remove_channels"]
