"""A captured graph as an `nn.Module` that trains, evaluates and keeps the model's own names."""

from __future__ import annotations

import copy
import warnings
from typing import Final

import torch
from torch import nn
from torch.fx import GraphModule, Node

aten = torch.ops.aten

# Where an operator says whether it is training, and the two values of that argument.
_MODE_ARGUMENT: Final = {
    aten.batch_norm.default: 5,
    aten.instance_norm.default: 5,
    aten.dropout.default: 2,
    aten.dropout_.default: 2,
    aten.feature_dropout.default: 2,
    aten.feature_dropout_.default: 2,
    aten.alpha_dropout.default: 2,
    aten.feature_alpha_dropout.default: 2,
}
_NORMS: Final = frozenset({aten.batch_norm.default, aten.instance_norm.default})
_FROZEN: Final = "frozen_statistics"  # in the meta of a norm's node


class CapturedModule(GraphModule):
    """A trainable module over a captured graph.

    ``train()`` and ``eval()`` switch batch norm and dropout, which a plain exported graph cannot.
    State dict keys are the original model's. A batch norm without running statistics normalises
    by the batch in both modes, as in the original.
    """

    def train(self, mode: bool = True) -> CapturedModule:
        """Switch the graph and every submodule to training (or, with False, to evaluation)."""
        if mode != self.training:
            set_training(self, mode)
        super().train(mode)
        return self


def copy_graph(module: GraphModule, *, share_tensors: bool = False) -> GraphModule:
    """A deep copy, without the deprecation warning torch raises about itself on the way.

    Args:
        module: What to copy.
        share_tensors: Leave the parameters and buffers those of ``module``, to be replaced.
    """
    tensors = [*module.parameters(), *module.buffers()] if share_tensors else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def trainable(graph_module: GraphModule) -> CapturedModule:
    """A module of its own graph and parameters, in evaluation mode, ready to be trained.

    Args:
        graph_module: In evaluation form, as captured; it is copied.
    """
    source = copy_graph(graph_module)
    source.training = False
    module = CapturedModule(source, source.graph, class_name="CapturedModule")
    module.meta.update(source.meta)
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    nn.Module.train(module, False)
    return module


def set_training(module: GraphModule, mode: bool) -> None:
    """Write the mode into every mode-dependent node of ``module`` and recompile it, in place."""
    for node in module.graph.nodes:
        if depends_on_mode(node):
            node.update_arg(_MODE_ARGUMENT[node.target], mode and _FROZEN not in node.meta)
    module.recompile()


def freeze_norms(module: GraphModule) -> None:
    """Let every batch norm use its running statistics and keep them, in training too, in place."""
    for node in module.graph.nodes:
        if node.target in _NORMS and not _always_batch_statistics(node):
            node.meta[_FROZEN] = True
    set_training(module, module.training)


def depends_on_mode(node: Node) -> bool:
    """Whether a call computes something else in training than in evaluation."""
    return node.target in _MODE_ARGUMENT and not _always_batch_statistics(node)


def _always_batch_statistics(node: Node) -> bool:
    return node.target in _NORMS and node.args[3] is None
