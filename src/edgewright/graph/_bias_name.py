"""Naming a bias that is added to a layer after capture."""

from __future__ import annotations

from itertools import chain, count

from torch import nn


def choose_bias_name(module: nn.Module, weight: str) -> str:
    """Choose an unused name for a new bias of a layer, in the same module as its weight.

    Args:
        module: The module that stores the layer's tensors.
        weight: Name of the layer's weight. The bias gets the matching name, with a number appended
            if another tensor already has it.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> choose_bias_name(nn.Sequential(nn.Linear(2, 1, bias=False), layer), "0.weight")
        '0.bias'
        >>> choose_bias_name(layer, "weight"), choose_bias_name(layer, "kernel")
        ('bias_1', 'kernel_bias')
    """
    owner_name, _, leaf = weight.rpartition(".")
    owner = module.get_submodule(owner_name)
    stem = leaf.replace("weight", "bias") if "weight" in leaf else f"{leaf}_bias"
    names = chain((stem,), (f"{stem}_{index}" for index in count(1)))
    free = next(name for name in names if getattr(owner, name, None) is None)
    return f"{owner_name}.{free}".lstrip(".")
