"""Copying the user's model before capture, so that the original is not changed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

# Raised by `copy.deepcopy` for objects that cannot be copied: locks, files, generators, others.
_NO_COPY: Final = (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError,
                   LookupError, OSError, AssertionError, pickle.PickleError, RecursionError)
_TENSORS: Final = ("_parameters", "_buffers")


def copy_model(model: nn.Module) -> nn.Module:
    """Copy a model to the CPU, in evaluation mode, without sharing any tensor.

    Tensors with autograd history (an activation kept on the module, a weight that a hook computes)
    are copied without the history. Objects that cannot be copied (a lock, an open file, a
    generator, a loader's worker) are shared with the model.
    """
    memo: dict[int, Any] = {}
    with torch.inference_mode(False), torch.no_grad():
        copied = _copy_module(model, memo)
    return copied.cpu().eval()


def _copy_module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy tensors first, then submodules, then everything else, so that ties are preserved."""
    if id(module) in memo:
        known: nn.Module = memo[id(module)]
        return known
    state = vars(module) if is_parametrized(module) else _state_of(module)
    if not isinstance(state, dict) or _copies_itself(module):
        return _copy_whole(module, memo)
    copied = type(module).__new__(type(module))
    memo[id(module)] = copied
    own = {table: _copy_table(state[table], _copy_tensor, memo) for table in _TENSORS}
    own["_modules"] = _copy_table(state["_modules"], _copy_module, memo)
    own |= {name: _copy_value(value, memo) for name, value in state.items() if name not in own}
    if is_parametrized(module):
        vars(copied).update(own)
    else:
        copied.__setstate__(own)  # type: ignore[no-untyped-call]
    return copied


def _state_of(module: nn.Module) -> Any:
    return module.__getstate__()  # type: ignore[no-untyped-call]


def _copies_itself(module: nn.Module) -> bool:
    """Whether a module's class defines how it is copied, as a `GraphModule` does."""
    return hasattr(module, "__deepcopy__") and not is_parametrized(module)


def _copy_table(table: Any, copy_one: Callable[[Any, dict[int, Any]], Any],
                  memo: dict[int, Any]) -> Any:
    return type(table)((name, None if value is None else copy_one(value, memo))
                       for name, value in table.items())


def _copy_whole(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    for tensor in (*module.parameters(), *module.buffers()):
        _copy_tensor(tensor, memo)
    copied: nn.Module = copy.deepcopy(module, memo)
    return copied


def _copy_tensor(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Copy a tensor; of a tensor with autograd history, only the values."""
    if id(tensor) not in memo:
        memo[id(tensor)] = (copy.deepcopy(tensor, memo) if tensor.is_leaf
                            else tensor.detach().clone())
    copied: Tensor = memo[id(tensor)]
    return copied


def _copy_value(value: Any, memo: dict[int, Any]) -> Any:
    """Copy an attribute; parts of it that cannot be copied are shared."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, nn.Module):
        return _copy_module(value, memo)
    trial = dict(memo)
    for tensor in _computed_tensors(value):
        _copy_tensor(tensor, trial)
    try:
        copied = copy.deepcopy(value, trial)
    except _NO_COPY:
        return _copy_parts(value, memo)
    memo.setdefault(id(memo), []).extend(trial.pop(id(trial), ()))  # objects deepcopy keeps alive
    memo.update(trial)
    return copied


def _copy_parts(value: Any, memo: dict[int, Any]) -> Any:
    """Copy a container part by part, sharing the parts that cannot be copied."""
    if isinstance(value, MethodType):
        return MethodType(value.__func__, _copy_value(value.__self__, memo))
    if isinstance(value, dict):
        parts = memo[id(value)] = copy.copy(value)
        parts.update((key, _copy_value(part, memo)) for key, part in value.items())
        return parts
    if type(value) is list:
        items: list[Any] = []
        memo[id(value)] = items
        items.extend(_copy_value(part, memo) for part in value)
        return items
    if type(value) is tuple:
        return tuple(_copy_value(part, memo) for part in value)
    if _is_plain(value):
        twin = memo[id(value)] = object.__new__(type(value))
        vars(twin).update((name, _copy_value(part, memo)) for name, part in vars(value).items())
        return twin
    return value


def _is_plain(value: Any) -> bool:
    """Whether an object consists of its attributes, and its class does not customize copying."""
    kind: Any = type(value)
    plain: Any = object
    return (hasattr(value, "__dict__") and not isinstance(value, type | FunctionType | ModuleType)
            and not hasattr(kind, "__deepcopy__")
            and all(getattr(kind, name) is getattr(plain, name)
                    for name in ("__reduce_ex__", "__reduce__", "__new__")))


def _computed_tensors(value: Any) -> list[Tensor]:
    """Every tensor with autograd history in an attribute, also in containers and objects."""
    found, pending, seen = [], [value], set()
    while pending:
        item = pending.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            if not item.is_leaf:
                found.append(item)
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)
        elif isinstance(getattr(item, "__dict__", None), dict):
            pending.extend(vars(item).values())
    return found
