"""Estimate the average curvature of the loss for each weight with random vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from edgewright.capture import count_exits
from edgewright.errors import ModelError
from edgewright.goals import Goal
from edgewright.task import Batch
from edgewright.training import GoalLoss, split_exits


def average_hessian_traces(module: nn.Module, names: Sequence[str], batches: Iterable[Batch],
                           goal: Goal, *, probes: int = 8, seed: int = 0) -> dict[str, float]:
    """The mean eigenvalue of each weight's diagonal block of the loss's Hessian.

    Uses Hutchinson's estimator with Rademacher vectors z (HAWQ-V2, Dong et al. 2020, eq.
    2.12-2.13): trace(H) is the mean of ``z' H z``. The paper processes one layer after another;
    here one vector covers all weights at once, because the off-diagonal blocks have a mean of zero,
    so that one backward pass serves all layers.

    Args:
        module: The network in evaluation mode, so that batch norms use their running statistics.
        names: Names of the weights; their ``requires_grad`` is set to True.
        batches: Labeled samples; batches are weighted by their number of samples.
        goal: Its loss is differentiated.
        probes: Number of random vectors per batch.
        seed: Seed of the vectors.

    Returns:
        For each name, the trace for the mean loss per sample, divided by the number of entries. An
        estimate can be negative, and so can the curvature away from a minimum.

    Raises:
        ModelError: An operator has no second derivative; the message names it.

    Example:
        >>> from edgewright.goals import Classification
        >>> module = nn.Linear(1, 2, bias=False)
        >>> _ = nn.init.zeros_(module.weight)
        >>> batch = Batch((torch.ones(4, 1),), torch.tensor([0, 1, 1, 1]), torch.arange(4))
        >>> found = average_hessian_traces(module, ["weight"], [batch], Classification(),
        ...                                probes=64)
        >>> abs(found["weight"] - 0.25) < 0.1  # of a softmax: p (1 - p)
        True
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = dict(chain(module.named_buffers(), module.named_parameters(remove_duplicate=False)))
    weights = [tensors[name].requires_grad_(True) for name in names]
    totals, samples = torch.zeros(len(weights), dtype=torch.float64), 0
    for batch in batches:
        count = batch.size
        totals += count * _traces(module, weights, batch, goal, probes, generator)
        samples += count
    return {name: float(total) / (max(samples, 1) * weight.numel())
            for name, weight, total in zip(names, weights, totals, strict=True)}


def _traces(module: nn.Module, weights: list[Tensor], batch: Batch, goal: Goal, probes: int,
            generator: torch.Generator) -> Tensor:
    try:
        with sdpa_kernel(SDPBackend.MATH):  # fused kernels have no second derivative
            outputs = split_exits(module(*batch.inputs), count_exits(module))
            loss = GoalLoss(goal).loss(outputs, batch)
            slopes = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
            found = [_probe(slopes, weights, generator) for _ in range(probes)]
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"the loss has no second derivative for the Hessian's trace: {reason}; "
                         "measure the loss instead (method='loss')") from error
    return torch.stack(found).mean(0)


def _probe(slopes: Sequence[Tensor | None], weights: list[Tensor],
           generator: torch.Generator) -> Tensor:
    """``z' H z`` of one random vector, separately for each weight."""
    signs = [torch.randint(0, 2, weight.shape, generator=generator).to(weight) * 2 - 1
             for weight in weights]
    curved = [(slope, sign) for slope, sign in zip(slopes, signs, strict=True)
              if slope is not None and slope.requires_grad]
    if not curved:
        return torch.zeros(len(weights), dtype=torch.float64)
    products = torch.autograd.grad([slope for slope, _ in curved], weights,
                                   [sign for _, sign in curved], retain_graph=True,
                                   allow_unused=True)
    return torch.stack([torch.zeros((), dtype=torch.float64) if product is None
                        else (product * sign).sum().double()
                        for product, sign in zip(products, signs, strict=True)])
