"""What a bias is called that a layer gets after it was captured."""

from __future__ import annotations

from itertools import chain, count

from torch import nn


def free_bias_name(module: nn.Module, weight: str) -> str:
    """A name for the bias of a layer that has none, beside its weight.

    Args:
        module: Where the layer's tensors are stored.
        weight: Name of the layer's weight; its bias is called alike, and numbered where another
            tensor has that name.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> free_bias_name(nn.Sequential(nn.Linear(2, 1, bias=False), layer), "0.weight")
        '0.bias'
        >>> free_bias_name(layer, "weight"), free_bias_name(layer, "kernel")
        ('bias_1', 'kernel_bias')
    """
    owner_name, _, leaf = weight.rpartition(".")
    owner = module.get_submodule(owner_name)
    stem = leaf.replace("weight", "bias") if "weight" in leaf else f"{leaf}_bias"
    names = chain((stem,), (f"{stem}_{index}" for index in count(1)))
    free = next(name for name in names if getattr(owner, name, None) is None)
    return f"{owner_name}.{free}".lstrip(".")
