"""Reading and rewriting a `torch.fx` graph of ATen operators; nothing here knows a `Program`."""

from edgewright.graph._bias_name import free_bias_name
from edgewright.graph._bits import FLOAT_BITS, bits_of, stored_bits, weight_bits_of
from edgewright.graph._einsum import letters_of
from edgewright.graph._facts import check_facts, count_facts, fact_of, note_fact
from edgewright.graph._grids import ChannelGrid, TensorGrid, channel_grid, tensor_grid
from edgewright.graph._layer_inputs import input_dims
from edgewright.graph._liveness import (
    ancestors,
    erase,
    inputs_reached,
    is_size,
    live_nodes,
    memory_of,
    stored_values,
    writes,
)
from edgewright.graph._macs import Shape, ShapeOf, count_macs, multiplies
from edgewright.graph._nodes import (
    argument,
    base_name,
    caller_of,
    calls,
    dequantizes,
    is_pointwise,
    is_quantization,
    line_of,
    op_name,
    read_tensor,
    set_argument,
    takes,
)
from edgewright.graph._parity import (
    TOLERANCE,
    compare_outputs,
    output_errors,
    random_inputs,
    tolerance_of,
)
from edgewright.graph._patterns import match_tensors
from edgewright.graph._pooling import pool_window, set_pool_window
from edgewright.graph._shapes import bytes_of, concrete, refresh_shapes, shape_of, tensor_of
from edgewright.graph._sparsity import hold_sparse, sparse_tensors
from edgewright.graph._tensors import count_reads, stored_tensors, weight_of
from edgewright.graph._tidy import drop_unused_tensors, settle, tidy
from edgewright.graph._training_switches import depends_on_mode, is_switched_on, switch, switch_of
from edgewright.graph._written import written_memory

__all__ = [
    "FLOAT_BITS",
    "TOLERANCE",
    "ChannelGrid",
    "Shape",
    "ShapeOf",
    "TensorGrid",
    "ancestors",
    "argument",
    "base_name",
    "bits_of",
    "bytes_of",
    "caller_of",
    "calls",
    "channel_grid",
    "check_facts",
    "compare_outputs",
    "concrete",
    "count_facts",
    "count_macs",
    "count_reads",
    "depends_on_mode",
    "dequantizes",
    "drop_unused_tensors",
    "erase",
    "fact_of",
    "free_bias_name",
    "hold_sparse",
    "input_dims",
    "inputs_reached",
    "is_pointwise",
    "is_quantization",
    "is_size",
    "is_switched_on",
    "letters_of",
    "line_of",
    "live_nodes",
    "match_tensors",
    "memory_of",
    "multiplies",
    "note_fact",
    "op_name",
    "output_errors",
    "pool_window",
    "random_inputs",
    "read_tensor",
    "refresh_shapes",
    "set_argument",
    "set_pool_window",
    "settle",
    "shape_of",
    "sparse_tensors",
    "stored_bits",
    "stored_tensors",
    "stored_values",
    "switch",
    "switch_of",
    "takes",
    "tensor_grid",
    "tensor_of",
    "tidy",
    "tolerance_of",
    "weight_bits_of",
    "weight_of",
    "writes",
    "written_memory",
]
