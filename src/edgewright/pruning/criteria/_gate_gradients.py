"""Per-sample gradients of a function of the outputs with respect to a gate on each channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from edgewright.pruning.criteria._layer_inputs import LayerInput, find_layer_inputs, run_with_hook
from edgewright.pruning.criteria._scoring_context import ScoringContext
from edgewright.task import Batch

_BATCH: Final = 64
ScalarFunction: TypeAlias = Callable[[Any, Batch], Tensor]


def gate_gradients(context: ScoringContext, function: ScalarFunction) -> Iterator[Tensor]:
    """Per-sample derivatives of ``function`` with respect to the channels' gates, for each batch.

    A channel's gate is a factor of one on all its layer inputs at once. A gate of zero removes the
    channel, so the negative gradient is the first-order estimate of how much removing the channel
    adds to the function. By the chain rule it is the sum of activation times gradient over the
    layer inputs. In evaluation mode samples do not affect each other, so one backward pass of the
    sum gives the gradient of each sample.

    Args:
        context: The channels and the samples.
        function: Maps what the program returns, and the batch, to the scalar to differentiate, a
            sum over the samples.

    Yields:
        (samples, channels), float64.
    """
    inputs = find_layer_inputs(context)
    gates: dict[LayerInput, Tensor] = {}

    def apply_gate(layer_input: LayerInput, operand: Tensor) -> Tensor:
        sizes = [size if dim in (layer_input.batch, layer_input.dim) else 1
                 for dim, size in enumerate(operand.shape)]
        gate = torch.ones(sizes, dtype=operand.dtype, requires_grad=True)
        return operand * gates.setdefault(layer_input, gate)  # one for all steps of a state

    for result, batch in run_with_hook(context, inputs, apply_gate, _BATCH):
        gradients = torch.autograd.grad(function(result, batch), list(gates.values()),
                                        materialize_grads=True)  # an unused output's are 0
        yield torch.stack([_sum_per_channel(layer_input, gradient, batch.size)
                           for layer_input, gradient in zip(gates, gradients, strict=True)]
                          ).sum(dim=0)
        gates.clear()


def _sum_per_channel(layer_input: LayerInput, gradient: Tensor, samples: int) -> Tensor:
    """From a gate's gradient to (samples, channels).

    A sample may have several rows, for example one per window.
    """
    rows = gradient.movedim((layer_input.batch, layer_input.dim), (0, 1)).flatten(1)
    per_sample = rows.reshape(samples, -1, rows.shape[1]).sum(dim=1)
    return layer_input.incidence.gather(per_sample)
