"""Capturing a user's `nn.Module` as a graph, and turning a graph into a trainable module."""

from edgewright.capture._capture import (
    FORWARD_ERRORS,
    capture_graph,
    export_graph,
    extract_graph,
    format_failure,
)
from edgewright.capture._constant_folding import folded_tensors, record_folded
from edgewright.capture._dynamic_sizes import DynamicSizes
from edgewright.capture._example_call import ExampleCall, make_example_batch, read_example_call
from edgewright.capture._input_checks import InputSpec, read_input_specs
from edgewright.capture._model_checks import unwrap_model
from edgewright.capture._model_state import (
    get_model_state,
    load_state,
    read_model_state,
    set_model_state,
)
from edgewright.capture._module import (
    CapturedModule,
    copy_graph,
    count_exits,
    freeze_norms,
    make_trainable,
)
from edgewright.capture._plain_outputs import name_output
from edgewright.capture._states import read_states, record_states, recorded_states

__all__ = [
    "FORWARD_ERRORS",
    "CapturedModule",
    "DynamicSizes",
    "ExampleCall",
    "InputSpec",
    "capture_graph",
    "copy_graph",
    "count_exits",
    "export_graph",
    "extract_graph",
    "folded_tensors",
    "format_failure",
    "freeze_norms",
    "get_model_state",
    "load_state",
    "make_example_batch",
    "make_trainable",
    "name_output",
    "read_example_call",
    "read_input_specs",
    "read_model_state",
    "read_states",
    "record_folded",
    "record_states",
    "recorded_states",
    "set_model_state",
    "unwrap_model",
]
