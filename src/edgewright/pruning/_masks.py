"""Masks that keep the weights with the highest scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Masks = dict[str, Tensor]


def mask_lowest(scores: Mapping[str, Tensor], sparsity: float,
                scope: Literal["global", "layer"]) -> Masks:
    """False for the lowest scores, True for weights to keep; of equal scores the first are masked.

    Args:
        scores: One tensor per weight tensor, of the same shape.
        sparsity: Fraction of the weights to mask, rounded to the nearest count.
        scope: ``global`` ranks all tensors together and always keeps the highest score of each;
            ``layer`` masks the same fraction of every tensor.

    Example:
        >>> mask_lowest({"w": torch.tensor([[3.0, 1.0], [2.0, 4.0]])}, 0.5, "layer")["w"].tolist()
        [[True, False], [False, True]]
    """
    if scope == "layer":
        return {name: _flag_highest(values.flatten(), sparsity).reshape(values.shape)
                for name, values in scores.items()}
    flat = [_protect_highest(values) for values in scores.values()]
    kept = _flag_highest(torch.cat(flat), sparsity)
    kept |= torch.cat(flat) == torch.inf
    parts = torch.split(kept, [len(values) for values in flat])
    return {name: part.reshape(scores[name].shape)
            for name, part in zip(scores, parts, strict=True)}


def keep_highest_per_block(scores: Tensor, keep: int, block: int) -> Tensor:
    """True for the ``keep`` highest of every ``block`` scores along the input channels.

    Args:
        scores: Scores of a weight (out, in, *kernel); ``in`` is a multiple of ``block``.
        keep: Number of scores to keep per block; of equal scores the last are kept.
        block: Length of a block.

    Example:
        >>> scores = torch.tensor([[5.0, 1.0, 2.0, 4.0]])
        >>> keep_highest_per_block(scores, keep=2, block=4).tolist()
        [[True, False, False, True]]
    """
    inputs_last = scores.movedim(1, -1)
    blocks = inputs_last.reshape(*inputs_last.shape[:-1], -1, block)
    order = blocks.argsort(dim=-1, stable=True)
    mask = torch.zeros_like(blocks, dtype=torch.bool)
    mask.scatter_(-1, order[..., block - keep:], value=True)
    return mask.reshape(inputs_last.shape).movedim(-1, 1)


def _protect_highest(values: Tensor) -> Tensor:
    """Flattened scores with the highest one set to infinity."""
    flat = values.flatten().clone()
    flat[flat.argmax()] = torch.inf
    return flat


def _flag_highest(flat: Tensor, sparsity: float) -> Tensor:
    """False for the fraction ``sparsity`` with the lowest scores, True for the others."""
    count = round(sparsity * len(flat))
    if count == 0:
        return torch.ones_like(flat, dtype=torch.bool)
    threshold = flat.kthvalue(count).values
    masked = flat < threshold
    ties = (flat == threshold).nonzero().flatten()
    masked[ties[: count - int(masked.sum())]] = True
    return ~masked
