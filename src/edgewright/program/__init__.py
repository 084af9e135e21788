"""The captured model: its graph, costs, channel groups, cuts; saved and loaded safely."""

from edgewright.program._capture import export_graph
from edgewright.program._channels import ChannelGroup, ChannelGroups
from edgewright.program._costs import Costs, NodeCost, count_macs, stored_tensors, weight_of
from edgewright.program._cuts import find_cuts, outputs_of, set_outputs, split_at_exits
from edgewright.program._folding import fold_batch_norm
from edgewright.program._module import CapturedModule, trainable
from edgewright.program._program import Program
from edgewright.program._shapes import refresh_shapes, shape_of
from edgewright.program._slicing import random_inputs, remove_channels
from edgewright.program._tidy import drop_unused_tensors

__all__ = [
    "CapturedModule",
    "ChannelGroup",
    "ChannelGroups",
    "Costs",
    "NodeCost",
    "Program",
    "count_macs",
    "drop_unused_tensors",
    "export_graph",
    "find_cuts",
    "fold_batch_norm",
    "outputs_of",
    "random_inputs",
    "refresh_shapes",
    "remove_channels",
    "set_outputs",
    "shape_of",
    "split_at_exits",
    "stored_tensors",
    "trainable",
    "weight_of",
]
