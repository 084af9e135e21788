"""Which weights stay, given what each is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Masks = dict[str, Tensor]


def mask_lowest(scores: Mapping[str, Tensor], sparsity: float,
               scope: Literal["global", "layer"]) -> Masks:
    """True where a weight stays; the lowest scores go, of equals the first.

    Args:
        scores: One tensor a weight tensor, of its shape.
        sparsity: Share of the weights to go, rounded to the nearest count.
        scope: ``global`` ranks all tensors together and leaves each its highest score.

    Example:
        >>> mask_lowest({"w": torch.tensor([[3.0, 1.0], [2.0, 4.0]])}, 0.5, "layer")["w"].tolist()
        [[True, False], [False, True]]
    """
    if scope == "layer":
        return {name: _without_lowest(values.flatten(), sparsity).reshape(values.shape)
                for name, values in scores.items()}
    flat = [_with_safe_top(values) for values in scores.values()]
    kept = _without_lowest(torch.cat(flat), sparsity)
    kept |= torch.cat(flat) == torch.inf
    parts = torch.split(kept, [len(values) for values in flat])
    return {name: part.reshape(scores[name].shape)
            for name, part in zip(scores, parts, strict=True)}


def block_mask(scores: Tensor, keep: int, block: int) -> Tensor:
    """True for the ``keep`` highest of every ``block`` scores along the input channels.

    Args:
        scores: Of a weight (out, in, *kernel); ``in`` is a multiple of ``block``.
        keep: Scores to stay in a block; of equals the last.
        block: Length of a block.

    Example:
        >>> block_mask(torch.tensor([[5.0, 1.0, 2.0, 4.0]]), keep=2, block=4).tolist()
        [[True, False, False, True]]
    """
    last = scores.movedim(1, -1)
    blocks = last.reshape(*last.shape[:-1], -1, block)
    order = blocks.argsort(dim=-1, stable=True)
    mask = torch.zeros_like(blocks, dtype=torch.bool)
    mask.scatter_(-1, order[..., block - keep:], value=True)
    return mask.reshape(last.shape).movedim(-1, 1)


def _with_safe_top(values: Tensor) -> Tensor:
    """Flat scores whose highest is infinite."""
    flat = values.flatten().clone()
    flat[flat.argmax()] = torch.inf
    return flat


def _without_lowest(flat: Tensor, sparsity: float) -> Tensor:
    count = round(sparsity * len(flat))
    if count == 0:
        return torch.ones_like(flat, dtype=torch.bool)
    threshold = flat.kthvalue(count).values
    gone = flat < threshold
    ties = (flat == threshold).nonzero().flatten()
    gone[ties[: count - int(gone.sum())]] = True
    return ~gone
