"""Load trained weights from a file without executing code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from edgewright.errors import ModelError

_SHOWN: Final = 5
_WRAPPERS: Final = ("state_dict", "model")
_PARALLEL_PREFIX: Final = "module."


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a ``.safetensors``, ``.pt`` or ``.pth`` file into a module, in place and strictly.

    A pickled file is read with ``weights_only``, so it cannot run code. A dict around the weights
    (``state_dict`` or ``model``) and DataParallel's prefix ``module.`` are removed.

    Raises:
        ModelError: The file is missing or corrupt, or its keys or shapes do not match; the message
            lists them.
    """
    expected = module.state_dict()
    state = _strip_parallel_prefix(_unwrap(_read(path), path), expected)
    wrong = [f"{key} (file {tuple(state[key].shape)}, model {tuple(expected[key].shape)})"
             for key in expected if key in state and state[key].shape != expected[key].shape]
    fitting = {key: value for key, value in state.items()
               if key not in expected or value.shape == expected[key].shape}
    result = module.load_state_dict(fitting, strict=False)
    missing = [key for key in result.missing_keys if key not in state]
    faults = [_format_keys("missing", missing), _format_keys("unexpected", result.unexpected_keys),
              _format_keys("with mismatched shapes", wrong)]
    if any(faults):
        raise ModelError(f"the weights in {path} do not fit {type(module).__name__}: "
                         f"{'; '.join(filter(None, faults))}")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if path.suffix in {".pt", ".pth"}:
            return torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, EOFError, OSError, RuntimeError,
            ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is truncated, or contains objects other than tensors: {error}"
                         ) from error
    raise ModelError(f"{path} has the suffix {path.suffix!r}; expected .safetensors, .pt or .pth")


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(f"{path} holds a {type(content).__name__}; expected a state dict of "
                         "tensors, as module.state_dict() gives it")
    return {str(key): value for key, value in content.items()}


def _strip_parallel_prefix(state: dict[str, Tensor],
                           expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove DataParallel's prefix if more of the model's names match without it."""
    bare = {key.removeprefix(_PARALLEL_PREFIX): value for key, value in state.items()}
    is_parallel = all(key.startswith(_PARALLEL_PREFIX) for key in state)
    known = len(expected.keys() & state.keys()), len(expected.keys() & bare.keys())
    return bare if is_parallel and known[1] > known[0] else state


def _format_keys(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{more}"
