"""What a forward pass writes in place: state is refused, the caller's inputs are left alone.

A file computes the same outputs from the same inputs every time. A model that writes into a
buffer computes others at the next call, so that its file would be right once.
"""

from __future__ import annotations

import warnings
from typing import Final

import torch
from torch.fx import GraphModule, Node

from edgewright.errors import EdgewrightWarning, ModelError
from edgewright.graph import find_mutated_memory, user_frame

aten = torch.ops.aten
WAY_OUT: Final = ("a file keeps nothing from one call to the next: take it as an input and return "
                  "its new value as an output, or do not write it in evaluation mode")


def settle_writes(module: GraphModule) -> None:
    """Refuse state; let a graph that writes into its inputs write into copies of them, in place.

    Raises:
        ModelError: The graph writes into stored tensors; they are named.
    """
    written = find_mutated_memory(module)
    stored = {root: call for root, call in written.items() if root.op == "get_attr"}
    if stored:
        raise ModelError(_refusal(stored))
    inputs = [root for root in written if root.op == "placeholder"]
    for node in inputs:
        _copy_first(module, node)
    if inputs:
        names = ", ".join(node.name for node in inputs)
        module.recompile()
        warnings.warn(f"the model writes into its input {names} in place; the program computes the "
                      "same and leaves the caller's tensor as it is: return the new value if it "
                      "is needed", EdgewrightWarning, stacklevel=2)


def _copy_first(module: GraphModule, source: Node) -> None:
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
    return f"the model writes into {names} in its forward pass{where}; {WAY_OUT}"
