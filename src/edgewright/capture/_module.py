"""A captured graph as an `nn.Module` that trains, evaluates and keeps the model's own names."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Final

from torch import nn
from torch.fx import GraphModule

from edgewright.capture._input_checks import check_inputs, note_inputs
from edgewright.capture._model_state import mark_state
from edgewright.graph import is_in_training_mode, ops, set_training_mode

_FROZEN: Final = "frozen_statistics"  # in the meta of a norm's node
_EXITS: Final = "edgewright.exits"  # in the meta of a captured module
_ALWAYS: Final = "always_training"  # in the meta of a call that computes so in deployment too


class CapturedModule(GraphModule):
    """A trainable module over a captured graph.

    ``train()`` and ``eval()`` switch what an operator says of itself: batch norm, dropout, that
    between the layers of an LSTM or GRU, rrelu; a plain exported graph cannot. State dict keys are
    the original model's. What the model computes in both modes as in training, such as a batch norm
    without running statistics, does so here. Parameters that do not require a gradient in the model
    do not here, and no training moves them; the running statistics of a batch norm go on in
    training, as in torch, whether or not its parameters require one.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph, on inputs like those it was captured with in all but the batch.

        Raises:
            DataError: Another number of inputs, another type or size; the input is named.
        """
        check_inputs(self, args, kwargs)
        return super().__call__(*args, **kwargs)

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


def exits_of(module: nn.Module) -> int:
    """How many early exits the one captured network has that a module is or contains; else 0.

    Example:
        >>> exits_of(nn.Linear(2, 2))
        0
    """
    found = [part for part in module.modules() if isinstance(part, CapturedModule)]
    return int(found[0].meta.get(_EXITS, 0)) if len(found) == 1 else 0


def trainable(graph_module: GraphModule, exits: int = 0) -> CapturedModule:
    """A module of its own graph and parameters, in evaluation mode, ready to be trained.

    Args:
        graph_module: In evaluation form, as captured; it is copied.
        exits: How many of its outputs are early exits.
    """
    source = copy_graph(graph_module)
    source.training = False
    module = CapturedModule(source, source.graph, class_name="CapturedModule")
    module.meta.update(source.meta)
    module.meta[_EXITS] = exits
    note_inputs(module)
    module._register_state_dict_hook(mark_state)  # type: ignore[no-untyped-call]
    for node in module.graph.nodes:
        if is_in_training_mode(node):
            node.meta[_ALWAYS] = True
    nn.Module.train(module, False)
    return module


def set_training(module: GraphModule, mode: bool) -> None:
    """Write the mode into every mode-dependent node of ``module`` and recompile it, in place."""
    for node in module.graph.nodes:
        if _ALWAYS not in node.meta:
            set_training_mode(node, mode and _FROZEN not in node.meta)
    module.recompile()


def freeze_norms(module: GraphModule) -> None:
    """Let every batch norm use its running statistics and keep them, in training too, in place."""
    for node in module.graph.nodes:
        if node.target in ops.STATISTICS_NORMS and _ALWAYS not in node.meta:
            node.meta[_FROZEN] = True
    set_training(module, module.training)
