"""Whether a model is a function of its inputs: what it was asked before must not matter."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.capture._model_copy import copy_model
from edgewright.capture._mutations import WAY_OUT
from edgewright.errors import ModelError
from edgewright.graph import random_inputs

_TOLERANCE: Final = 1e-5  # two calls of the same kernels on the same values
_SEED: Final = 0
_CONTAINERS: Final = (list, tuple, dict, set, deque)
_TORCHS: Final = frozenset(vars(nn.Module()))  # attributes that every module has


def repeatable(model: nn.Module, example: tuple[Any, ...],
               failures: tuple[type[Exception], ...]) -> nn.Module:
    """The model to capture, once its answers are seen to depend on nothing it was asked before.

    This finds the state that leaves no trace in a graph: a plain attribute that is assigned, a
    list that grows, a number that counts. A model that registers tensors in its first call is
    captured as it is after that; ``model`` stays as it is.

    Args:
        model: In evaluation mode, on the CPU.
        example: Inputs of two samples.
        failures: What a forward pass may raise. It is left to the capture, which says where.

    Raises:
        ModelError: Asked again, after something else, it gives other outputs.
    """
    for earlier, later in ((random_inputs(example, 0), random_inputs(_reversed(example), 1)),
                           (example, _reversed(example)), (example, example)):
        try:
            tried = copy_model(model)
            first = _call(tried, later)
            before = _attributes(tried)
            _call(tried, earlier)
            again = _call(tried, later)
        except failures:
            continue  # values may be none that the model takes
        if _differ(first, again):
            raise ModelError(_refusal(model, _changed(before, _attributes(tried))))
        return tried if _tensors(tried) != _tensors(model) else model
    return model


def _reversed(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Other inputs of values that the model takes, such as indices."""
    turned: tuple[Any, ...] = pytree.tree_map(
        lambda leaf: leaf.flip(tuple(range(leaf.ndim))), inputs)
    return turned


def _tensors(model: nn.Module) -> set[str]:
    return {name for name, _ in (*model.named_parameters(), *model.named_buffers())}


def _call(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """The outputs, with the same random numbers every time."""
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(_SEED)
        return copy.deepcopy(model(*copy.deepcopy(inputs)))


def _differ(first: Any, second: Any) -> bool:
    ones, others = pytree.tree_leaves(first), pytree.tree_leaves(second)
    return len(ones) != len(others) or any(
        isinstance(one, Tensor) and isinstance(other, Tensor) and not _close(one, other)
        for one, other in zip(ones, others, strict=True))


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point() and not one.is_complex():
        return torch.equal(one, other)
    scale = float(one.abs().nan_to_num(posinf=0.0).max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)


def _attributes(model: nn.Module) -> dict[str, Any]:
    """Every attribute and tensor, kept alive with its memory, and what tells whether it changed."""
    return {f"{path}.{name}".lstrip("."): (_held(value), _mark(value))
            for path, module in model.named_modules()
            for name, value in (*vars(module).items(), *module.named_buffers(recurse=False),
                                *module.named_parameters(recurse=False))
            if name not in _TORCHS}


def _held(value: Any) -> Any:
    """The value with what it holds, so that nothing new is found at the same address."""
    if isinstance(value, Tensor):
        return value, value.detach()
    return (value, _contents(value)) if isinstance(value, _CONTAINERS) else value


def _contents(container: Any) -> tuple[Any, ...]:
    return tuple(container.values() if isinstance(container, dict) else container)


def _mark(value: Any) -> Any:
    if isinstance(value, Tensor):
        return id(value), value.data_ptr(), value._version
    if isinstance(value, _CONTAINERS):
        return tuple(map(id, _contents(value)))
    return value if isinstance(value, bool | int | float | str) else id(value)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name, (_, mark) in after.items()
                  if name not in before or before[name][1] != mark)


def _refusal(model: nn.Module, changed: list[str]) -> str:
    if not changed:
        return (f"{type(model).__name__} gives outputs that depend on earlier calls; a file keeps "
                "nothing from one call to the next: find what the model keeps, or which random "
                "numbers it draws outside torch")
    names = ", ".join(changed[:4])
    return (f"{type(model).__name__} gives outputs that depend on earlier calls, since its forward "
            f"pass changes {names}; {WAY_OUT}")
