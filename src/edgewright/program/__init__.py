"""The captured model: its graph, costs, channel groups, cuts; saved and loaded safely."""

from edgewright.program._apply import Applied
from edgewright.program._bias_name import free_bias_name
from edgewright.program._bits import FLOAT_BITS
from edgewright.program._branches import Branch, find_branches, remove_branch
from edgewright.program._capture import export_graph
from edgewright.program._channels import ChannelGroup, ChannelGroups, Contraction
from edgewright.program._costs import (Costs, NodeCost, count_macs, parameter_nodes)
from edgewright.program._tensors import (stored_tensors, weight_of)
from edgewright.program._cuts import find_cuts, outputs_of, set_outputs, split_at_exits
from edgewright.program._facts import fact_of, note_fact
from edgewright.program._folding import (
    fold_batch_norm,
    foldable_norm,
    foldable_outputs,
    norm_as_affine,
    per_output,
)
from edgewright.program._input_checks import InputSpec
from edgewright.program._kept_words import kept_words
from edgewright.program._liveness import memory_of, writes
from edgewright.program._memory import live_tensors, stored_bytes
from edgewright.program._module import CapturedModule, exits_of, freeze_norms, trainable
from edgewright.program._nodes import is_pointwise, named, read_tensor, set_named
from edgewright.program._parity import (
    compare_outputs,
    output_errors,
    random_inputs,
    tolerance_of,
)
from edgewright.program._patterns import match_tensors
from edgewright.program._pooling import PoolWindow, pool_window
from edgewright.program._probes import probe_inputs
from edgewright.program._program import Program
from edgewright.program._shapes import refresh_shapes, shape_of
from edgewright.program._slicing import remove_and_measure, remove_channels
from edgewright.program._sparsity import hold_sparse, sparse_tensors
from edgewright.program._tidy import drop_unused_tensors, settle

__all__ = [
    "FLOAT_BITS",
    "Applied",
    "Branch",
    "CapturedModule",
    "ChannelGroup",
    "ChannelGroups",
    "Contraction",
    "Costs",
    "InputSpec",
    "NodeCost",
    "PoolWindow",
    "Program",
    "compare_outputs",
    "count_macs",
    "drop_unused_tensors",
    "exits_of",
    "export_graph",
    "fact_of",
    "find_branches",
    "find_cuts",
    "fold_batch_norm",
    "foldable_norm",
    "foldable_outputs",
    "free_bias_name",
    "freeze_norms",
    "hold_sparse",
    "is_pointwise",
    "kept_words",
    "live_tensors",
    "match_tensors",
    "memory_of",
    "named",
    "norm_as_affine",
    "note_fact",
    "output_errors",
    "outputs_of",
    "parameter_nodes",
    "per_output",
    "pool_window",
    "probe_inputs",
    "random_inputs",
    "read_tensor",
    "refresh_shapes",
    "remove_and_measure",
    "remove_branch",
    "remove_channels",
    "set_named",
    "set_outputs",
    "settle",
    "shape_of",
    "sparse_tensors",
    "split_at_exits",
    "stored_bytes",
    "stored_tensors",
    "tolerance_of",
    "trainable",
    "weight_of",
    "writes",
]
