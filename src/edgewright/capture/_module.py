"""A captured graph as an `nn.Module` that can be trained and keeps the model's own names."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Final

import torch
from torch import nn
from torch.fx import GraphModule

from edgewright.capture._input_checks import check_inputs, nest_inputs, record_input_specs
from edgewright.capture._model_state import mark_state
from edgewright.graph import is_in_training_mode, ops, set_training_mode

_FROZEN: Final = "frozen_statistics"  # in the meta of a norm's node
_EXITS: Final = "edgewright.exits"  # in the meta of a captured module
_ALWAYS: Final = "always_training"  # in the meta of a call in training mode even in deployment


class CapturedModule(GraphModule):
    """A trainable module over a captured graph.

    Unlike in a plain exported graph, ``train()`` and ``eval()`` switch the mode of operators: batch
    norm, dropout (also between the layers of an LSTM or GRU) and rrelu. State dict keys are those
    of the original model. Operators that are in training mode in both modes of the model, for
    example a batch norm without running statistics, stay so. Parameters that do not require a
    gradient in the model do not require one here and are not trained. As in torch, training updates
    the running statistics of a batch norm whether or not its parameters require a gradient.
    """

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the input tensors, in order."""
        return tuple(node.name for node in self.graph.nodes if node.op == "placeholder")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph on inputs like those it was captured with, at any batch size.

        Nested inputs may also be given flat, one tensor after the other, as a task has them.

        Raises:
            DataError: The number of inputs, a dtype or a shape is different; the message names
                the input.
        """
        check_inputs(self, args, kwargs)
        if not kwargs and not torch.compiler.is_compiling():
            args = nest_inputs(self, args)
        return super().__call__(*args, **kwargs)

    def train(self, mode: bool = True) -> CapturedModule:
        """Switch the graph and every submodule to training (or, with False, to evaluation)."""
        if mode != self.training:
            set_training(self, mode)
        super().train(mode)
        return self


def copy_graph(module: GraphModule, *, share_tensors: bool = False) -> GraphModule:
    """Deep-copy a graph module, without the deprecation warning of torch's own code.

    Args:
        module: The module to copy.
        share_tensors: Share the parameters and buffers with ``module`` instead of copying them;
            use this if they are going to be replaced.
    """
    tensors = [*module.parameters(), *module.buffers()] if share_tensors else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def count_exits(module: nn.Module) -> int:
    """Count the early exits of the captured network that a module is or contains.

    The result is 0 if there is not exactly one captured network.

    Example:
        >>> count_exits(nn.Linear(2, 2))
        0
    """
    found = [part for part in module.modules() if isinstance(part, CapturedModule)]
    return int(found[0].meta.get(_EXITS, 0)) if len(found) == 1 else 0


def make_trainable(graph_module: GraphModule, exits: int = 0) -> CapturedModule:
    """Create a trainable module from a graph, in evaluation mode, with its own parameters.

    Args:
        graph_module: The captured graph in evaluation mode; it is copied.
        exits: The number of outputs that are early exits.
    """
    source = copy_graph(graph_module)
    source.training = False
    module = CapturedModule(source, source.graph, class_name="CapturedModule")
    module.meta.update(source.meta)
    module.meta[_EXITS] = exits
    record_input_specs(module)
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
    """Let every batch norm use its running statistics without updating them, in place.

    This holds in training mode as well.
    """
    for node in module.graph.nodes:
        if node.target in ops.STATISTICS_NORMS and _ALWAYS not in node.meta:
            node.meta[_FROZEN] = True
    set_training(module, module.training)
