"""The inputs of layers through which channels are read, and hooks on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias, final

import numpy as np
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgewright.channels import ChannelGroup, Incidence, find_groups
from edgewright.errors import UsageError
from edgewright.graph import batch_dim_of, ops, read_recurrent_layer, shape_of
from edgewright.pruning.criteria._recurrent_steps import run_steps
from edgewright.pruning.criteria._scoring_context import ScoringContext
from edgewright.task import Batch

_VIEWS: Final = ops.RESHAPES | ops.DROPOUTS
_RECURRENT: Final = ops.RECURRENT_LAYERS | ops.RECURRENT_CELLS


@final
@dataclass(frozen=True, eq=False)
class LayerInput:
    """An operand of a layer or matrix product that sums over removable channels.

    The initial state of a recurrent layer represents the states that all of its steps read. The
    value is the activation after any norm, activation function or pooling between the layers.
    The proof of every slicing sets channels to zero at the same operands. Operands that are not
    summed over a removable channel are not included.

    Attributes:
        node: The layer or matrix product.
        operand: The node that computes the operand.
        dim: The operand's channel dimension.
        batch: The operand's batch dimension, whose size is proportional to the number of samples.
        incidence: The indices of each channel along ``dim``.
    """

    node: Node
    operand: Node
    dim: int
    batch: int
    incidence: Incidence

    @property
    def argument(self) -> int:
        """Position of the operand among the node's arguments."""
        return self.node.args.index(self.operand)

    @property
    def is_state(self) -> bool:
        """Whether it represents the states of a recurrent layer."""
        return (self.node.target in ops.RECURRENT_LAYERS
                and self.operand is not read_recurrent_layer(self.node).source)

    @property
    def size(self) -> int:
        """Size of ``dim``."""
        return shape_of(self.operand)[self.dim]


InputHook: TypeAlias = Callable[[LayerInput, Tensor], Tensor]


def find_layer_inputs(context: ScoringContext) -> tuple[LayerInput, ...]:
    """All layer inputs through which a program's channels are read, without duplicates.

    A product of two activations (queries and keys of attention) is represented by its first operand
    alone, because a zero channel in one operand removes the channel from the product. The input of
    a depthwise convolution is not included; its output is read by a later layer.

    Raises:
        UsageError: A group is not read through any layer input; the message names it.
    """
    inputs: list[LayerInput] = []
    seen: set[tuple[Node, Node | None, bytes]] = set()
    for node, operand, dim in context.groups.contractions:
        batch = batch_dim_of(operand)
        incidence = context.incidence_along(operand, dim)
        added = operand if node.target in _RECURRENT else None  # not multiplied by one another
        key = (node, added, incidence.columns.tobytes())
        if batch is None or _is_depthwise(node, operand):
            continue
        if len(incidence.columns) and key not in seen:
            seen.add(key)
            inputs.append(LayerInput(node, operand, dim, batch, incidence))
    covered = np.zeros(context.channel_count, dtype=bool)
    for layer_input in inputs:
        covered[layer_input.incidence.columns] = True
    for group, span in zip(context.groups.groups, context.spans, strict=True):
        if not covered[span].all():
            raise UsageError(f"criterion={context.criterion!r} needs activations, but no layer "
                             f"reads those of {group.name}; use a criterion on weights "
                             f"('magnitude'){_suggest_ignore(context, group)}")
    return tuple(inputs)


def _suggest_ignore(context: ScoringContext, group: ChannelGroup) -> str:
    """Advice on which name to ignore to exclude a group, or "" if no name does."""
    for name, _ in group.slices:
        remaining = find_groups(context.program, (name,)).groups
        if all(other.slices != group.slices for other in remaining):
            return f", or exclude the group with ignore=({name!r},)"
    return ""


def unique_operands(inputs: Sequence[LayerInput]) -> tuple[LayerInput, ...]:
    """The first layer input for each pair of operand and dimension."""
    first = {(layer_input.operand, layer_input.dim): layer_input
             for layer_input in reversed(inputs)}
    return tuple(first.values())[::-1]


def find_input_before_pooling(context: ScoringContext, layer_input: LayerInput) -> LayerInput:
    """The same channels before average pooling; the layer input itself if there is no pooling."""
    found, node = layer_input, layer_input.operand
    while node.target in ops.AVERAGES | _VIEWS:
        source: Any = node.args[0]
        if node.target in ops.AVERAGES:
            batch = batch_dim_of(source)
            for dim in range(len(shape_of(source))):
                incidence = context.incidence_along(source, dim)
                if batch is not None and len(incidence.columns):
                    found = LayerInput(node, source, dim, batch, incidence)
        node = source
    return found


def run_with_hook(context: ScoringContext, inputs: Sequence[LayerInput], hook: InputHook,
                  batch_size: int) -> Iterator[tuple[Any, Batch]]:
    """Run the program on the samples, in evaluation mode, with a hook on layer inputs.

    Args:
        context: The program and its samples.
        inputs: The layer inputs to hook.
        hook: Called with each layer input and its value; the layer computes on what it returns.
            For the states of a recurrent layer it is called before every step, with one direction's
            state (1, N, hidden).
        batch_size: Number of samples per batch.

    Yields:
        What the program returns for each batch, and the batch.
    """
    interpreter = _HookedInterpreter(context.program.graph_module, inputs, hook)
    for batch in context.samples.batches(batch_size):
        yield interpreter.run(*batch.inputs), batch


class _HookedInterpreter(Interpreter):
    """Runs a graph and passes the operands of layer inputs through ``hook``."""

    def __init__(self, module: GraphModule, inputs: Sequence[LayerInput], hook: InputHook) -> None:
        super().__init__(module)
        self._hook = hook
        self._inputs: dict[Node, list[LayerInput]] = {}
        for layer_input in inputs:
            self._inputs.setdefault(layer_input.node, []).append(layer_input)

    def run_node(self, n: Node) -> Any:
        inputs = self._inputs.get(n)
        if inputs is None:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        operands = list(args)
        states = [layer_input for layer_input in inputs if layer_input.is_state]
        for layer_input in inputs:
            if layer_input not in states:
                position = layer_input.argument
                operands[position] = self._hook(layer_input, operands[position])
        if states:
            return run_steps(n.target, operands, partial(self._hook, states[0]))
        return n.target(*operands, **kwargs)  # type: ignore[operator]


def _is_depthwise(node: Node, operand: Node) -> bool:
    """Whether each channel has a filter of its own, so that channels are not mixed."""
    groups = ops.groups_of(node)
    return groups > 1 and groups == shape_of(operand)[1]
