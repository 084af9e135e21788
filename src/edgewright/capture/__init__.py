"""From a user's `nn.Module` to a graph, and from that graph to a module that trains."""

from edgewright.capture._capture import (
    FORWARD_FAILURES,
    capture_graph,
    example_batch,
    export_graph,
    failing_line,
    graph_of,
)
from edgewright.capture._constant_folding import folded_tensors, note_folded
from edgewright.capture._input_checks import InputSpec
from edgewright.capture._model_state import (
    load_state,
    note_model_state,
    noted_model_state,
    read_model_state,
)
from edgewright.capture._module import CapturedModule, copy_graph, exits_of, freeze_norms, trainable

__all__ = [
    "FORWARD_FAILURES",
    "CapturedModule",
    "InputSpec",
    "capture_graph",
    "copy_graph",
    "example_batch",
    "exits_of",
    "export_graph",
    "failing_line",
    "folded_tensors",
    "freeze_norms",
    "graph_of",
    "load_state",
    "note_folded",
    "note_model_state",
    "noted_model_state",
    "read_model_state",
    "trainable",
]
