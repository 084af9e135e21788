"""Criteria based on the activations of channels on data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from edgewright.pruning.criteria._layer_inputs import (
    LayerInput,
    find_input_before_pooling,
    find_layer_inputs,
    run_with_hook,
    unique_operands,
)
from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector
from edgewright.pruning.criteria._slice_sums import sum_other_dims

_BATCH: Final = 64


def activation(context: ScoringContext) -> Vector:
    """Mean absolute activation of a channel, at the inputs of the layers that read it.

    ``E |a_c|`` over samples and positions, averaged over the layer inputs that contain the coupled
    group: the mean activation of Molchanov et al. 2017, section 2.2, with the absolute value
    because not every activation has passed a ReLU.
    """
    inputs = unique_operands(find_layer_inputs(context))
    return _mean_over_inputs(context, inputs, torch.abs)


def apoz(context: ScoringContext) -> Vector:
    """Fraction of a channel's activations above zero, at the inputs of the layers that read it.

    One minus the average percentage of zeros (APoZ) of Hu et al. 2016, eq. 1, averaged over the
    layer inputs that contain the coupled group. If a layer input comes from average pooling, the
    activations before the pooling are used, because averages of ReLU outputs are rarely zero.
    Values that are not positive count as zeros: after a ReLU this is the paper's definition; after
    GELU or SiLU it counts the inactive side. Without an activation function between the layers the
    score carries little information.
    """
    inputs = unique_operands([find_input_before_pooling(context, layer_input)
                              for layer_input in find_layer_inputs(context)])
    return _mean_over_inputs(context, inputs, _is_positive)


def _is_positive(operand: Tensor) -> Tensor:
    """1 where an entry is above zero, else 0; NaN is preserved."""
    return torch.where(operand.isnan(), operand, (operand > 0).to(operand.dtype))


def _mean_over_inputs(context: ScoringContext, inputs: Sequence[LayerInput],
                      transform: Callable[[Tensor], Tensor]) -> Vector:
    """Mean of ``transform`` over a channel's entries in a layer input, averaged over the inputs."""
    sums = {layer_input: torch.zeros(layer_input.size, dtype=torch.float64)
            for layer_input in inputs}
    entries = dict.fromkeys(inputs, 0)

    def accumulate(layer_input: LayerInput, operand: Tensor) -> Tensor:
        sums[layer_input] += sum_other_dims(transform(operand), layer_input.dim)
        entries[layer_input] += operand.numel() // layer_input.size
        return operand

    with torch.no_grad():
        for _ in run_with_hook(context, inputs, accumulate, _BATCH):
            pass
    total, input_counts = torch.zeros(2, context.channel_count, dtype=torch.float64)
    for layer_input in inputs:
        incidence = layer_input.incidence
        indices_per_channel = incidence.gather(torch.ones(layer_input.size))
        total += (incidence.gather(sums[layer_input] / entries[layer_input])
                  / indices_per_channel.clamp(min=1))
        input_counts += indices_per_channel > 0
    means: Vector = (total / input_counts).numpy()
    return means
