"""Load a model and its trained weights from a model reference."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from torch import nn

from edgewright.errors import MissingExtraError, ModelError, UsageError
from edgewright.task._factory import build, is_factory
from edgewright.task._weights import load_weights

MODEL_FORMS: Final = "file.py:factory, package.module:factory, timm:NAME or torchvision:NAME"


def load_model(ref: str, weights: Path | None = None) -> nn.Module:
    """Build the model that a reference names, load its weights, and set it to eval mode.

    ==========================  ===================================================================
    ``file.py:factory``         a function without arguments that returns a module; the path is
                                relative to the working directory
    ``package.module:factory``  the same, in an installed package
    ``timm:NAME``               ``timm.create_model(NAME)``, without its pretrained weights
    ``torchvision:NAME``        ``torchvision.models.get_model(NAME)``, likewise
    ==========================  ===================================================================

    Args:
        ref: The reference.
        weights: A ``.safetensors``, ``.pt`` or ``.pth`` file; None keeps the factory's weights.

    Raises:
        UsageError: An unknown reference.
        ModelError: The factory, or the weights, cannot be used.
        MissingExtraError: timm or torchvision is not installed.

    Example:
        >>> load_model("torch.nn:Identity").training
        False
    """
    kind, _, name = ref.partition(":")
    if kind == "timm" and name:
        module = _build_timm(name)
    elif kind == "torchvision" and name:
        module = _build_torchvision(name)
    elif is_factory(ref):
        module = build(ref, nn.Module, ModelError)
    else:
        raise UsageError(f"{ref!r} is not a model reference; expected {MODEL_FORMS}")
    if weights is not None:
        load_weights(module, Path(weights))
    return module.eval()


def _build_timm(name: str) -> nn.Module:
    timm = _import_zoo("timm")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    module: nn.Module = timm.create_model(name, pretrained=False)
    return module


def _build_torchvision(name: str) -> nn.Module:
    models = _import_zoo("torchvision").models
    known = models.list_models()
    if name not in known:
        raise _unknown("torchvision", name, known)
    module: nn.Module = models.get_model(name, weights=None)
    return module


def _import_zoo(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(f"a model of {package}", package) from error
    except RuntimeError as error:
        raise ModelError(f"{package} is installed but cannot be imported ({error}); install the "
                         "build that matches this torch") from error


def _unknown(package: str, name: str, known: Iterable[str]) -> ModelError:
    near = get_close_matches(name, list(known), n=5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return ModelError(f"{package} has no model {name!r}{hint}")
