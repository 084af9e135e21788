"""Reading and rewriting `torch.fx` graphs of ATen operators; independent of `Program`."""

from edgewright.graph._bias_name import choose_bias_name
from edgewright.graph._bits import FLOAT_BITS, bits_of, stored_bits, weight_bits_of
from edgewright.graph._einsum import parse_einsum
from edgewright.graph._facts import check_facts, count_facts, get_fact, set_fact
from edgewright.graph._grids import ChannelGrid, TensorGrid, channel_grid, tensor_grid
from edgewright.graph._layer_inputs import find_input_dims
from edgewright.graph._liveness import (
    alias_root,
    ancestors,
    erase_nodes,
    find_input_independent_nodes,
    find_live_nodes,
    input_dependencies,
    is_number,
    mutates_in_place,
)
from edgewright.graph._macs import Shape, ShapeOf, count_macs, has_macs
from edgewright.graph._mutated_memory import find_mutated_memory
from edgewright.graph._nodes import (
    argument,
    base_name,
    calls,
    has_argument,
    is_dequantization,
    is_pointwise,
    is_quantization,
    op_name,
    read_tensor,
    set_argument,
    user_frame,
    user_location,
)
from edgewright.graph._parity import (
    TOLERANCE,
    compare_outputs,
    draw_random_inputs,
    output_errors,
    tolerance_of,
)
from edgewright.graph._patterns import match_tensors
from edgewright.graph._pooling import pool_window, set_pool_window
from edgewright.graph._recurrence import Direction, RecurrentLayer, read_recurrent_layer
from edgewright.graph._shapes import batch_dim_of, bytes_of, refresh_shapes, shape_of, tensor_of
from edgewright.graph._simplify import drop_unused_tensors, finalize_graph, simplify_graph
from edgewright.graph._sizes import concrete_size, name_sizes, record_ranges, sizes_of
from edgewright.graph._sparsity import mark_sparse, sparse_tensors
from edgewright.graph._tensors import count_reads, stored_tensors, weight_of
from edgewright.graph._training_mode import (
    depends_on_mode,
    is_in_training_mode,
    set_training_mode,
    training_argument,
)
from edgewright.graph._whole_recurrences import keep_recurrent_layers_whole

__all__ = [
    "FLOAT_BITS",
    "TOLERANCE",
    "ChannelGrid",
    "Direction",
    "RecurrentLayer",
    "Shape",
    "ShapeOf",
    "TensorGrid",
    "alias_root",
    "ancestors",
    "argument",
    "base_name",
    "batch_dim_of",
    "bits_of",
    "bytes_of",
    "calls",
    "channel_grid",
    "check_facts",
    "choose_bias_name",
    "compare_outputs",
    "concrete_size",
    "count_facts",
    "count_macs",
    "count_reads",
    "depends_on_mode",
    "draw_random_inputs",
    "drop_unused_tensors",
    "erase_nodes",
    "finalize_graph",
    "find_input_dims",
    "find_input_independent_nodes",
    "find_live_nodes",
    "find_mutated_memory",
    "get_fact",
    "has_argument",
    "has_macs",
    "input_dependencies",
    "is_dequantization",
    "is_in_training_mode",
    "is_number",
    "is_pointwise",
    "is_quantization",
    "keep_recurrent_layers_whole",
    "mark_sparse",
    "match_tensors",
    "mutates_in_place",
    "name_sizes",
    "op_name",
    "output_errors",
    "parse_einsum",
    "pool_window",
    "read_recurrent_layer",
    "read_tensor",
    "record_ranges",
    "refresh_shapes",
    "set_argument",
    "set_fact",
    "set_pool_window",
    "set_training_mode",
    "shape_of",
    "simplify_graph",
    "sizes_of",
    "sparse_tensors",
    "stored_bits",
    "stored_tensors",
    "tensor_grid",
    "tensor_of",
    "tolerance_of",
    "training_argument",
    "user_frame",
    "user_location",
    "weight_bits_of",
    "weight_of",
]
