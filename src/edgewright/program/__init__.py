"""Captured models as values: their costs, splitting, folding, and safe saving and loading."""

from edgewright.program._costs import (
    Costs,
    NodeCost,
    auxiliary_tensors,
    parameter_nodes,
)
from edgewright.program._cuts import find_cuts, outputs_of, set_outputs, split_at_exits
from edgewright.program._fixed_sizes import check_fixed_sizes
from edgewright.program._folding import (
    expand_per_output,
    fold_batch_norm,
    foldable_norm,
    foldable_output_dim,
    norm_as_affine,
)
from edgewright.program._insert import insert_program
from edgewright.program._memory import find_live_tensors, stored_bytes
from edgewright.program._outputs import keep_outputs, output_names, output_structure
from edgewright.program._probes import is_constant_input, probe_inputs
from edgewright.program._program import Program
from edgewright.program._route_regions import has_routes
from edgewright.program._routed_programs import (
    check_no_routes,
    count_branch_macs,
    decides_per_call,
)
from edgewright.program._routes import RoutedSegment, split_at_routes

__all__ = [
    "Costs",
    "NodeCost",
    "Program",
    "RoutedSegment",
    "auxiliary_tensors",
    "check_fixed_sizes",
    "check_no_routes",
    "count_branch_macs",
    "decides_per_call",
    "expand_per_output",
    "find_cuts",
    "find_live_tensors",
    "fold_batch_norm",
    "foldable_norm",
    "foldable_output_dim",
    "has_routes",
    "insert_program",
    "is_constant_input",
    "keep_outputs",
    "norm_as_affine",
    "output_names",
    "output_structure",
    "outputs_of",
    "parameter_nodes",
    "probe_inputs",
    "set_outputs",
    "split_at_exits",
    "split_at_routes",
    "stored_bytes",
]
