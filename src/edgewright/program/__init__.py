"""The captured model as a value: its costs and its cuts; saved and loaded safely."""

from edgewright.program._costs import Costs, NodeCost, bookkeeping, parameter_nodes
from edgewright.program._cuts import find_cuts, outputs_of, set_outputs, split_at_exits
from edgewright.program._folding import (
    fold_batch_norm,
    foldable_norm,
    foldable_outputs,
    norm_as_affine,
    per_output,
)
from edgewright.program._memory import live_tensors, stored_bytes
from edgewright.program._probes import probe_inputs
from edgewright.program._program import Program

__all__ = [
    "Costs",
    "NodeCost",
    "Program",
    "bookkeeping",
    "find_cuts",
    "fold_batch_norm",
    "foldable_norm",
    "foldable_outputs",
    "live_tensors",
    "norm_as_affine",
    "outputs_of",
    "parameter_nodes",
    "per_output",
    "probe_inputs",
    "set_outputs",
    "split_at_exits",
    "stored_bytes",
]
