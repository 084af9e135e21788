"""In-place writes of a forward pass: state is refused, and inputs are copied before writing.

An exported file computes the same outputs from the same inputs every time. A model that writes into
a buffer may compute different outputs at the next call.
"""

from __future__ import annotations

import warnings
from typing import Final

import torch
from torch.fx import GraphModule, Node

from edgewright.errors import EdgewrightWarning, ModelError
from edgewright.graph import find_mutated_memory, user_frame

aten = torch.ops.aten
STATE_REMEDY: Final = (
    "a file keeps no state between calls: make it an input and return its new value as an output "
    "(Program.capture(..., states={output: input})), or do not write it in evaluation mode")


def copy_mutated_inputs(module: GraphModule) -> None:
    """Let a graph that writes into its inputs write into copies of them, in place.

    Raises:
        ModelError: The graph writes into stored tensors; the message names them.
    """
    written = find_mutated_memory(module)
    stored = {root: call for root, call in written.items() if root.op == "get_attr"}
    if stored:
        raise ModelError(_refusal(stored))
    inputs = [root for root in written if root.op == "placeholder"]
    for node in inputs:
        _copy_input(module, node)
    if inputs:
        names = ", ".join(node.name for node in inputs)
        module.recompile()
        warnings.warn(f"the model writes into its input {names} in place; the program computes the "
                      "same but does not change the caller's tensor: return the new value if you "
                      "need it", EdgewrightWarning, stacklevel=2)


def _copy_input(module: GraphModule, source: Node) -> None:
    last = [node for node in module.graph.nodes if node.op == "placeholder"][-1]
    with module.graph.inserting_after(last):
        copy = module.graph.call_function(aten.clone.default, (source,))
    copy.meta["val"] = source.meta["val"].clone()
    source.replace_all_uses_with(copy, delete_user_cb=lambda user: user is not copy)


def _refusal(stored: dict[Node, Node]) -> str:
    names = ", ".join(sorted({str(node.target) for node in stored}))
    callers = {caller for call in stored.values() if (caller := user_frame(call)) is not None}
    lines = sorted(map("{0[0]}:{0[1]} ({0[2]})".format, callers))
    where = f" at {'; '.join(lines[:3])}" if lines else ""
    return f"the model writes into {names} in its forward pass{where}; {STATE_REMEDY}"
