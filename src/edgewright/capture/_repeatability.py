"""Checking that a model's outputs do not depend on earlier calls."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.capture._model_copy import copy_model
from edgewright.capture._mutations import STATE_REMEDY
from edgewright.errors import ModelError
from edgewright.graph import draw_random_inputs

_TOLERANCE: Final = 1e-5  # two calls of the same kernels on the same values
_SEED: Final = 0
_CONTAINERS: Final = (list, tuple, dict, set, deque)
_MODULE_ATTRIBUTES: Final = frozenset(vars(nn.Module()))  # attributes that every module has


def check_repeatability(model: nn.Module, example: tuple[Any, ...],
               failures: tuple[type[Exception], ...]) -> nn.Module:
    """Check that a model's outputs do not depend on earlier calls, and return it for capture.

    This finds state that does not appear in a graph: an attribute that is assigned, a list that
    grows, a counter. ``model`` itself is not changed. If it registers tensors in its first call, a
    copy after that call is returned.

    Args:
        model: In evaluation mode, on the CPU.
        example: Inputs of two samples.
        failures: Exceptions of a forward pass to ignore; the capture reports them.

    Raises:
        ModelError: After a call with other inputs, the outputs are different.
    """
    drawn = draw_random_inputs(example, 0), draw_random_inputs(_flip_inputs(example), 1)
    for earlier, later in (drawn, (example, _flip_inputs(example)), (example, example)):
        try:
            tried = copy_model(model)
            first = _call(tried, later)
            before = _attributes(tried)
            _call(tried, earlier)
            again = _call(tried, later)
        except failures:
            continue  # the model may not accept these values
        if _differ(first, again):
            raise ModelError(_refusal(model, _changed_names(before, _attributes(tried))))
        return tried if _tensors(tried) != _tensors(model) else model
    return model


def _flip_inputs(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Different inputs with the same values, so that the model accepts them (indices, say)."""
    flipped: tuple[Any, ...] = pytree.tree_map(
        lambda leaf: leaf.flip(tuple(range(leaf.ndim))), inputs)
    return flipped


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
    """Every attribute and tensor, kept alive, with a fingerprint that shows whether it changed."""
    return {f"{path}.{name}".lstrip("."): (_snapshot(value), _fingerprint(value))
            for path, module in model.named_modules()
            for name, value in (*vars(module).items(), *module.named_buffers(recurse=False),
                                *module.named_parameters(recurse=False))
            if name not in _MODULE_ATTRIBUTES}


def _snapshot(value: Any) -> Any:
    """The value and its contents, kept alive so that no address is reused."""
    if isinstance(value, Tensor):
        return value, value.detach()
    return (value, _contents(value)) if isinstance(value, _CONTAINERS) else value


def _contents(container: Any) -> tuple[Any, ...]:
    return tuple(container.values() if isinstance(container, dict) else container)


def _fingerprint(value: Any) -> Any:
    if isinstance(value, Tensor):
        return id(value), value.data_ptr(), value._version
    if isinstance(value, _CONTAINERS):
        return tuple(map(id, _contents(value)))
    return value if isinstance(value, bool | int | float | str) else id(value)


def _changed_names(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name, (_, mark) in after.items()
                  if name not in before or before[name][1] != mark)


def _refusal(model: nn.Module, changed: list[str]) -> str:
    if not changed:
        return (f"{type(model).__name__} has outputs that depend on earlier calls; a file keeps "
                "no state between calls: find the state that the model keeps, or the random "
                "numbers that it draws outside torch")
    names = ", ".join(changed[:4])
    return (f"{type(model).__name__} has outputs that depend on earlier calls, because its forward "
            f"pass changes {names}; {STATE_REMEDY}")
